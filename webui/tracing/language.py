"""What is traced of language models: a batch of prompts of one length, and its steps.

Variables: b answers at a time, s tokens of the prompt, c tokens in the cache before a step.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from webui.core.language import TextCard
from webui.core.settings import NOT_QUANTIZED
from webui.estimator.tape import Terms
from webui.pipelines.text_model import TextPipeline
from webui.tracing.fit import Shape
from webui.tracing.recorder import Recording
from webui.tracing.writing import (
    MODES,
    WAYS,
    build,
    record_write,
    restored_arrays,
    weight_arrays,
)
from webui.tracing.written import products, written_arrays, written_costs

Arrays = dict[str, np.ndarray]

_LINEAR = products("", "b", "s", "bs")
_SQUARES = products("ss", "bss")
_MATRICES = {"prefill": _LINEAR + _SQUARES}
TERMS: dict[str, dict[str, Terms]] = {
    "flash": {"prefill": _LINEAR},
    "math-one": _MATRICES,
    "math-many": _MATRICES,
    "eager-one": _MATRICES,
    "eager-many": _MATRICES,
}
"""What sizes are sums of, for each way of attention: prompts here are all of one length."""
COST_TERMS: dict[str, Terms] = {"prefill": _LINEAR + _SQUARES}
_BATCHES = ((0, 15), (1, 15), (0, 31), (2, 39), (1, 63), (0, 47), (2, 23), (0, 63))
"""Answers beyond the fewest, tokens of the prompt: for the fit and one more that must lie on it."""


def record_batch(
    card: TextCard,
    precision: str,
    mode: str,
    way: str,
    shape: Shape,
    quantization: str = NOT_QUANTIZED,
) -> tuple[TextPipeline, list[Recording]]:
    """A batch of answers on meta.

    Args:
        card: the model.
        precision: of its weights.
        mode: how they live, one of `MODES`.
        way: how attention is computed.
        shape: b and s.
        quantization: of its weights.
    """
    pipe = build(card, precision, way, quantization)

    def inputs(_: TextPipeline, where: torch.device) -> dict[str, torch.Tensor]:
        ids = torch.ones((shape["b"], shape["s"]), dtype=torch.int64, device=where)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return pipe, record_write(pipe, mode, way, inputs)


def trace_model(
    card: TextCard,
    precision: str,
    modes: tuple[str, ...] = MODES,
    ways: tuple[str, ...] = tuple(TERMS),
    quantization: str = NOT_QUANTIZED,
) -> Arrays:
    """Weights, the pieces of a batch for each way of attention and of offloading, their costs."""
    pipe = build(card, precision, "flash", quantization)
    arrays: Arrays = weight_arrays(pipe) | restored_arrays(pipe)
    for way in ways:
        for mode in modes:
            made = [
                (shape, *record_batch(card, precision, mode, way, shape, quantization))
                for shape in _shapes(way)
            ]
            arrays |= written_arrays(mode, way, made, TERMS[way])
            if mode == "resident":
                arrays |= written_costs(way, made, COST_TERMS)
    return arrays


def _shapes(way: str) -> list[Shape]:
    """The shapes that a way is traced at."""
    chosen = WAYS[way]
    return [
        {"b": chosen.fewest + more, "s": length}
        for more, length in _BATCHES
        if chosen.batches != "one" or not more
    ]


PARTS = {
    "model": trace_model,
    "model_int8": partial(trace_model, modes=("resident",), quantization="int8"),
    "model_nf4": partial(trace_model, modes=("resident",), quantization="nf4"),
}
"""The parts of the family's models, each with what traces it."""
