"""Writes text through the library's own `generate`, cut into the contract's phases by hooks.

Shapes: B prompts at a time, S tokens of each with its picture's, N new tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import StoppingCriteria, StoppingCriteriaList

from webui.core.errors import RunFailed
from webui.core.text import Text
from webui.pipelines.running import Report, checked
from webui.pipelines.text_model import TextPipeline, layers_of


@torch.no_grad()
def write(
    pipe: TextPipeline,
    inputs: Mapping[str, torch.Tensor],
    new_tokens: int,
    report: Report,
    on_token: Callable[[int], None],
) -> list[list[int]]:
    """The new tokens of each prompt; ends early only where the model ends its answers.

    The phase that reads the prompt (`vision` with pictures, else `prefill`) has begun; those after
    it begin here.

    Args:
        pipe: the model.
        inputs: as the library's processor gives them: `input_ids` (B S) and what else it takes.
        new_tokens: most tokens of an answer.
        report: told of the phases, and asked whether to stop before each block and token.
        on_token: called with the number of new tokens so far.

    Raises:
        Cancelled: the report says so.
        RunFailed: the numbers overflowed.
    """
    with phase_hooks(pipe, report), checked(blocks_of(pipe), report.check):
        written = pipe.model.generate(
            **inputs,
            max_new_tokens=new_tokens,
            stopping_criteria=StoppingCriteriaList([_EachToken(report, on_token)]),
        )
    answers: list[list[int]] = written[:, inputs["input_ids"].shape[1] :].tolist()
    return answers


@contextmanager
def phase_hooks(pipe: TextPipeline, report: Report) -> Iterator[None]:
    """Inside, `prefill` begins when the tower has looked, `generate` after the first pass."""
    begun = False

    def after_vision(*_: Any) -> None:
        report.begin("prefill")

    def after_pass(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal begun
        if not begun:
            begun = True
            report.begin("generate")
            _check_finite(output.logits)

    handles = [pipe.model.register_forward_hook(after_pass)]
    if pipe.vision is not None:
        handles.append(pipe.vision.register_forward_hook(after_vision))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def blocks_of(pipe: TextPipeline) -> list[nn.Module]:
    """The model's layers, between which a cancel is seen."""
    layers = layers_of(pipe.model.get_decoder())
    return [*layers] if pipe.vision is None else [*layers_of(pipe.vision), *layers]


def _check_finite(logits: torch.Tensor) -> None:
    if not logits.is_meta and not bool(torch.isfinite(logits).all()):
        raise RunFailed(
            Text(
                "The model's numbers overflowed, so there is no text.",
                "模型计算溢出，没有得到文字。",
            ),
            Text(
                "Use precision bf16 or fp32 instead of fp16.",
                "请把精度从 fp16 改为 bf16 或 fp32。",
            ),
        )


class _EachToken(StoppingCriteria):
    """Stops nothing: tells of each token, and sees a cancel."""

    def __init__(self, report: Report, on_token: Callable[[int], None]) -> None:
        self._report = report
        self._on_token = on_token
        self._count = 0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
        self._report.check()
        self._count += 1
        self._on_token(self._count)
        return False
