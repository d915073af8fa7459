"""Feed-forward layers that work in pieces: the setting `ffn_chunks`.

A gated feed-forward of eight times its width is where the UNet's memory peaks (diffusers,
models/attention.py, FeedForward with GEGLU). The library's own forward chunking cuts along one
dimension, whose length its chunk must divide; here all tokens are cut together.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from torch import nn

from webui.pipelines import pieces as shared


class PieceFeedForward(FeedForward):  # type: ignore[misc]
    """FeedForward whose pass can go piece by piece, without gradients."""

    pieces: int = 1

    @property
    def _layers(self) -> tuple[Any, Any, Any]:
        """Growing and gate, dropout, shrinking."""
        growing, dropout, shrinking = self.net
        return growing, dropout, shrinking

    def forward(self, hidden_states: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        """As the library's: (..., D) to (..., D)."""
        if self.pieces == 1:
            whole: torch.Tensor = super().forward(hidden_states, *arguments, **named)
            return whole
        activation, _, down = self._layers
        tokens = hidden_states.flatten(0, -2)
        result = torch.empty(
            (len(tokens), down.out_features), dtype=hidden_states.dtype, device=tokens.device
        )
        work = partial(self._fill, tokens, result)
        shared.hold(activation.proj, lambda: shared.hold(down, work))
        return result.view(*hidden_states.shape[:-1], -1)

    def _fill(self, tokens: torch.Tensor, result: torch.Tensor) -> None:
        activation, drop, down = self._layers
        grow, shrink = shared.compute(activation.proj), shared.compute(down)
        for span in shared.spans(len(tokens), self.pieces):
            values, gate = grow(tokens[span]).chunk(2, dim=-1)
            result[span] = shrink(drop(values * activation.gelu(gate)))


def make_splittable(unet: nn.Module) -> None:
    """Gives the gated feed-forward layers this file's way, which `set_pieces` switches on."""
    for module in unet.modules():
        if type(module) is not FeedForward:
            continue
        layers: Any = module.net
        if isinstance(layers[0], GEGLU):
            module.__class__ = PieceFeedForward
            shared.make_holdable(layers[0].proj)
            shared.make_holdable(layers[2])


def set_pieces(unet: nn.Module, pieces: int) -> None:
    """In how many pieces feed-forward is done; 1 is the library's own way."""
    for module in unet.modules():
        if isinstance(module, PieceFeedForward):
            module.pieces = pieces
