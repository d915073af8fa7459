"""Upscaling (task `upscale`): frames of a video or a picture, made larger."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.errors import BadInput
from webui.core.fields import read_choice, read_text, read_whole
from webui.core.model import ModelCard
from webui.core.request import Given, Request
from webui.core.settings import Settings
from webui.core.text import Text
from webui.core.units import MIB

MIN_SIDE_PX, MAX_SIDE_PX = 16, 8192
"""Of the input."""
MIN_TILE_PX = 32
"""Of the input: four windows of Swin2SR; smaller tiles are little more than borders."""
MAX_OUTPUT_SIDE_PX = 16_384
"""The encoder's limit (libx264)."""
MAX_FRAMES = 1_000_000
"""More than nine hours at 30 frames a second."""
MAX_UPLOAD_BYTES = 1024 * MIB
COLOURS = ("adain", "wavelet", "none")
"""What the colours of the result are brought back to: those of the input, by their statistics, by
their low frequencies, or not at all."""
QUALITIES = ("high", "medium", "small")
"""Of the output file, from the largest to the smallest."""
SEGMENT_FRAMES = 480
"""Frames of a segment: what is kept when a run ends early, and what a GPU takes at a time."""
MIN_SEGMENT_FRAMES, MAX_SEGMENT_FRAMES = 32, 4096
MAX_OVERLAP_FRAMES = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleDefaults:
    """What a request leaves out, where there is no input to ask."""

    scale: int
    frames: int
    height: int
    width: int
    overlap: int
    """Frames that are read before each segment but the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleCard(ModelCard):
    """A model that makes frames larger."""

    scales: tuple[int, ...]
    """How many times larger each side may become."""
    temporal: bool
    """Frames depend on those before them; without, each is upscaled by itself."""
    tile_multiple: int
    """Sides of tiles are multiples of this, in pixels of the input."""
    files: tuple[str, ...]
    """What a folder of the model's weights holds; `a|b` where either will do."""
    defaults: UpscaleDefaults


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleRequest(Request):
    """Frames of one size, or those of an input."""

    input: str = ""
    """A file, named on the command line or uploaded; never a path from the network."""
    scale: int
    frames: int
    height: int
    width: int
    """Of the input."""
    overlap: int
    """Frames that are read before each segment but the first, for what depends on earlier frames;
    the last of them are blended with the segment before."""
    segment_frames: int = SEGMENT_FRAMES
    colour: str = COLOURS[0]
    """One of COLOURS."""
    quality: str = QUALITIES[0]
    """One of QUALITIES."""

    @property
    def shape(self) -> tuple[Hashable, ...]:
        size = (self.scale, self.height, self.width, self.frames)
        return (*size, self.overlap, self.segment_frames, self.colour)

    @property
    def repeats(self) -> int:
        return self.frames

    @property
    def size_text(self) -> str:
        return f"{self.width}x{self.height}x{self.frames} x{self.scale}"

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the result, in pixels."""
        return self.height * self.scale, self.width * self.scale

    @property
    def segments(self) -> int:
        """Segments that the frames are split into on one GPU."""
        return -(-self.frames // self.segment_frames)


def read_upscale(given: Given, model: UpscaleCard, common: Mapping[str, Any]) -> UpscaleRequest:
    """The request for upscaling.

    Args:
        given: the keys.
        model: takes them.
        common: the values of the keys that all tasks have.

    Raises:
        BadInput: names the first wrong field and says what is allowed.
    """
    own = model.defaults
    scale = read_whole(given, "scale", own.scale, min(model.scales), max(model.scales))
    if scale not in model.scales:
        allowed = " or ".join(map(str, model.scales))
        raise BadInput(
            "scale",
            Text(
                f"{model.title} does not upscale {scale} times.",
                f"{model.title} 不支持放大 {scale} 倍。",
            ),
            Text(f"Use {allowed}.", f"请用 {allowed.replace(' or ', ' 或 ')}。"),
        )
    overlap = own.overlap if model.temporal else 0
    request = UpscaleRequest(
        input=read_text(given, "input", ""),
        scale=scale,
        frames=read_whole(given, "frames", own.frames, 1, MAX_FRAMES),
        height=read_whole(given, "height", own.height, MIN_SIDE_PX, MAX_SIDE_PX),
        width=read_whole(given, "width", own.width, MIN_SIDE_PX, MAX_SIDE_PX),
        overlap=read_whole(given, "overlap", overlap, 0, MAX_OVERLAP_FRAMES),
        segment_frames=read_whole(
            given, "segment_frames", SEGMENT_FRAMES, MIN_SEGMENT_FRAMES, MAX_SEGMENT_FRAMES
        ),
        colour=read_choice(given, "colour", COLOURS, COLOURS[0]),
        quality=read_choice(given, "quality", QUALITIES, QUALITIES[0]),
        **common,
    )
    check_output_size(request)
    check_tiles(model, request.settings)
    return request


def check_output_size(request: UpscaleRequest) -> None:
    """Refuses a result that no encoder takes.

    Raises:
        BadInput: a side would be too long.
    """
    longest = max(request.output_size)
    if longest <= MAX_OUTPUT_SIDE_PX:
        return
    key = "height" if request.height > request.width else "width"
    most = MAX_OUTPUT_SIDE_PX // request.scale
    raise BadInput(
        key,
        Text(
            f"The result would be {longest} px long; {MAX_OUTPUT_SIDE_PX} px are the most.",
            f"结果的边长将达 {longest} 像素，最多 {MAX_OUTPUT_SIDE_PX} 像素。",
        ),
        Text(
            f"Use a smaller scale, or an input of at most {most} px.",
            f"请用较小的倍数，或边长不超过 {most} 像素的输入。",
        ),
    )


def check_tiles(model: UpscaleCard, settings: Settings) -> None:
    """Refuses tiles that the model cannot be run in.

    Raises:
        BadInput: a side that is too short or off the model's grid, or no larger than what tiles
            share.
    """
    tile = int(settings.get("tile", 0))
    if not tile:
        return
    unit = model.tile_multiple
    least = -(-MIN_TILE_PX // unit) * unit
    if tile < least:
        raise BadInput(
            "settings.tile",
            Text(
                f"Tiles of {tile} px are too small; {least} px are the least.",
                f"{tile} 像素的块太小，最小 {least} 像素。",
            ),
            Text(
                f"Use {least} or more, or 0 for the whole frame.",
                f"请用 {least} 或更大的值，或用 0 表示整帧。",
            ),
        )
    if tile % unit:
        below, above = tile // unit * unit, -(-tile // unit) * unit
        raise BadInput(
            "settings.tile",
            Text(
                f"Tiles of {model.title} are multiples of {unit} px; {tile} is not.",
                f"{model.title} 的分块边长必须是 {unit} 像素的倍数，{tile} 不是。",
            ),
            Text(f"Use {below} or {above}.", f"请用 {below} 或 {above}。"),
        )
    overlap = int(settings.get("tile_overlap", 0))
    if overlap > tile // 2:
        raise BadInput(
            "settings.tile_overlap",
            Text(
                f"Tiles of {tile} px cannot overlap by {overlap} px.",
                f"{tile} 像素的块不能重叠 {overlap} 像素。",
            ),
            Text(
                f"Use an overlap of at most {tile // 2} px, or larger tiles.",
                f"重叠请不超过 {tile // 2} 像素，或用更大的块。",
            ),
        )


def tiles_of(height: int, width: int, tile: int, overlap: int) -> int:
    """How many tiles cover a frame.

    Args:
        height: of the frame, in pixels.
        width: of the frame.
        tile: side of a tile, 0 for the whole frame.
        overlap: what neighbours share.
    """
    return tiles_along(height, tile, overlap) * tiles_along(width, tile, overlap)


def tiles_along(length: int, tile: int, overlap: int) -> int:
    """How many tiles cover one side of a frame; the last is moved back to end where that does."""
    if not tile or length <= tile:
        return 1
    return -(-(length - overlap) // (tile - overlap))
