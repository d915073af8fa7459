"""Random weights for `verify`: small, finite, not zero, and quickly made at full size."""

from __future__ import annotations

import torch
from torch import nn

SPREAD = 0.035
"""Half width of the uniform distribution of random weights: std 0.02, as the authors initialise."""
_TILE = 2**22
"""Values drawn once and repeated: drawing 5.7 billion on a processor takes minutes."""


def fill_random(module: nn.Module, device: torch.device) -> None:
    """Gives every meta parameter a storage with small random values.

    Args:
        module: parameters on meta.
        device: where the values are made.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    tile = torch.empty(_TILE).uniform_(-SPREAD, SPREAD, generator=generator)
    # Seeded on the device too: workers that share a job have the same weights.
    on_device = torch.Generator(device).manual_seed(0)
    made: dict[int, nn.Parameter] = {}
    for owner_name, owner in module.named_modules():
        for key, parameter in list(owner._parameters.items()):
            if parameter is None or not parameter.is_meta:
                continue
            if id(parameter) not in made:
                value = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
                _fill(value, f"{owner_name}.{key}", tile, on_device)
                made[id(parameter)] = nn.Parameter(value, requires_grad=False)
            owner._parameters[key] = made[id(parameter)]


def _fill(value: torch.Tensor, name: str, tile: torch.Tensor, generator: torch.Generator) -> None:
    if name.endswith("gamma") or (name.endswith("weight") and value.ndim == 1):
        value.fill_(1.0)
    elif value.device.type == "cpu":
        flat = value.view(-1)
        part = tile[: min(_TILE, flat.numel())].to(value.dtype)
        for start in range(0, flat.numel(), _TILE):
            piece = flat[start : start + _TILE]
            piece.copy_(part[: piece.numel()])
    else:
        value.uniform_(-SPREAD, SPREAD, generator=generator)
