"""A run over frames: each is upscaled by itself, whole or in tiles, several at once.

Shapes: B batch (frames, or tiles of one or more frames), H height, W width.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from webui.core.text import Text
from webui.pipelines.footage import Footage
from webui.pipelines.running import Report, check_finite, checked
from webui.pipelines.swin2sr.components import PHASE, Swin2srPipeline
from webui.pipelines.tile_batch import follows_memory, new_tile_batch
from webui.pipelines.tiles import FrameBlend, TileGrid

Pixels = NDArray[np.uint8]
_JOINING = 2
"""Batches that wait to be joined at most."""


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
    total = sum(segment.count for segment in footage.segments)
    done = 0

    def jobs(segment: Any) -> Iterator[_Job]:
        for index, pixels in enumerate(footage.read(segment)):
            frame = _Frame(index, FrameBlend(grid, request.scale))
            for tile in grid.tiles:
                yield _Job(frame, tile.cut(pixels))

    def compute(waiting: Sequence[_Job]) -> Pixels:
        clip = torch.from_numpy(np.stack([job.pixels for job in waiting]))
        made = upscale(pipe, clip.to(pipe.run_device), request.scale)
        found: Pixels = made.cpu().numpy()
        return found

    def join(segment: Any, waiting: Sequence[_Job], made: Pixels) -> None:
        nonlocal done
        for job, pixels in zip(waiting, made, strict=True):
            job.frame.blend.add(pixels)
            if job.frame.blend.done:
                footage.write(segment, job.frame.index, job.frame.blend.frame)
                done += 1
                report.step(done, total)

    # Frames are joined on the host while the device computes the next tiles.
    with ThreadPoolExecutor(1, "joining") as joiner:
        for segment in footage.segments:
            joining: deque[Future[None]] = deque()

            def take(
                waiting: Sequence[_Job],
                made: Pixels,
                segment: Any = segment,
                joining: deque[Future[None]] = joining,
            ) -> None:
                if len(joining) >= _JOINING:
                    joining.popleft().result()
                joining.append(joiner.submit(join, segment, waiting, made))

            with checked(_layers(pipe.model(request.scale)), report.check):
                batch.run(jobs(segment), compute, take)
            while joining:
                joining.popleft().result()
            footage.finish(segment)


@torch.no_grad()
def upscale(pipe: Swin2srPipeline, frames: torch.Tensor, scale: int) -> torch.Tensor:
    """Frames (B H W 3, uint8, on the run's device), `scale` times as large.

    The same on a GPU, a processor and the meta device.

    Raises:
        RunFailed: the numbers overflowed.
    """
    model = pipe.model(scale)
    height, width = frames.shape[1:3]
    pixels = frames.permute(0, 3, 1, 2).to(model.dtype).div_(255)
    made = model(_padded(pixels, model.config.window_size)).reconstruction
    del pixels
    made = made[:, :, : height * scale, : width * scale]
    check_finite(made)
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
