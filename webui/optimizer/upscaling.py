"""What the optimizer may choose for upscaling: tiles, how many go together, how many cards."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, log2

from webui.core.fields import MAX_BATCH
from webui.core.settings import SETTINGS, Settings, SettingValue
from webui.core.upscale import (
    MIN_TILE_PX,
    UpscaleCard,
    UpscaleRequest,
    tiles_along,
    tiles_of,
)
from webui.estimator.target import Target
from webui.estimator.upscaling import workers_of

LEAST_TILE_PX = 64
"""Smaller tiles are not tried: they are little more than what neighbours share."""
MOST_TILES_TRIED = 14
LEAST_APART = 1.1
"""Sides that are tried differ by this factor at least."""
AUTO_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Tiles at a time that are tried: each doubling halves the passes."""
WORTH_SHARING_FRAMES = 100
"""Below, starting another worker and reading frames twice costs more than it saves (the guide; our
own figure is in docs/accuracy.md)."""
TILE_COST = 1.0
"""A tile does not see beyond its border; smaller ones have more of it."""
SMALLER_TILE_COST = 0.1
"""For every two sizes that halve the side."""
LARGE_TILE_PX = 1024


def open_values(
    model: UpscaleCard, request: UpscaleRequest, target: Target
) -> dict[str, list[SettingValue]]:
    """The values to try of the settings that only upscaling has, and of `gpus`."""
    fixed = request.settings.get("tile")
    tiles = auto_tiles(request.height, request.width, model.tile_multiple)
    sides = [0, *tiles] if fixed is None else [int(fixed)]
    return {
        # They change the picture: only who names one gets it.
        "decoder": ["tiny"],
        "sparsity": ["stable"],
        "tile": list(sides),
        "tile_overlap": list(dict.fromkeys(auto_overlap(side) for side in sides)),
        # A processor gains nothing by more at a time.
        "tile_batch": [1] if target.card.kind == "cpu" else _batches(model, request, sides),
        "tile_recheck": [SETTINGS["tile_recheck"].default],
        "tile_reserve_gib": [SETTINGS["tile_reserve_gib"].default],
        "gpus": [shared_between(request, target.gpus)],
    }


def is_open(name: str, value: SettingValue) -> bool:
    """Whether a setting that is named is chosen all the same: `tile_batch: 0` begins with the
    plan's number."""
    return name == "tile_batch" and value == 0


@lru_cache(maxsize=64)
def auto_tiles(height: int, width: int, multiple: int) -> tuple[int, ...]:
    """Sides of tiles worth trying for a frame, from the largest to the smallest, in pixels.

    Of all sides that cover the frame with the same rows and columns of tiles only the smallest is
    any good: larger ones need more memory and share more. Where there are many, as of a large
    frame, they are thinned out evenly.

    Args:
        height: of the frame.
        width: likewise.
        multiple: sides are multiples of it.
    """
    longest = min(max(height, width) - 1, int(SETTINGS["tile"].high or 0))
    least = -(-max(LEAST_TILE_PX, MIN_TILE_PX) // multiple) * multiple
    best: dict[tuple[int, int], int] = {}
    for tile in range(longest // multiple * multiple, least - 1, -multiple):
        overlap = auto_overlap(tile)
        rows, columns = (tiles_along(side, tile, overlap) for side in (height, width))
        best[rows, columns] = tile
    apart = max(LEAST_APART, (longest / least) ** (1 / MOST_TILES_TRIED)) if best else 1.0
    kept: list[int] = []
    for tile in sorted(best.values(), reverse=True):
        if not kept or tile * apart <= kept[-1]:
            kept.append(tile)
    return tuple(kept)


def auto_overlap(tile: int) -> int:
    """The guide's overlap; a quarter of tiles that are too small for it."""
    usual = int(SETTINGS["tile_overlap"].default)
    return usual if not tile or tile >= 4 * usual else tile // 4


def shared_between(request: UpscaleRequest, gpus: int) -> int:
    """On how many of the machine's cards the frames are worth sharing."""
    if request.frames < WORTH_SHARING_FRAMES:
        return 1
    most = max(1, min(gpus, request.frames // (WORTH_SHARING_FRAMES // 2)))
    return workers_of(request, {"gpus": most})


def is_sensible(model: UpscaleCard, request: UpscaleRequest, settings: Settings) -> bool:
    """Leaves out combinations that repeat another one, or contradict themselves."""
    fixed = request.settings
    tile, overlap = int(settings["tile"]), int(settings["tile_overlap"])
    if "tile_overlap" not in fixed and overlap != auto_overlap(tile):
        return False
    if tile and overlap > tile // 2:
        return False
    together = most_together(model, request, settings)
    return bool(fixed.get("tile_batch")) or int(settings["tile_batch"]) <= together


def most_together(model: UpscaleCard, request: UpscaleRequest, settings: Settings) -> int:
    """Most tiles that can go through the model together: those of a frame, and where frames do not
    depend on each other those of several."""
    tile, overlap = int(settings["tile"]), int(settings["tile_overlap"])
    of_frame = tiles_of(request.height, request.width, tile, overlap)
    if model.temporal:
        return of_frame
    return of_frame * min(request.frames, request.segment_frames)


def quality_cost(settings: Settings) -> float:
    """How far the picture may differ because of tiles."""
    tile = int(settings.get("tile", 0))
    if not tile:
        return 0.0
    return TILE_COST + SMALLER_TILE_COST * max(0, ceil(2 * log2(LARGE_TILE_PX / tile)))


def _batches(model: UpscaleCard, request: UpscaleRequest, sides: list[int]) -> list[SettingValue]:
    most = max(
        most_together(model, request, {"tile": side, "tile_overlap": auto_overlap(side)})
        for side in sides
    )
    most = min(most, MAX_BATCH)
    several = [count for count in AUTO_BATCHES if count < most]
    return [*several, most] if most <= AUTO_BATCHES[-1] else [*several]
