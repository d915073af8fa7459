"""The tiny conditional decoder: latents and the low-quality frames to frames, as they come.

It remembers one picture for each of its memory blocks, so a video streams through it. FlashVSR
(OpenImagingLab/FlashVSR, examples/WanVSR/utils/TCDecoder.py), after TAEHV (madebyollin/taehv).

Shapes: B batch, C channels, T frames, H height, W width, in pixels or (h w) in latent ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

LATENT_FRAMES = 4
"""Frames that a latent frame decodes to."""
_CELL_PX = 8


@dataclass(slots=True)
class DecoderState:
    """What one video's next latent needs of those before; empty at its start."""

    memories: dict[str, torch.Tensor] = field(default_factory=dict)
    """By memory block: its input one step of time ago (B C h w)."""


class MemoryBlock(nn.Module):
    """Three convolutions over a picture and the one before it, around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, picture: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """Both B C h w."""
        return functional.relu_(self.conv(torch.cat((picture, past), 1)).add_(picture))


class Growth(nn.Module):
    """One picture to `times` that follow one another."""

    def __init__(self, channels: int, times: int) -> None:
        super().__init__()
        self.times = times
        self.conv = nn.Conv2d(channels, channels * times, 1, bias=False)

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """B C h w each."""
        return self.conv(picture).chunk(self.times, 1)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Parameters are named as in the authors' `TCDecoder.ckpt`.

    Frames go through one after the other and depth first: at full size only one is in memory,
    and one already fills a GPU.

    Args:
        channels: of the four levels, from the latent's size to the frames'.
        latent_channels: of the latents.
    """

    def __init__(
        self, channels: Sequence[int] = (512, 256, 128, 128), latent_channels: int = 16
    ) -> None:
        super().__init__()
        conditions = 3 * LATENT_FRAMES * _CELL_PX**2
        first, second, third, last = channels

        def plain(wide: int, narrow: int) -> nn.Conv2d:
            return nn.Conv2d(wide, narrow, 3, padding=1, bias=False)

        layers: dict[int, nn.Module] = {
            1: nn.Conv2d(conditions + latent_channels, first, 3, padding=1),
            3: plain(first, first),
            9: Growth(first, 1),
            10: plain(first, second),
            15: Growth(second, 2),
            16: plain(second, third),
            21: Growth(third, 2),
            22: plain(third, last),
            24: plain(last, last),
            26: nn.Conv2d(last, 3, 3, padding=1),
        }
        for start, width in ((5, first), (11, second), (17, third)):
            layers |= {start + number: MemoryBlock(width) for number in range(3)}
        self.decoder = nn.ModuleDict({str(at): layers[at] for at in sorted(layers)})

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return next(self.parameters()).dtype

    def forward(
        self, latent: torch.Tensor, clip: torch.Tensor, state: DecoderState
    ) -> Iterator[torch.Tensor]:
        """The frames of the next latent of a video, one by one.

        Args:
            latent: B C h w.
            clip: the low-quality frames in -1..1 (B 3 T H W): one at the start, then four.
            state: of the video; written.

        Yields:
            B 3 H W, about 0..1, not held within.
        """
        surplus = LATENT_FRAMES - clip.shape[2]
        clip = torch.cat((clip[:, :, :1].expand(-1, -1, surplus, -1, -1), clip), 2)
        joined = torch.tanh(torch.cat((_to_cells(clip), latent), 1) / 3) * 3
        for number, picture in enumerate(self._decode(joined, state)):
            if number >= surplus:
                yield picture

    def _decode(self, joined: torch.Tensor, state: DecoderState) -> Iterator[torch.Tensor]:
        layers = self.decoder
        picture = joined.contiguous(memory_format=torch.channels_last)
        picture = functional.relu_(layers["1"](picture))
        picture = functional.relu_(layers["3"](picture))
        picture = self._remember(5, picture, state)
        for second in self._grow(9, picture):
            second = self._remember(11, second, state)
            for third in self._grow(15, second):
                third = self._remember(17, third, state)
                for last in self._grow(21, third):
                    picture = self._finish(last)
                    # At the frames' size: not one more than is needed.
                    del last
                    yield picture

    def _finish(self, picture: torch.Tensor) -> torch.Tensor:
        picture = self.decoder["24"](functional.relu_(picture))
        found: torch.Tensor = self.decoder["26"](functional.relu_(picture))
        return found

    def _remember(self, first: int, picture: torch.Tensor, state: DecoderState) -> torch.Tensor:
        for at in range(first, first + 3):
            key = str(at)
            past = state.memories.get(key)
            if past is None:
                past = torch.zeros_like(picture)
            state.memories[key] = picture
            picture = self.decoder[key](picture, past)
        return picture

    def _grow(self, at: int, picture: torch.Tensor) -> Iterator[torch.Tensor]:
        """To twice the size. Growth looks at single positions, so it goes before the copies that
        enlarging makes: the same values for a quarter of the work."""
        for grown in self.decoder[str(at)](picture):
            yield self.decoder[str(at + 1)](
                functional.interpolate(grown, scale_factor=2.0, mode="nearest")
            )


def _to_cells(clip: torch.Tensor) -> torch.Tensor:
    """B 3 4 H W to B 768 h w; channels by colour, frame, row and column in the cell."""
    return functional.pixel_unshuffle(clip.flatten(1, 2), _CELL_PX)
