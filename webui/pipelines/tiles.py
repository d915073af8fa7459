"""Tiles of a frame for the runs: where they lie, how much each counts, and how they are joined.

Shapes: T frames, H height, W width, C channels; lower case for a tile's. Positions are pixels of
the input; what a model makes of them is `scale` times as large.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from webui.core.errors import BadInput
from webui.core.text import Text

_STEPS = 256
"""Parts of a grey level that a clip's pixels are kept in: 255 levels of them fill 16 bits. Where
pixels have 16 bits themselves, they are kept in levels."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the input, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, frame: NDArray[Any]) -> NDArray[Any]:
        """The tile's part of a frame (H W C, or ... H W C): a view."""
        down, across = self.area()
        return frame[..., down, across, :]

    def area(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns in a frame that is `scale` times as large."""
        return (
            slice(self.top * scale, (self.top + self.height) * scale),
            slice(self.left * scale, (self.left + self.width) * scale),
        )


def check_tile(tile: int, overlap: int, multiple: int = 1) -> None:
    """Refuses tiles that would never get across the frame.

    Args:
        tile: side in pixels of the input; 0 stands for the whole frame, which is always right.
        overlap: pixels that neighbours share.
        multiple: what the model rounds a tile's side down to.

    Raises:
        BadInput: the overlap is negative, or the tile is not larger than it.
    """
    if tile == 0:
        return
    if overlap < 0:
        raise BadInput(
            "settings.tile_overlap",
            Text(
                f"The overlap of tiles is {overlap} px; it cannot be less than 0.",
                f"分块重叠为 {overlap} 像素；不能小于 0。",
            ),
            Text("Leave it out, or use 24.", "可不填，或用 24。"),
        )
    side = tile // multiple * multiple
    if side <= overlap:
        least = (overlap // multiple + 1) * multiple
        rounded = "" if side == tile else f" (used as {side})"
        rounded_zh = "" if side == tile else f"（按 {side} 使用）"
        raise BadInput(
            "settings.tile",
            Text(
                f"A tile of {tile} px{rounded} is not larger than its overlap of {overlap} px.",
                f"分块边长 {tile} 像素{rounded_zh}不大于重叠 {overlap} 像素。",
            ),
            Text(
                f"Use a tile of {least} px or more, a smaller overlap, or 0 for the whole frame.",
                f"请用 {least} 像素或更大的分块、更小的重叠，或用 0 表示整帧。",
            ),
        )


class TileGrid:
    """Tiles of one size that cover a frame exactly; the last of a row is moved back into it.

    A pixel that several tiles hold is their weighted mean. The weights ramp where neighbours
    overlap, are full at the frame's border, and add up to 1 everywhere. Pixels near an edge that
    lies inside the frame were computed without what is beyond it, so `context` pixels there do
    not count: where `context` is at least what a convolutional model looks around itself, and
    `overlap` twice that, the joined frame is the one that the model makes of the whole.

    Args:
        height: of the frame.
        width: of the frame.
        tile: side of a tile; 0 or more than the frame's side takes that side whole.
        overlap: pixels that neighbours share.
        multiple: sides of tiles are multiples of this, except where the side is taken whole.
        context: pixels at inner edges that do not count; by default a quarter of the overlap.

    Raises:
        BadInput: as `check_tile`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        tile: int,
        overlap: int,
        multiple: int = 1,
        context: int | None = None,
    ) -> None:
        check_tile(tile, overlap, multiple)
        self.height, self.width = height, width
        self.tile_height = _side(height, tile, multiple)
        self.tile_width = _side(width, tile, multiple)
        self.tops = _starts(height, self.tile_height, overlap)
        self.lefts = _starts(width, self.tile_width, overlap)
        self.context = overlap // 4 if context is None else context
        self._size = (self.tile_height, self.tile_width)
        self.tiles = tuple(Tile(top, left, *self._size) for top in self.tops for left in self.lefts)
        """By rows, each from left to right."""

    def __len__(self) -> int:
        return len(self.tiles)

    def weights(self, index: int, scale: int = 1) -> NDArray[np.float32]:
        """How much each pixel of a tile counts (h w, `scale` times as large); 0 to 1.

        Args:
            index: of the tile.
            scale: of the frame that is put together.
        """
        down, across = self.sides(index, scale)
        return down[:, None] * across[None, :]

    def sides(self, index: int, scale: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How much each row and each column of a tile counts: a pixel counts their product."""
        row, column = divmod(index, len(self.lefts))
        return (
            _axis_weights(self.tops, self.tile_height, self.context, scale)[row],
            _axis_weights(self.lefts, self.tile_width, self.context, scale)[column],
        )


class FrameBlend:
    """Puts one frame together from its tiles, which come in the grid's order.

    What is kept in floating point is one row of tiles; finished rows are rounded into the frame.

    Args:
        grid: where the tiles lie.
        scale: of the result.
        channels: of a pixel.
        dtype: of the result; whole numbers are rounded and held within what it can say.
    """

    def __init__(
        self, grid: TileGrid, scale: int = 1, channels: int = 3, dtype: type = np.uint8
    ) -> None:
        self._grid, self._scale = grid, scale
        shape = (grid.height * scale, grid.width * scale, channels)
        self.frame: NDArray[Any] = np.empty(shape, dtype)
        """The result (H W C); complete once `done`."""
        self._channels = channels
        rows = grid.tile_height * scale if len(grid) > 1 else 0
        # Two dimensions: three channels as a dimension of their own take numpy twice as long.
        self._band = np.zeros((rows, grid.width * scale * channels), np.float32)
        # Used for every tile: fresh memory takes as long as the work.
        self._part = np.empty((rows, grid.tile_width * scale * channels), np.float32)
        self._next = 0

    @property
    def done(self) -> bool:
        """Whether every tile was added."""
        return self._next == len(self._grid)

    def add(self, pixels: NDArray[Any]) -> None:
        """Takes the next tile's result (h w C), 0 to 255 or 65535."""
        grid, scale = self._grid, self._scale
        if len(grid) == 1:
            self.frame[...] = self._in_levels(pixels)
            self._next = 1
            return
        tile = grid.tiles[self._next]
        down, across = grid.sides(self._next, scale)
        first, length = tile.left * scale * self._channels, across.size * self._channels
        flat, counts = pixels.reshape(len(pixels), length), np.repeat(across, self._channels)
        part = np.multiply(flat, counts, out=self._part)
        part *= down[:, None]
        self._band[:, first : first + length] += part
        self._next += 1
        if self._next % len(grid.lefts) == 0:
            self._finish_rows(tile.top)

    def _finish_rows(self, top: int) -> None:
        """A row of tiles is complete: what no later one reaches goes into the frame."""
        grid, scale = self._grid, self._scale
        row = self._next // len(grid.lefts)
        until = grid.height if self.done else grid.tops[row]
        count = (until - top) * scale
        finished = self.frame[top * scale : until * scale]
        finished[...] = self._in_levels(self._band[:count]).reshape(finished.shape)
        kept = self._band[count:].copy()
        self._band[: len(kept)] = kept
        self._band[len(kept) :] = 0

    def _in_levels(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Rounded and held within its range where the result is of whole numbers."""
        whole = np.issubdtype(self.frame.dtype, np.integer)
        if not whole or np.issubdtype(pixels.dtype, np.integer):
            return pixels
        levels = np.rint(pixels)
        return np.clip(levels, 0, np.iinfo(self.frame.dtype).max, out=levels)


class ClipBlend:
    """Puts a clip together from tiles that each come with many frames, in any order.

    The pixels lie in a file that is mapped into memory, 16 bits each, so that a long clip needs
    no memory; the file goes when the blend is closed.

    Args:
        grid: where the tiles lie.
        frames: of the clip.
        scale: of the result.
        channels: of a pixel.
        folder: where the file goes; by default the system's folder for such files.
        deep: pixels have 16 bits, not 8.

    Raises:
        OSError: the disk has no room for it.
    """

    def __init__(
        self,
        grid: TileGrid,
        frames: int,
        scale: int = 1,
        channels: int = 3,
        folder: Path | None = None,
        deep: bool = False,
    ) -> None:
        self._grid, self._scale = grid, scale
        self._steps = 1 if deep else _STEPS
        self._most = 2**16 - 1 if deep else 255
        shape = (frames, grid.height * scale, grid.width * scale, channels)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        size = 2 * int(np.prod(shape, dtype=np.int64))
        if hasattr(os, "posix_fallocate"):
            # A mapped file that finds the disk full later would end the process.
            os.posix_fallocate(self._file.fileno(), 0, size)
        else:
            self._file.truncate(size)
        self._pixels = np.memmap(self._file, np.uint16, "r+", shape=shape)

    def add(self, index: int, first: int, pixels: NDArray[Any]) -> None:
        """Takes frames of one tile.

        Args:
            index: of the tile.
            first: number of the first of these frames in the clip.
            pixels: T h w C, 0 to 255 or 65535.
        """
        weights = self._grid.weights(index, self._scale)[..., None] * self._steps
        down, across = self._grid.tiles[index].area(self._scale)
        for number, frame in enumerate(pixels, first):
            part = self._pixels[number, down, across]
            # Every tile rounds by up to half a step: the sum may pass the last level.
            total = part + np.rint(frame.clip(0, self._most) * weights)
            part[...] = total.clip(0, 2**16 - 1).astype(np.uint16)

    def frame(self, number: int) -> NDArray[Any]:
        """A frame that all tiles were added to (H W C)."""
        if self._steps == 1:
            return np.array(self._pixels[number])
        levels = (self._pixels[number].astype(np.uint32) + _STEPS // 2) // _STEPS
        return levels.clip(0, 255).astype(np.uint8)

    def close(self) -> None:
        """Gives the file back."""
        del self._pixels
        self._file.close()


def _side(length: int, tile: int, multiple: int) -> int:
    side = tile // multiple * multiple
    return length if side == 0 or side >= length else side


def _starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    if tile >= length:
        return (0,)
    stride = tile - overlap
    return (*range(0, length - tile, stride), length - tile)


@lru_cache(maxsize=16)
def _axis_weights(
    starts: tuple[int, ...], tile: int, context: int, scale: int
) -> tuple[NDArray[np.float32], ...]:
    """Weights along one side of every tile; at each pixel they add up to 1.

    The weight of a pixel is the product of both sides', so sides that add up to 1 are enough.
    """
    total = np.zeros((starts[-1] + tile) * scale, np.float64)
    sides = []
    for number, start in enumerate(starts):
        side = np.ones(tile * scale, np.float64)
        if number:
            shared = (starts[number - 1] + tile - start) * scale
            side[:shared] *= _ramp(shared, context * scale)
        if number + 1 < len(starts):
            shared = (start + tile - starts[number + 1]) * scale
            side[tile * scale - shared :] *= 1 - _ramp(shared, context * scale)
        total[start * scale : (start + tile) * scale] += side
        sides.append(side)
    # Where three tiles meet (the last one was moved back), the products do not add up to 1.
    return tuple(
        (side / total[start * scale : (start + tile) * scale]).astype(np.float32)
        for start, side in zip(starts, sides, strict=True)
    )


def _ramp(shared: int, context: int) -> NDArray[np.float64]:
    """From 0 to 1 over what two neighbours share, `context` pixels at both ends left out; a cut
    in the middle where nothing is left."""
    width = shared - 2 * context
    if width <= 0:
        return (np.arange(shared) >= shared // 2).astype(np.float64)
    return ((np.arange(shared) - context + 0.5) / width).clip(0, 1)
