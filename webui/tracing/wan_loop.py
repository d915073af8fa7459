"""The denoising loop of a Wan transformer as tapes: library's blocks, in pieces, weights in fp8.

A block in pieces repeats the same events for each piece. Two pieces are traced; the size of what
belongs to a piece shrinks with their number, which is one more variable of the tape (`piece`, one
over the number): nothing is traced again for another number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diffusers.hooks.layerwise_casting import LayerwiseCastingHook
from torch import nn

from webui.core.clip import ClipCard, ClipRequest
from webui.core.settings import Settings
from webui.estimator.tape import Tape, monomial_names
from webui.pipelines import wan
from webui.pipelines.wan import pieces
from webui.tracing.fit import NotOneTape, Shape, fit_tape
from webui.tracing.recorder import MARK, Event
from webui.tracing.recording import record_run

BLOCKS = 3
"""Transformer blocks that are run: the third is like all later ones, also when streamed."""
VARIABLES = ("n",)
"""Latent frames x height x width: all that the loop's sizes depend on."""
PIECE = "piece"
"""One over the number of pieces."""
TRACED_PIECES = 2
"""Pieces that are run: the second is like all later ones."""

SHAPES = [{"f": 3, "h": 8, "w": 16}, {"f": 5, "h": 24, "w": 16}, {"f": 7, "h": 16, "w": 40}]
"""Two for the fit and one more that must lie on it; tokens (f h/2 w/2) that the numbers of pieces
divide."""
_FEW, _MANY = 4, 8

RequestOf = Callable[..., ClipRequest]


def trace_loop(
    card: ClipCard,
    settings: Settings,
    mode: str,
    request_of: RequestOf,
    in_pieces: bool,
    workload: dict[str, Any],
) -> Tape:
    """The loop's tape for one way of offloading.

    Args:
        card: the model.
        settings: of the pipeline; `ffn_chunks` is set here.
        mode: `resident`, `block` or `leaf`.
        request_of: makes the request of a shape.
        in_pieces: with the token-wise work in pieces; the tape then has the variable `piece`.
        workload: guidance and solver.

    Raises:
        NotOneTape: the events do not follow one pattern.
    """

    def record(shape: Shape, chunks: int) -> list[Event]:
        request = request_of(card, shape, **workload)
        chosen = settings | {"ffn_chunks": chunks}
        with _first_pieces(), kept_storage():
            pipe = wan.build_meta(card, settings)
            del pipe.transformer.blocks[BLOCKS:]
            embeddings = wan.encode(pipe, request, settings)
            return record_run(
                pipe.transformer, mode, lambda: wan.denoise(pipe, embeddings, request, chosen)
            ).events

    chunks = _FEW if in_pieces else 1
    recordings = [({"n": _values(shape)}, record(shape, chunks)) for shape in SHAPES]
    tape = fit_tape(recordings, VARIABLES)
    if not in_pieces:
        return tape
    return _with_pieces(tape, recordings[-1][1], record(SHAPES[-1], _MANY))


def _values(shape: Shape) -> int:
    return shape["f"] * shape["h"] * shape["w"]


@contextmanager
def _first_pieces() -> Iterator[None]:
    """Inside, only the first pieces are done: the others repeat them."""
    spans = pieces.spans

    def first(tokens: int, count: int) -> Iterator[slice]:
        return islice(spans(tokens, count), TRACED_PIECES)

    with patch.object(pieces, "spans", first):
        yield


@contextmanager
def kept_storage() -> Iterator[None]:
    """Inside, a layer's fp8 values stay where they are while it computes in bf16.

    The library drops them then and makes them again afterwards, beside the bf16 ones: the most
    bytes are the same, and every other moment has at most one layer's fp8 more than on a card.
    """
    cast, cast_back = LayerwiseCastingHook.pre_forward, LayerwiseCastingHook.post_forward
    stored: dict[nn.Parameter, torch.Tensor] = {}

    def before(hook: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        stored.update({parameter: parameter.data for parameter in module.parameters()})
        return cast(hook, module, *args, **kwargs)

    def after(_: Any, module: nn.Module, output: Any) -> Any:
        for parameter in module.parameters():
            parameter.data = stored.pop(parameter)
        return output

    LayerwiseCastingHook.pre_forward, LayerwiseCastingHook.post_forward = before, after
    try:
        yield
    finally:
        LayerwiseCastingHook.pre_forward, LayerwiseCastingHook.post_forward = cast, cast_back


def _with_pieces(tape: Tape, few: list[Event], many: list[Event]) -> Tape:
    """The tape with one more variable, from how the sizes differ between few and many pieces.

    Raises:
        NotOneTape: a size is neither the same nor in proportion.
    """
    runs = [[event for event in events if event.kind != MARK] for events in (few, many)]
    if [event.kind for event in runs[0]] != [event.kind for event in runs[1]]:
        raise NotOneTape("the events depend on the number of pieces")
    sizes = np.array([[event.size_bytes for event in run] for run in runs], dtype=np.int64)
    of_piece = sizes[0] != sizes[1]
    if (sizes[0] * _FEW != sizes[1] * _MANY)[of_piece].any():
        raise NotOneTape("a size does not follow the number of pieces")
    variables = (*VARIABLES, PIECE)
    place = {names: index for index, names in enumerate(monomial_names(variables))}
    coefficients = np.zeros((len(sizes[0]), len(place)))
    for index, names in enumerate(monomial_names(VARIABLES)):
        column = tape.coefficients[:, index]
        coefficients[:, place[names]] += np.where(of_piece, 0.0, column)
        coefficients[:, place[(*names, PIECE)]] += np.where(of_piece, column * _FEW, 0.0)
    return Tape(variables, tape.kind, tape.slot, coefficients)
