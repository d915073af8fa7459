"""The projection of the low-quality frames to tokens: what tells the transformer what to restore.

It streams: four frames give the tokens of one latent frame, and what the convolutions look back
at is kept by the caller. FlashVSR (OpenImagingLab/FlashVSR, examples/WanVSR/utils/utils.py:
Causal_LQ4x_Proj of v1.1, Buffer_LQ4x_Proj of v1).

Shapes: B batch, C channels, T frames, H height and W width in pixels, h = H / 16 and w = W / 16
in tokens, D width of the transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

CLIP_FRAMES = 4
"""Frames that give the tokens of one latent frame."""
CELL_PX = 16
"""Side of the square of pixels that becomes one token."""
_KERNEL, _STRIDE = (4, 3, 3), (2, 1, 1)
_LOOK_BACK = 2
"""Frames in front of a clip that a convolution needs, so that it halves their number."""
_MIN_NORM = 1e-12


@dataclass(slots=True)
class ProjectionState:
    """What one video's next clip needs of the clips before; empty at its start."""

    calls: int = 0
    first: torch.Tensor | None = None
    """The last frames that the first convolution saw (B C 2 h w)."""
    second: torch.Tensor | None = None
    """The last frames that the second one saw."""


class ClipConvolution(nn.Conv3d):
    """A convolution over 4 frames with step 2, computed as one over pictures.

    The kernel is as long as what it sees in time, so frames can be laid beside the channels: the
    same sums, by the library's fastest kernels, and without the memory that a convolution in
    three dimensions takes.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """B C T h w, T even and at least 4, to B C (T - 2) / 2 h w; borders are repeated."""
        length, step = _KERNEL[0], _STRIDE[0]
        batch, frames = len(input), (input.shape[2] - length) // step + 1
        spans = [input[:, :, step * n : step * n + length].flatten(1, 2) for n in range(frames)]
        pictures = functional.pad(torch.cat(spans), (1, 1, 1, 1), mode="replicate")
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        found = functional.conv2d(pictures, self.weight.flatten(1, 2), self.bias)
        return found.view(frames, batch, *found.shape[1:]).permute(1, 2, 0, 3, 4)

    def store_for_pictures(self) -> None:
        """Lays the weights out as the kernels take them; values and shape stay."""
        flat = self.weight.data.flatten(1, 2).contiguous(memory_format=torch.channels_last)
        self.weight.data = flat.unflatten(1, self.weight.shape[1:3])


class ChannelNorm(nn.Module):
    """Scales each position's channels to the length that `gamma` was trained for."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1, 1))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """B C T h w."""
        scale = values.shape[1] ** 0.5
        return functional.normalize(values, dim=1, eps=_MIN_NORM) * scale * self.gamma


class Projection(nn.Module):
    """Frames to tokens; parameters are named as in the authors' `LQ_proj_in.ckpt`.

    Args:
        version: `v1.1`, whose convolutions look back at the clip before, or `v1`, whose look at
            the end of their own.
        in_channels: of the frames.
        hidden: channels after the first and the second convolution.
        dim: width of a token.

    Raises:
        ValueError: there is no such version.
    """

    def __init__(
        self,
        version: str = "v1.1",
        in_channels: int = 3,
        hidden: Sequence[int] = (2048, 3072),
        dim: int = 1536,
    ) -> None:
        super().__init__()
        if version not in ("v1", "v1.1"):
            raise ValueError(f"no projection of version {version}")
        self.causal = version == "v1.1"
        first, second = hidden
        self.conv1 = ClipConvolution(in_channels * CELL_PX**2, first, _KERNEL, _STRIDE)
        self.norm1 = ChannelNorm(first)
        self.conv2 = ClipConvolution(first, second, _KERNEL, _STRIDE)
        self.norm2 = ChannelNorm(second)
        self.linear_layers = nn.ModuleList([nn.Linear(second, dim)])

    def forward(self, frames: torch.Tensor, state: ProjectionState) -> torch.Tensor | None:
        """The next clip of a video.

        Args:
            frames: pixels in -1..1 (B C T H W); one frame in the video's first call, then four.
            state: of the video; written.

        Returns:
            The tokens (B h*w D) of one latent frame; None in the first call.
        """
        state.calls += 1
        if state.calls == 1:
            if self.causal:
                self._start(frames, state)
            return None
        cells = _to_cells(frames)
        hidden = self._first(cells, state)
        before = state.second if self.causal else hidden[:, :, -_LOOK_BACK:]
        assert before is not None
        if self.causal:
            state.second = hidden[:, :, -_LOOK_BACK:].clone()
        hidden = self.conv2(torch.cat((before, hidden), 2))
        hidden = functional.silu(self.norm2(hidden))
        return self.linear_layers[0](hidden.flatten(2).transpose(1, 2))  # type: ignore[no-any-return]

    def _start(self, frames: torch.Tensor, state: ProjectionState) -> None:
        """The first frame stands for a clip; what it gives is only looked back at."""
        cells = _to_cells(frames).expand(-1, -1, CLIP_FRAMES, -1, -1)
        state.second = self._first(cells, state)

    def _first(self, cells: torch.Tensor, state: ProjectionState) -> torch.Tensor:
        last = cells[:, :, -_LOOK_BACK:]
        before = state.first if self.causal else last
        if before is None:
            before = cells[:, :, :1].expand(-1, -1, _LOOK_BACK, -1, -1)
        hidden = self.conv1(torch.cat((before, cells), 2))
        if self.causal:
            state.first = last.clone()
        return functional.silu(self.norm1(hidden))


def _to_cells(frames: torch.Tensor) -> torch.Tensor:
    """B C T H W to B C*256 T h w; channels by colour, row and column in the cell."""
    cells = functional.pixel_unshuffle(frames.transpose(1, 2), CELL_PX)
    return cells.transpose(1, 2)
