"""Token-wise work in pieces, under one visit of a layer's weights: what `ffn_chunks` builds on.

Streaming and casting hang on the call of a layer. A layer that is held is called once, with the
work instead of values, so that its weights come once and not once a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from diffusers.models.normalization import FP32LayerNorm
from torch import nn

Span = slice


def spans(tokens: int, pieces: int) -> Iterator[Span]:
    """Neighbouring ranges of tokens, all of one length but the last."""
    length = -(-tokens // pieces)
    for start in range(0, tokens, length):
        yield slice(start, min(tokens, start + length))


def places(clips: int, tokens: int, pieces: int) -> Iterator[tuple[slice, Span]]:
    """The spans of each clip, which are contiguous, and no larger for several clips."""
    for clip in range(clips):
        for span in spans(tokens, pieces):
            yield slice(clip, clip + 1), span


class _Held:
    """A layer that can be called with work instead of values: it is done while it is in place."""

    def forward(self, input: Any) -> Any:
        return super().forward(input) if isinstance(input, torch.Tensor) else input()  # type: ignore[misc]

    def compute(self, values: torch.Tensor) -> torch.Tensor:
        """What the layer makes of the values, without hooks; only inside `hold`."""
        return super().forward(values)  # type: ignore[misc, no-any-return]


class _HeldLinear(_Held, nn.Linear):
    pass


class _HeldRMSNorm(_Held, nn.RMSNorm):
    pass


class _HeldLayerNorm(_Held, FP32LayerNorm):
    pass


_HELD: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: _HeldLinear,
    nn.RMSNorm: _HeldRMSNorm,
    FP32LayerNorm: _HeldLayerNorm,
}


def make_holdable(module: nn.Module) -> None:
    """Lets the layer be held; layers of another make are left alone."""
    module.__class__ = _HELD.get(type(module), type(module))


def hold_as(module: nn.Module, other: nn.Module) -> None:
    """Lets the other layer be held if the module can be: it has taken the module's place."""
    if isinstance(module, _Held) and not isinstance(other, _Held):
        kind: Any = type(other)
        other.__class__ = _held_kind(kind)


@cache
def _held_kind(kind: Any) -> Any:
    return type(f"_Held{kind.__name__}", (_Held, kind), {})


def hold(module: nn.Module, work: Callable[[], Any]) -> Any:
    """Does the work while the layer's weights are in place."""
    return module(work) if isinstance(module, _Held) else work()


def compute(module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """The layer's function, to be called while it is held."""
    return module.compute if isinstance(module, _Held) else module
