"""A run over frames: each is upscaled by itself, whole or in tiles, several at once.

Shapes: B batch (frames, or tiles of one or more frames), H height, W width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch

from webui.core.text import Text
from webui.core.units import MIB
from webui.pipelines.depth import Frames, deep_levels, in_host, on_device, shares
from webui.pipelines.footage import Footage
from webui.pipelines.running import Report, check_finite, checked
from webui.pipelines.swin2sr.components import PHASE, Swin2srPipeline
from webui.pipelines.tile_batch import follows_memory, new_tile_batch
from webui.pipelines.tiles import FrameBlend, TileGrid
from webui.pipelines.waits import READING, WRITING, waiting
from webui.video.beside import Ahead, Beside

Pixels = Frames
_JOINING = 2
"""Batches that wait to be joined at most."""
_MOST_AHEAD, _AHEAD_BYTES = 64, 64 * MIB
"""Frames that are read ahead."""


@dataclass(slots=True)
class _Frame:
    """A frame whose tiles are on their way."""

    index: int
    blend: FrameBlend


@dataclass(slots=True)
class _Job:
    """A tile that waits."""

    frame: _Frame
    pixels: Pixels


def run(
    pipe: Swin2srPipeline,
    request: Any,
    settings: Mapping[str, Any],
    report: Report,
    footage: Footage,
) -> None:
    """Upscales what the footage reads, and hands it back frame by frame.

    Args:
        pipe: the models.
        request: `scale`, `height` and `width` (of the input).
        settings: `tile` (pixels of the input; 0 for the whole frame), `tile_overlap` and
            `tile_batch` among them.
        report: told of the phase and of frames; of the batch's changes too, if it has `tell`.
        footage: frames in and out.

    Raises:
        BadInput: a tile is not larger than its overlap.
        Cancelled: the report says so, at the next layer.
        RunFailed: the numbers overflowed.
    """
    grid = new_grid(pipe, request, settings)
    report.begin(PHASE)
    batch = new_tile_batch(settings, pipe.run_device, _teller(report), follows_memory(request))
    done, total = 0, footage.total

    def jobs(frames: Iterator[Pixels]) -> Iterator[_Job]:
        for index in count():
            with waiting(report, READING):
                pixels = next(frames, None)
            if pixels is None:
                return
            frame = _Frame(index, FrameBlend(grid, request.scale, dtype=pixels.dtype.type))
            for tile in grid.tiles:
                yield _Job(frame, tile.cut(pixels))

    def compute(taken: Sequence[_Job]) -> Pixels:
        clip = on_device([job.pixels for job in taken], pipe.run_device)
        return in_host(upscale(pipe, clip, request.scale).cpu().numpy())

    def join(segment: Any, taken: Sequence[_Job], made: Pixels) -> None:
        nonlocal done
        for job, pixels in zip(taken, made, strict=True):
            job.frame.blend.add(pixels)
            if job.frame.blend.done:
                footage.write(segment, job.frame.index, job.frame.blend.frame)
                done += 1
                report.step(done, total)

    def take(joiner: Beside, segment: Any, taken: Sequence[_Job], made: Pixels) -> None:
        with waiting(report, WRITING):
            joiner.do(join, segment, taken, made)

    for segment in footage.segments:
        # Frames are read and joined on the host while the device computes other tiles.
        with (
            Ahead(footage.read(segment), _count_ahead(request)) as frames,
            Beside(_JOINING) as joiner,
            checked(_layers(pipe.model(request.scale)), report.check),
        ):
            batch.run(jobs(frames), compute, partial(take, joiner, segment))
            with waiting(report, WRITING):
                joiner.wait()
        with waiting(report, WRITING):
            footage.finish(segment)
    with waiting(report, WRITING):
        footage.wait()


def _count_ahead(request: Any) -> int:
    """Frames that are read before they are asked for."""
    return max(2, min(_MOST_AHEAD, _AHEAD_BYTES // (3 * request.height * request.width)))


@torch.no_grad()
def upscale(pipe: Swin2srPipeline, frames: torch.Tensor, scale: int) -> torch.Tensor:
    """Frames (B H W 3, on the run's device as `webui.pipelines.depth` has them), `scale` times as
    large.

    The same on a GPU, a processor and the meta device.

    Raises:
        RunFailed: the numbers overflowed.
    """
    model = pipe.model(scale)
    height, width = frames.shape[1:3]
    pixels = shares(frames.permute(0, 3, 1, 2), model.dtype)
    made = model(_padded(pixels, model.config.window_size)).reconstruction
    del pixels
    made = made[:, :, : height * scale, : width * scale]
    check_finite(made)
    if frames.dtype == torch.int16:
        return deep_levels(made.float()).permute(0, 2, 3, 1)
    return made.float().mul_(255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def new_grid(pipe: Swin2srPipeline, request: Any, settings: Mapping[str, Any]) -> TileGrid:
    """The tiles of a frame, in whole windows of the model's attention.

    Raises:
        BadInput: a tile is not larger than its overlap.
    """
    window = int(pipe.model(request.scale).config.window_size)
    tile, overlap = int(settings.get("tile", 0)), int(settings.get("tile_overlap", 0))
    return TileGrid(request.height, request.width, tile, overlap, window)


def _padded(pixels: torch.Tensor, window: int) -> torch.Tensor:
    """Whole windows, the rest mirrored; transformers' own padding loses count of the new size
    (5.23, modeling_swin2sr.py, Swin2SRModel.forward)."""
    below, beside = -pixels.shape[-2] % window, -pixels.shape[-1] % window
    if not (below or beside):
        return pixels
    fits = below < pixels.shape[-2] and beside < pixels.shape[-1]
    mode = "reflect" if fits else "replicate"
    return torch.nn.functional.pad(pixels, (0, beside, 0, below), mode)


def _layers(model: Any) -> list[torch.nn.Module]:
    return [layer for stage in model.swin2sr.encoder.stages for layer in stage.layers]


def _teller(report: Report) -> Callable[[Text], None]:
    tell = getattr(report, "tell", None)

    def told(text: Text) -> None:
        logging.getLogger(__name__).info("%s", text)
        if tell is not None:
            tell(text)

    return told
