"""Records models that write text, from the real run through the library's `generate` on meta.

What a meta tensor cannot tell is said here: where pictures stand in a prompt, which checks hold,
when all answers have ended.

Variables: b prompts or pages at a time, s tokens of a prompt with its picture's, m of them the
picture's, c tokens in the cache before a step.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from transformers import masking_utils

from webui.core.settings import NOT_QUANTIZED, Settings
from webui.pipelines.generating import write
from webui.pipelines.modules import owned_tensors
from webui.pipelines.text_model import (
    TextPipeline,
    apart,
    build_meta,
    layers_of,
    parts_of,
)
from webui.tracing.cutting import LAYER, Piece, cut_pieces
from webui.tracing.meta_kernels import cuda_kernels
from webui.tracing.recorder import Recorder, Recording
from webui.tracing.recording import weight_sizes
from webui.tracing.streaming import recorded_streaming

TOKENS = 5
"""New tokens of a traced run: the first comes with the prompt, the second by a step that frees the
prompt's storages, the others by steps that are like all later ones."""
PIECES = ("vision", "prefill", "first", "second", "step", "again", "later")
"""The pieces of a run, as the estimator puts them together. The last two have the events of the
step, and other storages to free: those of one and of two steps like them."""
SAME_AS_STEP = ("again", "later")
MODES = ("resident", "leaf")


@dataclass(frozen=True, slots=True)
class Way:
    """How attention is computed, and for which batches it is traced."""

    attention: str
    """The setting."""
    flash: bool | None
    """What `cuda_kernels` takes."""
    batches: str = "any"
    """`one`, `many` or `any`: matrix products copy their factors only where there are many."""

    @property
    def fewest(self) -> int:
        return 2 if self.batches == "many" else 1


WAYS = {
    "flash": Way("sdpa", True),
    "padded": Way("sdpa", None, "many"),
    "math-one": Way("sdpa", False, "one"),
    "math-many": Way("sdpa", False, "many"),
    "eager-one": Way("eager", None, "one"),
    "eager-many": Way("eager", None, "many"),
}
"""By kernels that repeat no heads; with a mask, where prompts differ in length; by the whole matrix
where no such kernel is; by the plain formula."""
_GRID = ("image_grid_thw", "grid_thw")
"""Arguments whose values decide the shapes."""

Inputs = Callable[[TextPipeline, torch.device], dict[str, torch.Tensor]]


def settings_of(precision: str, way: str, quantization: str = NOT_QUANTIZED) -> Settings:
    """Settings of a pipeline on meta; how its weights live is the recording's business."""
    return {
        "precision": precision,
        "quantization": quantization,
        "attention": WAYS[way].attention,
        "offload": "none",
    }


def record_write(
    pipe: TextPipeline,
    mode: str,
    way: str,
    inputs: Inputs,
    image_tokens: int = 0,
    seeing: AbstractContextManager[None] | None = None,
) -> list[Recording]:
    """Two batches, one after the other: with streamed weights only the first finds no order.

    Args:
        pipe: on meta, fresh: hooks stay on its model.
        mode: `resident` or `leaf`.
        way: one of `WAYS`.
        inputs: makes a batch on a device, as the pipeline does.
        image_tokens: of the whole batch.
        seeing: a context in which the tower finds its way on meta.

    Returns:
        Of each batch its events, with a mark where each piece begins and before each layer.
    """
    recorder = Recorder()
    recorder.true_values = image_tokens
    if mode == "resident":
        recorder.track_module(pipe.model)
    else:
        recorder.leave_out(pipe.model)
    report = _Marks(recorder)
    first = "prefill" if pipe.vision is None else "vision"
    streamed = mode != "resident"
    where = torch.device("cpu") if streamed else torch.device("meta")
    found = []
    gc.disable()  # a collection in the middle would free cycles at a moment that no other repeats
    try:
        with ExitStack() as around:
            around.enter_context(cuda_kernels(WAYS[way].flash))
            # Before the hooks of streamed weights, which keep the methods that they find.
            around.enter_context(seeing or ExitStack())
            if streamed:
                around.enter_context(_streamed(pipe, mode, recorder))
            around.enter_context(_told(pipe, recorder, way))
            around.enter_context(recorder)
            for _ in range(2 if streamed else 1):
                recorder.recording = Recording()
                recorder.truth = way != "padded"
                report.begin(first)
                batch = inputs(pipe, where)
                write(pipe, batch, TOKENS, report, report.on_token)
                found.append(replace(recorder.recording, events=list(recorder.recording.events)))
                del batch
    finally:
        gc.enable()
    return found


def pieces_of(pipe: TextPipeline, recording: Recording) -> dict[str, Piece]:
    """The pieces of one batch by their names in `PIECES`."""
    layers = len(layers_of(pipe.model.get_decoder()))
    towers = len(layers_of(pipe.vision)) if pipe.vision is not None else 0
    counts = {"vision": towers, "prefill": layers, "token": layers}
    pieces = cut_pieces(recording, counts)
    names = PIECES if pipe.vision is not None else PIECES[1:]
    return dict(zip(names, pieces, strict=True))


class _Marks:
    """The report of a recorded run: a mark for each phase and token."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def begin(self, phase: str, continues: bool = False) -> None:
        self._recorder.mark(phase)

    def warmed_up(self) -> None:
        """Nothing is timed."""

    def check(self) -> None:
        """Nobody cancels."""

    def step(self, done: int, total: int) -> None:
        """Progress is not recorded."""

    def latent_step(self, done: int, total: int, latents: torch.Tensor) -> None:
        """There are no latents."""

    def on_token(self, count: int) -> None:
        self._recorder.mark("token")
        if count == TOKENS:
            self._recorder.truth = True  # all answers have ended


@contextmanager
def _streamed(pipe: TextPipeline, mode: str, recorder: Recorder) -> Iterator[None]:
    """The model's parts, each a chain of its own, as `place` sets them up."""
    parts = parts_of(pipe.model)
    language = parts.pop("language")
    with ExitStack() as around:
        for part in parts.values():
            around.enter_context(recorded_streaming(part, mode, recorder, _GRID))
        with apart(pipe.model):
            around.enter_context(recorded_streaming(language, mode, recorder, _GRID))
        yield


@contextmanager
def _told(pipe: TextPipeline, recorder: Recorder, way: str) -> Iterator[None]:
    """Inside, checks of the model hold, and the answers go on between its passes."""

    def before(*_: Any) -> None:
        recorder.truth = True

    def after(*_: Any) -> None:
        recorder.truth = False

    chains = [layers_of(pipe.model.get_decoder())]
    if pipe.vision is not None:
        chains.append(layers_of(pipe.vision))
    handles = [
        pipe.model.register_forward_pre_hook(before, prepend=True),
        pipe.model.register_forward_hook(after),
    ]
    for layers in chains:
        for index, layer in enumerate(layers):
            handles.append(layer.register_forward_pre_hook(_layer_mark(recorder, index)))
        handles.append(layers[-1].register_forward_hook(_layer_mark(recorder, -1)))
    padded = patch.object(masking_utils, "_ignore_causal_mask_sdpa", lambda *_, **__: False)
    try:
        with padded if way == "padded" else ExitStack():
            yield
    finally:
        for handle in handles:
            handle.remove()


def _layer_mark(recorder: Recorder, index: int) -> Callable[..., None]:
    return lambda *_: recorder.mark(LAYER, index)


def build(card: Any, precision: str, way: str, quantization: str = NOT_QUANTIZED) -> TextPipeline:
    """A fresh pipeline on meta."""
    return build_meta(card, settings_of(precision, way, quantization))


def weight_arrays(pipe: TextPipeline) -> dict[str, np.ndarray]:
    """Sizes of all weights, and the bytes that passes read and bring.

    `bytes.vision` and `bytes.language`: what the parts that see and a pass of the language model
    bring, where weights are streamed; a table that is the head too comes twice. `bytes.step`: what
    a step reads, of the table of embeddings only the head's. `bytes.token`: what a token takes in
    the cache, all of its storages (`cache.storages`: keys and values of each layer) together.
    """
    vision = sum(tensor.nbytes for part in _seeing_parts(pipe) for tensor in owned_tensors(part))
    every = sum(tensor.nbytes for tensor in owned_tensors(pipe.model))
    table = pipe.model.get_input_embeddings().weight
    tied = pipe.model.get_output_embeddings().weight is table
    text = pipe.model.config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    values = 2 * text.num_hidden_layers * text.num_key_value_heads * width
    return {
        "weights": weight_sizes(pipe.model),
        "bytes.vision": np.array(vision),
        "bytes.language": np.array(every - vision + (table.nbytes if tied else 0)),
        "bytes.step": np.array(every - vision - (0 if tied else table.nbytes)),
        "bytes.token": np.array(values * pipe.model.dtype.itemsize),
        "cache.storages": np.array(2 * text.num_hidden_layers),
    }


def _seeing_parts(pipe: TextPipeline) -> list[nn.Module]:
    return [part for name, part in parts_of(pipe.model).items() if name != "language"]


def restored_arrays(pipe: TextPipeline) -> dict[str, np.ndarray]:
    """Bytes of the layers with 4-bit weights in the model's precision: `restored.most` of the
    largest, `restored.all` of all that a step asks. Empty where there are none.
    """
    seeing = {module for part in _seeing_parts(pipe) for module in part.modules()}
    sizes = [
        prod(layer.weight.quant_state.shape) * pipe.model.dtype.itemsize
        for layer in pipe.model.modules()
        if layer not in seeing and hasattr(getattr(layer, "weight", None), "quant_state")
    ]
    if not sizes:
        return {}
    return {"restored.most": np.array(max(sizes)), "restored.all": np.array(sum(sizes))}
