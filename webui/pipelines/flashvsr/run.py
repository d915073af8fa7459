"""A run: the frames of a video, whole or in tiles, from where they are read to where they go.

Shapes: B batch (tiles), T frames, H height, W width in pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

import torch
from numpy.typing import NDArray

from webui.pipelines.flashvsr.blocks import BLOCK_FRAMES, Blocks
from webui.pipelines.flashvsr.colour import fix_in_bands
from webui.pipelines.flashvsr.components import FlashVsrPipeline
from webui.pipelines.flashvsr.frames import SIDE_MULTIPLE, Reader
from webui.pipelines.footage import Footage
from webui.pipelines.running import Report
from webui.pipelines.tile_batch import TileBatch, follows_memory, new_tile_batch
from webui.pipelines.tiles import ClipBlend, Tile, TileGrid
from webui.pipelines.waits import READING, WRITING, waiting
from webui.video.beside import Ahead, Beside

Pixels = NDArray[Any]
NO_COLOUR = "none"
_JOINING = 4
"""Clips that wait to be joined at most."""
_JOINED_AHEAD = 2
"""Joined frames that wait for their colours."""


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
        settings: `sparsity`, `tile` (a side in pixels of the input; 0: the whole frame),
            `tile_overlap` and `tile_batch` among them.
        report: told of phases and steps; of the batch's changes too, if it has `tell`.
        footage: frames in and out.

    Raises:
        BadInput: a tile is not larger than the overlap.
        Cancelled: the report says so, at the next transformer block.
        RunFailed: the numbers overflowed.
    """
    grid = make_grid(request, settings)
    blocks = Blocks(pipe, request, settings, report, footage.total)
    tell = getattr(report, "tell", lambda _: None)
    batches = new_tile_batch(settings, pipe.run_device, tell, follows_memory(request))
    if len(grid) == 1:
        _whole(blocks, grid.tiles, request.colour, footage)
    else:
        blocks.warm_up(grid.tiles[: batches.size])
        for segment in footage.segments:
            _tiled(blocks, grid, batches, request.colour, footage, segment)
            with waiting(report, WRITING):
                footage.finish(segment)
    with waiting(report, WRITING):
        footage.wait()


def make_grid(request: Any, settings: Mapping[str, Any]) -> TileGrid:
    """The tiles of a frame; one, where it is done whole.

    Raises:
        BadInput: a tile is not larger than the overlap.
    """
    return TileGrid(
        request.height,
        request.width,
        int(settings.get("tile", 0)),
        int(settings.get("tile_overlap", 24)),
        multiple=SIDE_MULTIPLE // request.scale,
    )


def _whole(blocks: Blocks, whole: Sequence[Tile], colour: str, footage: Footage) -> None:
    """Frames uncut. The first segment is read in the warm-up; each other one is asked for, and
    read, while the last frames of the one before are made: not sooner, since another worker may be
    free for it before."""
    begun: deque[Any] = deque()
    wanted: SimpleQueue[bool] = SimpleQueue()

    def videos() -> Iterator[Iterator[Pixels]]:
        for segment in footage.segments:
            begun.append(segment)
            yield footage.read(segment)
            if not wanted.get():
                return

    with Reader(videos(), whole, blocks.scale, footage.cores, footage.bits) as reader:
        try:
            blocks.warm_up(whole)
            while _goes_on(blocks, reader):
                segment, asked = begun.popleft(), False
                for first, clip in blocks.restore(reader, segment, whole, colour):
                    if not asked and first >= segment.count - BLOCK_FRAMES:
                        asked = True
                        wanted.put(True)
                    with waiting(blocks.report, WRITING):
                        for index, frame in enumerate(clip[0], first):
                            footage.write(segment, index, frame)
                with waiting(blocks.report, WRITING):
                    footage.finish(segment)
        finally:
            wanted.put(False)


def _goes_on(blocks: Blocks, reader: Reader) -> bool:
    """Whether there is another segment, which is waited for if need be."""
    with waiting(blocks.report, READING):
        return reader.go_on()


def _tiled(
    blocks: Blocks,
    grid: TileGrid,
    batches: TileBatch,
    colour: str,
    footage: Footage,
    segment: Any,
) -> None:
    """Some tiles at a time over the whole segment; then its frames are joined."""
    blend = ClipBlend(
        grid, segment.count, blocks.scale, folder=footage.folder, deep=footage.bits > 8
    )
    joined = [0] * len(grid)
    """Frames of each tile that are in the blend, also if its batch then ran out of memory."""

    def join(numbers: Sequence[int], first: int, clip: Pixels) -> None:
        for number, part in zip(numbers, clip, strict=True):
            new = part[max(0, joined[number] - first) :]
            blend.add(number, first + len(part) - len(new), new)
            joined[number] = max(joined[number], first + len(part))

    def compute(numbers: Sequence[int]) -> None:
        tiles = [grid.tiles[number] for number in numbers]
        share = len(tiles) / len(grid)
        try:
            with Reader(
                [footage.read(segment)], tiles, blocks.scale, footage.cores, footage.bits
            ) as reader:
                for first, clip in blocks.restore(reader, segment, tiles, None, share):
                    with waiting(blocks.report, WRITING):
                        joiner.do(join, numbers, first, clip)
        finally:
            with waiting(blocks.report, WRITING):
                joiner.wait()

    try:
        # One for all batches: a tile that was joined in part is never joined again.
        with Beside(_JOINING) as joiner:
            batches.run(range(len(grid)), compute, lambda _numbers, _made: None)
        _join(blocks, blend, (grid.height, grid.width), colour, footage, segment)
    finally:
        blend.close()


@torch.no_grad()
def _join(
    blocks: Blocks,
    blend: ClipBlend,
    size: tuple[int, int],
    colour: str,
    footage: Footage,
    segment: Any,
) -> None:
    """Colours are those of whole frames, or tiles would differ where they meet."""
    frames = (blend.frame(index) for index in range(segment.count))
    with Ahead(frames, _JOINED_AHEAD) as joined:
        if colour == NO_COLOUR:
            for index, frame in enumerate(joined):
                with waiting(blocks.report, WRITING):
                    footage.write(segment, index, frame)
            return
        _fix(blocks, joined, Tile(0, 0, *size), colour, footage, segment)


def _fix(
    blocks: Blocks,
    joined: Iterator[Pixels],
    whole: Tile,
    colour: str,
    footage: Footage,
    segment: Any,
) -> None:
    """Brings back the colours of joined frames."""
    device, scale = blocks.pipe.run_device, blocks.scale
    with Reader([footage.read(segment)], (whole,), scale, footage.cores, footage.bits) as reader:
        for index, frame in enumerate(joined):
            blocks.report.check()
            with waiting(blocks.report, READING):
                reference = reader.take(range(index, index + 1))[0][0]
            reader.let_go(index + 1)
            reference = reference[: frame.shape[0], : frame.shape[1]]
            fixed = fix_in_bands(frame, reference, colour, device)
            with waiting(blocks.report, WRITING):
                footage.write(segment, index, fixed)
