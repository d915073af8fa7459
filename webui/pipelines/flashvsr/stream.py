"""One video, or tiles of one size of it, on its way through the model: what it carries along.

Everything is done chunk by chunk, in the order of the authors' `tiny long` pipeline, so it does
not matter how many chunks pass one part of the model before the next part follows.

Shapes: B batch (tiles), T frames, H height and W width in pixels, f latent frames, h = H / 8 and
w = W / 8, N tokens of a latent frame, D width of a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from webui.pipelines.depth import Frames, deep_levels, on_device, shares
from webui.pipelines.flashvsr.attention import Rule
from webui.pipelines.flashvsr.components import FlashVsrPipeline
from webui.pipelines.flashvsr.decoding import Decoding, FullDecoding, TinyDecoding
from webui.pipelines.flashvsr.projection import ProjectionState
from webui.pipelines.flashvsr.transformer import TextKeys, TransformerState, predict

LATENT_CHANNELS = 16


class Stream:
    """The state of one video.

    Args:
        pipe: the model.
        rule: of the attention, for the frames' size.
        text: keys and values of the prompt, shared by all videos of a run.
    """

    def __init__(self, pipe: FlashVsrPipeline, rule: Rule, text: TextKeys) -> None:
        self._pipe = pipe
        self._projection = ProjectionState()
        self._transformer = TransformerState(len(pipe.transformer.blocks), rule, text)
        self._decoding: Decoding = (
            FullDecoding(pipe.vae) if pipe.decoder is None else TinyDecoding(pipe.decoder)
        )

    @torch.no_grad()
    def project(self, clip: torch.Tensor) -> torch.Tensor | None:
        """The next clip's tokens.

        Args:
            clip: pixels in -1..1 (B 3 T H W), T 1 in the first call, then 4.

        Returns:
            B N D for one latent frame; None in the first call.
        """
        tokens: torch.Tensor | None = self._pipe.projection(
            clip.to(self._pipe.dtype), self._projection
        )
        return tokens

    @torch.no_grad()
    def denoise(self, noise: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The next chunk's latents.

        Args:
            noise: B 16 f h w, float32; f 6 in the first chunk, then 2.
            tokens: of these latent frames (B f*N D).

        Returns:
            B 16 f h w, float32.
        """
        pipe = self._pipe
        predicted = predict(
            pipe.transformer, self._transformer, noise.to(pipe.dtype), tokens, pipe.prompt
        )
        return noise - predicted

    @torch.no_grad()
    def decode(self, latent: torch.Tensor, clip: torch.Tensor) -> Iterator[torch.Tensor]:
        """The frames of the next latent frame, one by one: see `Decoding.frames`."""
        yield from self._decoding.frames(latent, clip)


class Tokens:
    """Tokens of a block of chunks, between the phase that makes them and the one that takes them.

    They wait on the card where they are few, else in (page-locked) host memory.

    Args:
        latents: of the block.
        shape: of one latent frame's tokens (B N D).
        dtype: of the tokens.
        device: of the run.
    """

    MOST_ON_CARD_BYTES = 256 * 2**20

    def __init__(
        self, latents: int, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        batch, count, width = shape
        self._device = device
        size_bytes = latents * batch * count * width * dtype.itemsize
        waits_here = device.type != "cuda" or size_bytes <= self.MOST_ON_CARD_BYTES
        self._held = torch.empty(
            (batch, latents, count, width),
            dtype=dtype,
            device=device if waits_here else "cpu",
            pin_memory=not waits_here,
        )
        self._next = 0

    def put(self, tokens: torch.Tensor) -> None:
        """Takes those of the next latent frame (B N D)."""
        self._held[:, self._next].copy_(tokens, non_blocking=True)
        self._next += 1

    def get(self, first: int, count: int) -> torch.Tensor:
        """Those of some latent frames of the block, on the run's device (B count*N D)."""
        part = self._held[:, first : first + count]
        return part.to(self._device, non_blocking=True).flatten(1, 2)


class Noise:
    """The noise of latent frames, the same for a place and time however a video is cut.

    It is drawn on the processor for the whole frame, so that tiles and segments that share frames
    share their noise, and a seed means the same on every device.

    Args:
        seed: of the request.
        height: of the whole frame in latents.
        width: likewise.
    """

    def __init__(self, seed: int, height: int, width: int) -> None:
        self._seed = max(seed, 0)
        self._size = (height, width)

    def of(
        self, latent: int, corners: list[tuple[int, int]], size: tuple[int, int]
    ) -> torch.Tensor:
        """Of one latent frame (B 16 1 h w, float32).

        Args:
            latent: its number in the whole video.
            corners: top and left of every tile, in latents.
            size: of a tile, in latents; what reaches beyond the frame begins at its other side.
        """
        state = np.random.SeedSequence((self._seed, latent)).generate_state(1)
        generator = torch.Generator("cpu").manual_seed(int(state[0]))
        whole = torch.randn((LATENT_CHANNELS, *self._size), generator=generator)
        rows, columns = (torch.arange(side) for side in size)
        parts = [
            whole[:, (rows + top) % self._size[0]][:, :, (columns + left) % self._size[1]]
            for top, left in corners
        ]
        return torch.stack(parts)[:, :, None]


def to_pixels(clip: Sequence[Sequence[Frames]], device: torch.device) -> torch.Tensor:
    """The B parts (H W 3) of each of T frames to pixels in -1..1 (B 3 T H W, float32)."""
    parts = [frame[part] for part in range(len(clip[0])) for frame in clip]
    levels = on_device(parts, device).unflatten(0, (-1, len(clip)))
    return shares(levels.permute(0, 4, 1, 2, 3)).mul_(2).sub_(1)


def to_levels(pixels: torch.Tensor, rounded: bool = False, deep: bool = False) -> torch.Tensor:
    """Pixels in -1..1 (B 3 H W) to whole numbers (B H W 3).

    Args:
        pixels: stay as they are.
        rounded: to the nearest of 8 bits; otherwise they are cut, as the authors do.
        deep: 16 bits, always rounded.
    """
    if deep:
        return deep_levels(pixels.add(1).mul_(0.5)).permute(0, 2, 3, 1)
    values = pixels.add(1).mul_(127.5)
    if rounded:
        values.round_()
    return values.clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
