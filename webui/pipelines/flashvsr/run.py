"""A run: the frames of a video through the model, block by block, whole or in tiles.

A block is some chunks, about a hundred frames. In each block the phases `project`, `denoise` and
`decode` follow one another, so that a component can leave the card between them; what the model
remembers goes on to the next block, and memory does not depend on the length of the video.

Shapes: B batch (tiles), T frames, H height, W width in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from webui.pipelines.flashvsr.attention import SPARSE_RATIOS, make_rule
from webui.pipelines.flashvsr.colour import fix_colour
from webui.pipelines.flashvsr.components import FlashVsrPipeline
from webui.pipelines.flashvsr.frames import (
    Chunk,
    Frame,
    Part,
    Reader,
    count_chunks,
    frames_of_latent,
    padded_size,
)
from webui.pipelines.flashvsr.kernels import warm_up
from webui.pipelines.flashvsr.projection import CELL_PX
from webui.pipelines.flashvsr.stream import Noise, Stream, Tokens, to_bytes, to_pixels
from webui.pipelines.flashvsr.transformer import TextKeys
from webui.pipelines.running import Report, check_finite, checked

BLOCK_FRAMES = 96
"""Frames that pass one phase before the next phase follows."""
_LATENT_PX = 8


class Segment(Protocol):
    """Frames that follow one another."""

    @property
    def count(self) -> int:
        """Of frames to read, and to write."""


class Footage(Protocol):
    """Where frames come from and go to."""

    @property
    def segments(self) -> Sequence[Any]:
        """What is to be done, piece by piece."""

    def read(self, segment: Any) -> Iterator[Frame]:
        """The frames of a segment (H W 3)."""

    def write(self, segment: Any, index: int, frame: Frame) -> None:
        """Takes a frame of the result; `index` counts in the segment."""

    def finish(self, segment: Any) -> None:
        """All frames of a segment were written."""


def run(
    pipe: FlashVsrPipeline,
    request: Any,
    settings: Mapping[str, Any],
    report: Report,
    footage: Footage,
) -> None:
    """Upscales what the footage reads, and hands it back frame by frame.

    Args:
        pipe: the model.
        request: `scale`, `height`, `width` (of the input), `seed`, and `colour`: adain, wavelet or
            none.
        settings: `sparsity` among them.
        report: told of phases and steps.
        footage: frames in and out.

    Raises:
        Cancelled: the report says so, at the next transformer block.
        RunFailed: the numbers overflowed.
    """
    work = Work(pipe, request, settings, report, sum(item.count for item in footage.segments))
    whole = (Part(0, 0, request.height, request.width),)
    size = (request.height * request.scale, request.width * request.scale)
    work.warm_up(whole)
    for segment in footage.segments:
        reader = Reader(iter(footage.read(segment)), whole, request.scale)
        try:
            for number, clip in work.restore(reader, segment, whole, request.colour):
                for index in range(clip.shape[1]):
                    frame = clip[0, index, : size[0], : size[1]]
                    footage.write(segment, number + index, frame)
        finally:
            reader.close()
        footage.finish(segment)


@dataclass(slots=True)
class _Progress:
    """Frames that each phase has seen."""

    report: Report
    total: int
    done: dict[str, int]

    def add(self, phase: str, frames: int) -> None:
        self.done[phase] = min(self.total, self.done.get(phase, 0) + frames)
        self.report.step(self.done[phase], self.total)


class Work:
    """What the pieces of a run share.

    Args:
        pipe: the model.
        request: see `run`.
        settings: see `run`.
        report: told of phases and steps.
        frames: that pass the model in all; those of a batch of tiles count once.
    """

    def __init__(
        self,
        pipe: FlashVsrPipeline,
        request: Any,
        settings: Mapping[str, Any],
        report: Report,
        frames: int,
    ) -> None:
        self._pipe, self._request, self._report = pipe, request, report
        self._ratio = SPARSE_RATIOS[str(settings.get("sparsity", "stable"))]
        self._dense = bool(settings.get("dense"))
        self._text = TextKeys()
        self._progress = _Progress(report, frames, {})
        scale = request.scale
        sides = padded_size(request.height * scale, request.width * scale)
        self._noise = Noise(request.seed, *(side // _LATENT_PX for side in sides))

    def _size(self, parts: Sequence[Part]) -> tuple[int, int]:
        """Of the enlarged parts, in pixels."""
        scale = self._request.scale
        return padded_size(parts[0].height * scale, parts[0].width * scale)

    def warm_up(self, parts: Sequence[Part]) -> None:
        """Has the attention compiled for the parts' size, where it is and was not yet."""
        pipe, (height, width) = self._pipe, self._size(parts)
        if self._dense or pipe.run_device.type != "cuda":
            return
        config = pipe.transformer.config
        tokens = 2 * (height // CELL_PX) * (width // CELL_PX)
        self._report.begin("denoise")
        warm_up(
            pipe.run_device,
            pipe.dtype,
            (len(parts), tokens, config.num_attention_heads, config.attention_head_dim),
        )
        self._report.warmed_up()

    def restore(
        self, reader: Reader, segment: Segment, parts: Sequence[Part], colour: str
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The parts of a segment's frames, in order.

        Args:
            reader: of the segment's frames.
            segment: says how many there are; `start`, where it has one, is the number of its
                first frame in the video.
            parts: of each frame; all of one size.
            colour: how colours are brought back; `none` also rounds, for tiles to be joined.

        Yields:
            The number of the first, and some frames (B T H W 3, uint8).
        """
        pipe, report = self._pipe, self._report
        size = self._size(parts)
        rule = make_rule(*size, pipe.run_device, sparse_ratio=self._ratio, dense=self._dense)
        stream = Stream(pipe, rule, self._text)
        chunks = [Chunk(index) for index in range(count_chunks(segment.count))]
        step = BLOCK_FRAMES // len(Chunk(1).frames)
        # Latents are made four frames at a time.
        offset = getattr(segment, "start", 0) // 4
        for first in range(0, len(chunks), step):
            block = chunks[first : first + step]
            report.begin("project")
            tokens = self._project(stream, reader, block, (len(parts), *size))
            report.begin("denoise")
            with checked(pipe.transformer.blocks, report.check):
                latents = [
                    self._denoise(stream, tokens, chunk, block[0], parts, size, offset)
                    for chunk in block
                ]
            del tokens
            for made in latents:
                check_finite(made)
            report.begin("decode")
            last = segment.count
            frames = self._decode(stream, reader, block, latents, last, colour)
            del latents
            yield from handed_over(frames)

    def _project(
        self, stream: Stream, reader: Reader, block: Sequence[Chunk], shape: tuple[int, int, int]
    ) -> Tokens:
        pipe, (batch, height, width) = self._pipe, shape
        count = sum(len(chunk.latents) for chunk in block)
        dim = (
            pipe.transformer.config.num_attention_heads * pipe.transformer.config.attention_head_dim
        )
        cells = (height // CELL_PX) * (width // CELL_PX)
        held = Tokens(count, (batch, cells, dim), pipe.dtype, pipe.run_device)
        for chunk in block:
            for numbers in chunk.clips:
                self._report.check()
                tokens = stream.project(to_pixels(reader.take(numbers), pipe.run_device))
                if tokens is not None:
                    held.put(tokens)
            self._progress.add("project", len(chunk.frames))
        return held

    def _denoise(
        self,
        stream: Stream,
        tokens: Tokens,
        chunk: Chunk,
        first: Chunk,
        parts: Sequence[Part],
        size: tuple[int, int],
        offset: int,
    ) -> torch.Tensor:
        scale = self._request.scale
        corners = [
            (part.top * scale // _LATENT_PX, part.left * scale // _LATENT_PX) for part in parts
        ]
        side = (size[0] // _LATENT_PX, size[1] // _LATENT_PX)
        noise = torch.cat(
            [self._noise.of(latent + offset, corners, side) for latent in chunk.latents], 2
        ).to(self._pipe.run_device)
        start = chunk.latents.start - first.latents.start
        latents = stream.denoise(noise, tokens.get(start, len(chunk.latents)))
        self._progress.add("denoise", len(chunk.frames))
        return latents

    def _decode(
        self,
        stream: Stream,
        reader: Reader,
        block: Sequence[Chunk],
        latents: list[torch.Tensor],
        last: int,
        colour: str,
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """The number of the first, and the frames of each latent (B T H W 3, uint8)."""
        latents = latents[::-1]
        for chunk in block:
            made = latents.pop()
            for index, latent in enumerate(chunk.latents):
                numbers = frames_of_latent(latent)
                self._report.check()
                clip = to_pixels(reader.take(numbers), self._pipe.run_device)
                reader.let_go(numbers.stop)
                pictures = stream.decode(made[:, :, index], clip)
                found = [
                    to_bytes(fix_colour(picture, clip[:, :, at], colour), colour == "none")
                    for at, picture in enumerate(pictures)
                ]
                wanted = min(len(found), last - numbers.start)
                if wanted > 0:
                    yield numbers.start, torch.stack(found[:wanted], 1)
                    self._progress.add("decode", wanted)


def handed_over(
    clips: Iterator[tuple[int, torch.Tensor]],
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Clips in host memory; each is copied while the next one is computed."""
    waiting: tuple[int, torch.Tensor, Any] | None = None
    for number, clip in clips:
        done = None
        if clip.device.type == "cuda":
            host = torch.empty(clip.shape, dtype=clip.dtype, pin_memory=True)
            host.copy_(clip, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
            clip = host
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = (number, clip, done)
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(number: int, clip: torch.Tensor, done: Any) -> tuple[int, NDArray[np.uint8]]:
    if done is not None:
        done.synchronize()
    return number, clip.numpy()
