"""A run: real steps of the optimizer on synthetic samples, the same on a GPU, a processor and meta.

Phases follow each other within a step and the allocator keeps its cache, as in any training loop.
The first step makes the optimizer's states and warms up; the second is what all later ones are
like, so its seconds count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from webui.core.errors import RunFailed
from webui.core.text import Text
from webui.core.training import TrainRequest
from webui.pipelines.qwen_vl_training.adapters import checkpointed, trainable, watched
from webui.pipelines.qwen_vl_training.components import Trainee, layers_of
from webui.pipelines.qwen_vl_training.optimizers import build_optimizer
from webui.pipelines.qwen_vl_training.refusals import refuse_several_gpus
from webui.pipelines.qwen_vl_training.samples import build_batch
from webui.pipelines.running import Report

STEPS = 2
OnPhase = Callable[[str], None]


def run(
    pipe: Trainee, request: TrainRequest, settings: Mapping[str, Any], report: Report
) -> list[float]:
    """Two steps of the optimizer; the loss of each.

    Raises:
        Cancelled: the report says so, at the next layer.
        MissingDependency: the optimizer is not installed.
        RunFailed: the numbers overflowed.
        BadInput: several GPUs are asked for.
    """
    refuse_several_gpus(settings)
    generator = torch.Generator("cpu").manual_seed(max(request.seed, 0))
    passes = STEPS * request.gradient_accumulation
    done = 0
    losses = []
    report.begin("forward")

    def on_phase(phase: str) -> None:
        report.check()
        report.begin(phase, continues=True)
        report.step(done, passes)

    def on_layer(_index: int) -> None:
        report.check()

    layers = layers_of(pipe.model)
    with (
        trainable(pipe.model, request.lora_rank) as (model, parameters),
        checkpointed(pipe.model, bool(settings["gradient_checkpointing"])),
        watched(layers, on_layer, on_layer),
    ):
        optimizer = build_optimizer(str(settings["optimizer"]), parameters)
        for step in range(STEPS):
            loss = 0.0
            for _ in range(request.gradient_accumulation):
                loss += float(micro_batch(pipe, model, request, generator, on_phase))
                done += 1
            on_phase("optimizer")
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(_finite(loss))
            if step == 0:
                report.warmed_up()
    return losses


def micro_batch(
    pipe: Trainee,
    model: Any,
    request: TrainRequest,
    generator: torch.Generator,
    on_phase: OnPhase,
) -> torch.Tensor:
    """One forward and backward pass; gradients add up in the parameters.

    Args:
        pipe: for the samples.
        model: the same one, or its adapters' wrapper.
        request: the workload.
        generator: draws the samples.
        on_phase: told `forward` and `backward`.

    Returns:
        The batch's part of the step's loss.
    """
    on_phase("forward")
    batch = build_batch(pipe, request, generator)
    loss: torch.Tensor = model(**batch, use_cache=False).loss / request.gradient_accumulation
    on_phase("backward")
    loss.backward()
    return loss.detach()


def _finite(loss: float) -> float:
    """The loss, or a clear end.

    Raises:
        RunFailed: it is no number.
    """
    if not -float("inf") < loss < float("inf"):
        raise RunFailed(
            Text("The loss is not a number: the training diverged.", "损失不是数值：训练发散。"),
            Text(
                "Use precision bf16 or fp32 instead of fp16.",
                "请把精度从 fp16 改为 bf16 或 fp32。",
            ),
        )
    return loss
