"""Frames through the model, block by block: what `run` does to a frame, or to tiles of it.

A block is some chunks, about a hundred frames. In each block the phases `project`, `denoise` and
`decode` follow one another, so that a component can leave the card between them; what the model
remembers goes on to the next block, and memory does not depend on the length of the video.

Shapes: B batch (tiles), T frames, H height, W width in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from webui.pipelines.depth import Frames, in_host, is_deep, sent
from webui.pipelines.flashvsr.attention import SPARSE_RATIOS, Rule, make_rule
from webui.pipelines.flashvsr.colour import fix_colour
from webui.pipelines.flashvsr.components import FlashVsrPipeline
from webui.pipelines.flashvsr.frames import (
    Chunk,
    Parts,
    Reader,
    count_chunks,
    frames_of_latent,
    padded_size,
)
from webui.pipelines.flashvsr.kernels import can_compile, compiled_works, warm_up
from webui.pipelines.flashvsr.projection import CELL_PX
from webui.pipelines.flashvsr.stream import Noise, Stream, Tokens, to_levels, to_pixels
from webui.pipelines.flashvsr.transformer import TextKeys
from webui.pipelines.running import Report, check_finite, checked
from webui.pipelines.tiles import Tile
from webui.pipelines.waits import READING, waiting
from webui.video.beside import Ahead

BLOCK_FRAMES = 96
"""Frames that pass one phase before the next phase follows."""
_LATENT_PX = 8
_DRAWN_AHEAD = 2
"""Chunks whose noise is drawn before it is asked for, and one more on its way."""


@dataclass(slots=True)
class Progress:
    """Frames that each phase has seen; a tile's count for its share of the frame."""

    report: Report
    total: int
    done: dict[str, float] = field(default_factory=dict)

    def add(self, phase: str, frames: float) -> None:
        """Some more have passed."""
        self.done[phase] = self.done.get(phase, 0.0) + frames
        self.report.step(min(self.total, round(self.done[phase])), self.total)


class Blocks:
    """What all videos and tiles of a run share.

    Args:
        pipe: the model.
        request: `scale`, `height`, `width` (of the input) and `seed`.
        settings: `sparsity`; `dense` attends to everything, only to compare with.
        report: told of phases and steps.
        frames: of the input in all.
        block_frames: that pass one phase before the next phase follows.
    """

    def __init__(
        self,
        pipe: FlashVsrPipeline,
        request: Any,
        settings: Mapping[str, Any],
        report: Report,
        frames: int,
        block_frames: int = BLOCK_FRAMES,
    ) -> None:
        self.pipe, self.report = pipe, report
        self.scale = int(request.scale)
        self.text = TextKeys()
        self.progress = Progress(report, frames)
        self._sparse_ratio = SPARSE_RATIOS[str(settings.get("sparsity", "stable"))]
        self._dense = bool(settings.get("dense"))
        self._chunks = max(1, block_frames // len(Chunk(1).frames))
        sides = padded_size(request.height * self.scale, request.width * self.scale)
        self.noise = Noise(request.seed, *(side // _LATENT_PX for side in sides))

    def size(self, parts: Sequence[Tile]) -> tuple[int, int]:
        """Of the enlarged parts, padded, in pixels."""
        return padded_size(parts[0].height * self.scale, parts[0].width * self.scale)

    def rule(self, parts: Sequence[Tile]) -> Rule:
        """How the attention of parts of a size chooses."""
        return make_rule(
            *self.size(parts),
            self.pipe.run_device,
            sparse_ratio=self._sparse_ratio,
            dense=self._dense,
        )

    def warm_up(self, parts: Sequence[Tile]) -> None:
        """Has the attention compiled for the parts' size, where it is and was not yet."""
        pipe, (height, width) = self.pipe, self.size(parts)
        if self._dense or not can_compile(pipe.run_device):
            return
        config = pipe.transformer.config
        tokens = 2 * (height // CELL_PX) * (width // CELL_PX)
        shape = (len(parts), tokens, config.num_attention_heads, config.attention_head_dim)
        self.report.begin("denoise")
        if compiled_works(pipe.run_device, pipe.dtype):
            warm_up(pipe.run_device, pipe.dtype, shape)
        self.report.warmed_up()

    def restore(
        self,
        reader: Reader,
        segment: Any,
        parts: Sequence[Tile],
        colour: str | None,
        share: float = 1.0,
    ) -> Iterator[tuple[int, Frames]]:
        """The parts of a segment's frames, enlarged and restored, in order.

        Args:
            reader: of the segment's frames, with the same parts.
            segment: `count` says how many there are; `read_start`, where it has one, is the number
                of the first in the video.
            parts: of each frame; all of one size.
            colour: how colours are brought back: adain, wavelet or none; None where the parts are
                yet to be joined.
            share: of the frame that the parts are, for the progress.

        Yields:
            The number of the first, and some frames (B T H W 3), without what was padded.
        """
        video = _Video(self, reader, segment, parts, share)
        chunks = [Chunk(index) for index in range(count_chunks(segment.count))]
        with Ahead(video.noises(chunks), _DRAWN_AHEAD) as noises:
            for first in range(0, len(chunks), self._chunks):
                block = chunks[first : first + self._chunks]
                self.report.begin("project")
                tokens = video.project(block)
                self.report.begin("denoise")
                latents = video.denoise(block, tokens, noises)
                del tokens
                self.report.begin("decode")
                yield from handed_over(video.decode(block, latents, colour))


class _Video:
    """The three phases of one video, or of some tiles of it."""

    def __init__(
        self, blocks: Blocks, reader: Reader, segment: Any, parts: Sequence[Tile], share: float
    ) -> None:
        self._blocks, self._reader, self._parts, self._share = blocks, reader, parts, share
        self._device = blocks.pipe.run_device
        self._count = int(segment.count)
        self._deep = False
        """The frames have more than 8 bits; those that are made, too."""
        # Latents are made four frames at a time.
        self._first_latent = int(getattr(segment, "read_start", 0)) // 4
        self._stream = Stream(blocks.pipe, blocks.rule(parts), blocks.text)

    def _passed(self, phase: str, frames: range) -> None:
        """Tells of frames; those beyond the last one do not count."""
        count = len(range(frames.start, min(frames.stop, self._count)))
        self._blocks.progress.add(phase, count * self._share)

    def _taken(self, numbers: range) -> list[Parts]:
        """Frames by their numbers, waited for if need be."""
        with waiting(self._blocks.report, READING):
            frames = self._reader.take(numbers)
        self._deep = is_deep(frames[0][0])
        return frames

    def project(self, block: Sequence[Chunk]) -> Tokens:
        pipe, (height, width) = self._blocks.pipe, self._blocks.size(self._parts)
        config = pipe.transformer.config
        shape = (
            len(self._parts),
            (height // CELL_PX) * (width // CELL_PX),
            config.num_attention_heads * config.attention_head_dim,
        )
        count = sum(len(chunk.latents) for chunk in block)
        held = Tokens(count, shape, pipe.dtype, self._device)
        for chunk in block:
            for numbers in chunk.clips:
                self._blocks.report.check()
                clip = to_pixels(self._taken(numbers), self._device)
                tokens = self._stream.project(clip)
                if tokens is not None:
                    held.put(tokens)
            self._passed("project", chunk.frames)
        return held

    def denoise(
        self, block: Sequence[Chunk], tokens: Tokens, noises: Iterator[list[torch.Tensor]]
    ) -> list[torch.Tensor]:
        """Latents of each chunk (B 16 f h w)."""
        first, made = block[0].latents.start, []
        with checked(self._blocks.pipe.transformer.blocks, self._blocks.report.check):
            for chunk in block:
                held = tokens.get(chunk.latents.start - first, len(chunk.latents))
                # The noise is in no variable: it leaves the card with its chunk.
                made.append(
                    self._stream.denoise(sent(torch.cat(next(noises), 2), self._device), held)
                )
                self._passed("denoise", chunk.frames)
        for latents in made:
            check_finite(latents)
        return made

    def noises(self, chunks: Sequence[Chunk]) -> Iterator[list[torch.Tensor]]:
        """That of each latent frame of each chunk (B 16 1 h w), in host memory.

        Drawing is what takes long. They are joined by who takes them: on a processor only what the
        model's own thread makes is counted.
        """
        scale = self._blocks.scale
        corners = [
            (part.top * scale // _LATENT_PX, part.left * scale // _LATENT_PX)
            for part in self._parts
        ]
        height, width = self._blocks.size(self._parts)
        side = (height // _LATENT_PX, width // _LATENT_PX)
        for chunk in chunks:
            yield [
                self._blocks.noise.of(latent + self._first_latent, corners, side)
                for latent in chunk.latents
            ]

    def decode(
        self, block: Sequence[Chunk], latents: list[torch.Tensor], colour: str | None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """The number of the first, and the frames of each latent (B T H W 3)."""
        for chunk, made in zip(block, latents, strict=True):
            for index, latent in enumerate(chunk.latents):
                numbers = frames_of_latent(latent)
                self._blocks.report.check()
                clip = to_pixels(self._taken(numbers), self._device)
                self._reader.let_go(numbers.stop)
                pictures = self._finished(
                    self._stream.decode(made[:, :, index], clip), clip, colour
                )
                found = list(pictures)[: max(0, self._count - numbers.start)]
                if found:
                    yield numbers.start, torch.stack(found, 1)
                self._passed("decode", numbers)

    def _finished(
        self, pictures: Iterator[torch.Tensor], clip: torch.Tensor, colour: str | None
    ) -> Iterator[torch.Tensor]:
        """Cut to what is not padding, with their colours (B H W 3)."""
        scale = self._blocks.scale
        rows = slice(self._parts[0].height * scale)
        columns = slice(self._parts[0].width * scale)
        for index, picture in enumerate(pictures):
            picture = picture[:, :, rows, columns]
            if colour is not None:
                picture = fix_colour(picture, clip[:, :, index, rows, columns], colour)
            yield to_levels(picture, colour is None, self._deep)


def handed_over(
    clips: Iterator[tuple[int, torch.Tensor]],
) -> Iterator[tuple[int, Frames]]:
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


def _arrived(number: int, clip: torch.Tensor, done: Any) -> tuple[int, Frames]:
    if done is not None:
        done.synchronize()
    return number, in_host(clip.numpy())
