"""What is traced of a training step: its forward and backward pass, layer by layer.

The real step runs with a few layers of each tower and the sizes of the real ones. The optimizer is
not traced: what it takes follows from the weights alone.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from webui.core.training import TrainCard, TrainRequest
from webui.estimator.qwen_vl_shape import (
    KEPT,
    VIEWS,
    WAYS,
    block_counts,
    padded,
    step_of,
    variant_of,
)
from webui.estimator.segments import Segment, pack
from webui.estimator.tape import COSTS, Terms, term_values
from webui.pipelines import qwen_vl_training
from webui.pipelines.qwen_vl_training.adapters import checkpointed, trainable, watched
from webui.pipelines.qwen_vl_training.components import Trainee, layers_of
from webui.pipelines.qwen_vl_training.steps import micro_batch
from webui.tracing.fit import NotOneTape, Shape, fit_costs, fit_tape
from webui.tracing.layers import (
    END,
    LAYERS,
    Piece,
    cut_passes,
    mark_of,
    merge_middles,
    require_same,
)
from webui.tracing.meta_kernels import cuda_kernels, processor_kernels
from webui.tracing.recorder import Recorder, Recording
from webui.tracing.recording import weight_sizes

Arrays = dict[str, np.ndarray]
Kernels = Callable[[], AbstractContextManager[None]]

_SPARE = 2
"""Recordings more than what a size can depend on, so that a wrong form is noticed."""
RANK = 8
"""Of the adapters in the recordings whose rank is not varied."""
_SAMPLES: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "image": (
        (2, 200, 112, 8),
        (3, 330, 112, 4),
        (2, 590, 224, 16),
        (4, 250, 168, 4),
        (2, 700, 280, 8),
        (4, 450, 280, 12),
        (6, 140, 56, 4),
        (2, 850, 168, 16),
        (3, 330, 336, 4),
        (4, 400, 224, 8),
        (2, 1030, 56, 12),
        (5, 200, 112, 12),
    ),
    "text": (
        (2, 200, 0, 8),
        (3, 330, 0, 4),
        (2, 590, 0, 16),
        (4, 250, 0, 4),
        (3, 700, 0, 8),
        (5, 140, 0, 12),
        (3, 850, 0, 16),
        (2, 1030, 0, 12),
        (4, 400, 0, 8),
        (6, 300, 0, 4),
        (2, 760, 0, 8),
    ),
}
"""Batch, tokens of a sample, side of its picture, rank of adapters.

A batch of one lacks one copy of its labels, 8 bytes a token; it is taken as the others. All patches
together are a multiple of 32, to which a kernel pads them; windows are nearly always."""


def kernels_of(precision: str) -> dict[str, Kernels]:
    """For each kind of attention what makes the meta device allocate so.

    In fp32 only a processor has one kernel for grouped heads.
    """
    if precision == "fp32":
        return {"fused": processor_kernels, "plain": cuda_kernels}
    return {"fused": cuda_kernels, "plain": partial(cuda_kernels, flash=False)}


def shallow(card: TrainCard) -> TrainCard:
    """The card with a few layers of each tower, in their real sizes."""
    config = dict(card.configs["model"])
    config |= {"num_hidden_layers": LAYERS, "max_window_layers": LAYERS}
    config["vision_config"] = {
        **config["vision_config"],
        "depth": LAYERS,
        "fullatt_block_indexes": list(range(LAYERS)),
    }
    return replace(card, configs={"model": config})


def request_of(card: TrainCard, sample: tuple[int, int, int, int], way: str) -> TrainRequest:
    """A request of one of `_SAMPLES`."""
    batch, length, image_size, rank = sample
    return TrainRequest(
        task="train",
        model=card.name,
        seed=0,
        batch=batch,
        sequence_length=length,
        image_size=image_size,
        gradient_accumulation=1,
        lora_rank=rank if way == "lora" else 0,
    )


@contextmanager
def in_pieces(model: Any, pieces: int) -> Iterator[None]:
    """Attention of the vision tower in as many equal pieces.

    How many there are depends on the picture. Pieces are views of one tensor, and their results
    are put together into one: more of them take the same bytes in smaller parts. One piece gives a
    tape that is the same for all pictures; what a kernel needs for itself counts for the rows of
    the largest piece (`r`, `w`).
    """

    def cut(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        total = int(kwargs["cu_seqlens"][-1])
        kwargs["cu_seqlens"] = torch.tensor([total * i // pieces for i in range(pieces + 1)])
        return args, kwargs

    handles = [
        block.attn.register_forward_pre_hook(cut, with_kwargs=True)
        for block in model.model.visual.blocks
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def record_passes(
    pipe: Trainee,
    request: TrainRequest,
    checkpoint: bool,
    kernels: Kernels,
    passes: int = 2,
    pieces: int | None = 1,
) -> Recording:
    """Forward and backward passes of one step, with a mark at each layer.

    Args:
        pipe: on meta.
        request: the workload.
        checkpoint: with gradient checkpointing.
        kernels: the device's.
        passes: how many; from the second on there are gradients to add to.
        pieces: of the vision tower's attention; None for the picture's own windows.
    """
    recorder = Recorder()
    blocks = len(pipe.model.model.visual.blocks)
    direction = ""

    def on_phase(phase: str) -> None:
        nonlocal direction
        direction = phase
        recorder.mark(mark_of(phase))

    def where(index: int) -> tuple[str, int]:
        return ("vision", index) if index < blocks else ("text", index - blocks)

    def on_layer(index: int) -> None:
        if direction == "forward":  # a layer that is computed again belongs to the way back
            recorder.mark(mark_of("forward", *where(index)))

    def on_gradient(index: int) -> None:
        recorder.mark(mark_of("backward", *where(index)))

    gc.collect()
    # A collection in the middle would free cycles at a moment that no other run repeats.
    gc.disable()
    try:
        with ExitStack() as stack:
            model, _ = stack.enter_context(trainable(pipe.model, request.lora_rank))
            recorder.track_module(model)
            recorder.recording.events.clear()
            stack.enter_context(checkpointed(pipe.model, checkpoint))
            stack.enter_context(watched(layers_of(pipe.model), on_layer, on_gradient))
            if pieces is not None:
                stack.enter_context(in_pieces(pipe.model, pieces))
            stack.enter_context(_without_checks())
            stack.enter_context(kernels())
            stack.enter_context(recorder)
            generator = torch.Generator("cpu")
            for _ in range(passes):
                micro_batch(pipe, model, request, generator, on_phase)
            recorder.mark(END)
    finally:
        gc.enable()
    return recorder.recording


@contextmanager
def _without_checks() -> Iterator[None]:
    """The library compares numbers of tokens that the meta device cannot count."""
    name = "TRANSFORMERS_DISABLE_TORCH_CHECK"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@dataclass(slots=True)
class _Sample:
    """One recording: the pieces of its first pass, and the way back of its second."""

    shape: Shape
    first: dict[str, Piece]
    again: dict[str, Piece]


def _record_sample(
    pipe: Trainee, request: TrainRequest, checkpoint: bool, kernels: Kernels, pieces: int = 1
) -> _Sample:
    recording = record_passes(pipe, request, checkpoint, kernels, pieces=pieces)
    first, again = (merge_middles(one) for one in cut_passes(recording))
    require_same(first, again, "forward")
    shape = step_of(pipe.card, request).to_dict()
    # In one piece the rows of attention are all patches.
    shape["r"] = padded(shape["p"])
    return _Sample(shape, first, again)


def trace_model(card: TrainCard, precision: str, variants: tuple[str, ...] = ()) -> Arrays:
    """Weights, and the segments and costs of each variant.

    Args:
        card: the model.
        precision: `bf16` or `fp32`.
        variants: only these; all where empty.
    """
    arrays = _weights(card, precision)
    pipe = qwen_vl_training.build_meta(shallow(card), {"precision": precision})
    for way in WAYS:
        for kept in KEPT:
            for view in VIEWS:
                for attention, kernels in kernels_of(precision).items():
                    name = variant_of(way, kept, view, attention)
                    if not variants or name in variants:
                        arrays |= _trace_variant(card, pipe, name, kernels)
    return arrays


def _weights(card: TrainCard, precision: str) -> Arrays:
    """Bytes of the real model's tensors, parameters first; and each adapter's values a rank."""
    pipe = qwen_vl_training.build_meta(card, {"precision": precision})
    sizes = weight_sizes(pipe.model)
    with trainable(pipe.model, RANK) as (_, adapters):
        values = [weight.numel() // RANK for weight in adapters]
    return {
        "weights": sizes,
        "parameters": np.array(len(list(pipe.model.parameters()))),
        "adapters": np.array(values, dtype=np.int64),
        "largest": np.array(
            max(
                sum(weight.numel() for weight in module.parameters(recurse=False))
                for module in pipe.model.modules()
            )
        ),
    }


def _trace_variant(card: TrainCard, pipe: Trainee, name: str, kernels: Kernels) -> Arrays:
    way, kept, view, attention = name.split(".")
    checkpoint = kept == "checkpoint"
    terms = terms_of(way, view, attention)
    samples = [
        _record_sample(pipe, request_of(pipe.card, sample, way), checkpoint, kernels)
        for sample in _SAMPLES[view][: len(terms) + _SPARE]
    ]
    variables = tuple(dict.fromkeys(name for term in terms for name in term))
    arrays: Arrays = {}
    for prefix, of in (("first", lambda one: one.first), ("again", lambda one: one.again)):
        segments = {}
        for piece in of(samples[0]).values():
            if prefix == "again" and piece.direction == "forward":
                continue
            same = [of(sample)[piece.name] for sample in samples]
            if any(other.outside != piece.outside for other in same):
                raise NotOneTape(f"{piece.name}: what it frees differs between the shapes")
            runs = [(one.shape, of_one.events) for one, of_one in zip(samples, same, strict=True)]
            tape = fit_tape(runs, variables, terms)
            segments[piece.name] = Segment(tape, tuple(piece.outside))
        arrays |= pack(segments, f"{name}.{prefix}")
    return arrays | _costs(card, pipe, name, kernels, samples)


def terms_of(way: str, view: str, attention: str) -> Terms:
    """What a size can be a sum of."""
    names = ["", "b", "t", "u"]
    names += ["p", "r"] if view == "image" else ["s"]
    names += ["a", "c"] if attention == "plain" else []
    terms: list[tuple[str, ...]] = [(name,) if name else () for name in names]
    return (*terms, *([("k",), ("t", "k")] if way == "lora" else []))


def _cost_terms(way: str, view: str, attention: str) -> Terms:
    """What a cost can be a sum of: what kernels pad costs nothing, attention always its square."""
    unpadded = [term for term in terms_of(way, view, attention) if not {"u", "r"} & set(term)]
    cut = (("q",), ("x",)) if view == "image" else ()
    return tuple(dict.fromkeys((*unpadded, ("a",), *cut)))


def _costs(
    card: TrainCard, pipe: Trainee, name: str, kernels: Kernels, samples: list[_Sample]
) -> Arrays:
    """Costs of a pass with the real number of layers.

    One more recording has the vision tower's attention in two pieces, which tells what each
    further piece costs.
    """
    way, kept, view, attention = name.split(".")
    counts = {
        "vision": sum(block_counts(card)),
        "text": int(card.configs["model"]["num_hidden_layers"]),
    }
    blocks = counts["vision"] if view == "image" else 0
    request = request_of(pipe.card, _SAMPLES[view][0], way)
    halves = _record_sample(pipe, request, kept == "checkpoint", kernels, pieces=2)
    terms = _cost_terms(way, view, attention)
    arrays: Arrays = {f"{name}.costs.terms": np.array(["*".join(term) for term in terms])}
    for kind, direction in (("forward",) * 2, ("backward",) * 2, ("again", "backward")):
        totals = []
        for pieces, sample in [*((1, one) for one in samples), (2, halves)]:
            passes = sample.again if kind == "again" else sample.first
            cut = {"q": blocks * sample.shape["p"] ** 2 // pieces, "x": blocks * (pieces - 1)}
            totals.append((sample.shape | cut, _total(passes, direction, counts)))
        arrays[f"{name}.costs.{kind}"] = fit_costs(
            totals, (), lambda shape, _: term_values(shape, terms)
        )
    return arrays


def _total(pieces: dict[str, Piece], direction: str, counts: dict[str, int]) -> dict[str, float]:
    """Costs of all layers from those of the first, one between, and the last."""
    total = dict.fromkeys(COSTS, 0.0)
    for piece in pieces.values():
        if piece.direction == direction:
            times = counts[piece.tower] - 2 if piece.place == "middle" else 1
            for cost in COSTS:
                total[cost] += times * piece.costs[cost]
    return total


LIBRARIES = ("peft",)
"""Beside those that all families are traced with."""
PARTS = {"model": trace_model}
"""The model is one part: a step needs all of it."""
