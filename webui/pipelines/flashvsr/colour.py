"""Brings the colours of the result back to those of the low-quality frames.

Shapes: B batch, H height, W width; pixels in -1..1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from webui.pipelines.depth import Frames, in_host, is_deep
from webui.pipelines.flashvsr.stream import to_levels, to_pixels

_Moments = tuple[torch.Tensor, torch.Tensor]
"""Mean and variance of every channel (B 3 1 1)."""

_EPSILON = 1e-5
_LEVELS = 5
"""Blurs, each twice as wide as the one before (StableSR, after which the authors' is made)."""
HALO_ROWS = sum(2**level for level in range(_LEVELS))
"""How far all of them look."""
BAND_PX = 8 * 2**20
"""Pixels that are fixed at once: 96 MiB in single precision, a little less than a frame of 4K."""


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


def fix_in_bands(
    frame: Frames, reference: Frames, kind: str, device: torch.device, band_px: int | None = None
) -> Frames:
    """The same for one frame in host memory, of any size: band by band over the device.

    Statistics are those of the whole frame, gathered band by band; blurs see as far beyond a band
    as they look. A frame of one band comes out as `fix_colour` makes it.

    Args:
        frame: H W 3, of 8 or 16 bits.
        reference: of the same size and kind.
        kind: as `fix_colour`.
        device: where it is computed.
        band_px: the most pixels of a band, without what the blurs look at beyond it.
    """
    height, width = frame.shape[:2]
    bands = bands_of(height, width, band_px or BAND_PX)
    moments: list[_Moments] = []
    if kind == "adain":
        for picture in (frame, reference):
            each = [_moments(_on_device(picture[band], device)) for band in bands]
            moments.append(_merged(each, [band.stop - band.start for band in bands]))
    fixed = np.empty_like(frame)
    for band in bands:
        halo = HALO_ROWS if kind == "wavelet" else 0
        wide = slice(max(0, band.start - halo), min(height, band.stop + halo))
        rows = slice(band.start - wide.start, band.stop - wide.start)
        fixed[band] = _fixed_rows(frame[wide], reference[wide], kind, device, moments, rows)
    return fixed


def _fixed_rows(
    frame: Frames,
    reference: Frames,
    kind: str,
    device: torch.device,
    moments: Sequence[_Moments],
    rows: slice,
) -> Frames:
    """Some rows of a part of a frame; what it takes on the device is free again at the end."""
    pixels = _on_device(frame, device)
    if kind == "adain":
        pixels = _moved(pixels, *moments)
    else:
        pixels = _KINDS[kind](pixels, _on_device(reference, device))
    levels = to_levels(pixels[:, :, rows].clamp(-1, 1), deep=is_deep(frame))
    return in_host(np.asarray(levels[0].cpu()))


def bands_of(height: int, width: int, band_px: int) -> list[slice]:
    """The rows of each band: as few bands as there may be, about equally high."""
    count = max(1, -(-height * width // band_px))
    rows = -(-height // count)
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def _on_device(picture: Frames, device: torch.device) -> torch.Tensor:
    """Rows of a frame as pixels (1 3 H W, float32)."""
    return to_pixels([[picture]], device)[:, :, 0]


def _adain(frames: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return _moved(frames, _moments(frames), _moments(reference))


def _moved(frames: torch.Tensor, given: _Moments, wanted: _Moments) -> torch.Tensor:
    """The frames with other means and deviations."""
    return (frames - given[0]) / _deviation(given) * _deviation(wanted) + wanted[0]


def _moments(frames: torch.Tensor) -> _Moments:
    variance, mean = torch.var_mean(frames, (2, 3), correction=0, keepdim=True)
    return mean, variance


def _deviation(moments: _Moments) -> torch.Tensor:
    return (moments[1] + _EPSILON).sqrt()


def _merged(parts: Sequence[_Moments], counts: Sequence[int]) -> _Moments:
    """Those of several bands together.

    Args:
        parts: of each band.
        counts: how many pixels each has, by a common factor.
    """
    if len(parts) == 1:
        return parts[0]
    shares = torch.tensor(counts, dtype=torch.float64, device=parts[0][0].device)
    shares = (shares / shares.sum()).view(-1, 1, 1, 1, 1)
    means, variances = (torch.stack([part[at] for part in parts]).double() for at in (0, 1))
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean).square())).sum(0)
    return mean.float(), variance.float()


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
