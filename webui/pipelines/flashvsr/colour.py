"""Brings the colours of the result back to those of the low-quality frames.

Shapes: B batch, H height, W width; pixels in -1..1.
"""

from __future__ import annotations

import torch
from torch.nn import functional

_EPSILON = 1e-5
_LEVELS = 5
"""Blurs, each twice as wide as the one before (StableSR, after which the authors' is made)."""


def fix_colour(frames: torch.Tensor, reference: torch.Tensor, kind: str) -> torch.Tensor:
    """The frames with the reference's colours.

    Args:
        frames: B 3 H W, float32.
        reference: of the same size.
        kind: `adain`, by mean and deviation of every frame and channel; `wavelet`, by what
            five blurs leave; `none`.

    Raises:
        KeyError: there is no such kind.
    """
    return _KINDS[kind](frames, reference).clamp(-1, 1)


def _adain(frames: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    (mean, deviation), (wanted_mean, wanted) = map(_statistics, (frames, reference))
    return (frames - mean) / deviation * wanted + wanted_mean


def _statistics(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    variance, mean = torch.var_mean(frames, (2, 3), correction=0, keepdim=True)
    return mean, (variance + _EPSILON).sqrt()


def _wavelet(frames: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return frames - _low(frames) + _low(reference)


def _low(frames: torch.Tensor) -> torch.Tensor:
    line = torch.tensor((1.0, 2.0, 1.0), dtype=frames.dtype, device=frames.device) / 4
    kernel = (line[:, None] * line[None, :]).expand(3, 1, 3, 3)
    for level in range(_LEVELS):
        step = 2**level
        padded = functional.pad(frames, (step,) * 4, mode="replicate")
        frames = functional.conv2d(padded, kernel, groups=3, dilation=step)
    return frames


_KINDS = {
    "adain": _adain,
    "wavelet": _wavelet,
    "none": lambda frames, reference: frames,
}
