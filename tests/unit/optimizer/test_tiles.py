"""Which tiles a plan tries: they follow from the frame."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.estimator.test_upscaling import FLASH, request_of, target_of
from webui.catalogue import find_model
from webui.core.upscale import tiles_along
from webui.estimator.upscaling import segments_of
from webui.optimizer import make_plan
from webui.optimizer.upscaling import (
    LEAST_TILE_PX,
    auto_overlap,
    auto_tiles,
    quality_cost,
    shared_between,
)


def grid(height: int, width: int, tile: int) -> tuple[int, ...]:
    return tuple(tiles_along(side, tile, auto_overlap(tile)) for side in (height, width))


@pytest.mark.parametrize(
    ("size", "multiple"),
    [((216, 384), 32), ((540, 960), 8), ((1080, 1920), 32), ((8192, 4096), 32), ((70, 64), 8)],
)
def test_tiles_split_the_frame_evenly(size: tuple[int, int], multiple: int) -> None:
    found = auto_tiles(*size, multiple)
    assert found == tuple(sorted(found, reverse=True)) and 1 <= len(found) <= 16
    for tile in found:
        assert tile % multiple == 0 and LEAST_TILE_PX <= tile < max(size)
        # One step smaller, and there were more of them.
        smaller = tile - multiple
        assert smaller < LEAST_TILE_PX or grid(*size, smaller) != grid(*size, tile)
    costs = [quality_cost({"tile": tile}) for tile in found]
    assert costs == sorted(costs) and costs[0] > quality_cost({"tile": 0}) == 0


def test_a_frame_just_too_large_for_the_card_takes_two_tiles() -> None:
    assert 224 in auto_tiles(216, 384, 32) and grid(216, 384, 224) == (1, 2)
    request = request_of(FLASH, height=216, width=384, frames=960, vram_gib=6)
    plan = make_plan(find_model(FLASH), request, target_of("rtx-3060-12gb", 6))
    assert plan.fits and plan.settings["tile"] == 224


def test_a_frame_of_the_smallest_size_is_done_whole() -> None:
    assert auto_tiles(16, 64, 32) == ()


def test_no_more_cards_are_chosen_than_there_are_segments() -> None:
    for frames in range(100, 700, 50):
        request = request_of(FLASH, height=216, width=384, frames=frames)
        for gpus in (2, 4, 8):
            chosen = shared_between(request, gpus)
            assert chosen <= segments_of(request, {"gpus": chosen})
    target = replace(target_of("rtx-4090"), gpus=4)
    plan = make_plan(find_model(FLASH), request.with_changes(frames=150), target)
    assert plan.settings["gpus"] == 2 and "nothing to do" not in str(plan.reasons)


@pytest.mark.parametrize(("frames", "gpus", "idle"), [(61, 8, 7), (961, 8, 0), (61, 1, 0)])
def test_cards_that_have_nothing_to_do_are_told(frames: int, gpus: int, idle: int) -> None:
    request = request_of(FLASH, height=216, width=384, frames=frames, settings={"gpus": gpus})
    reasons = make_plan(find_model(FLASH), request, target_of("rtx-4090")).reasons
    found = [reason.en for reason in reasons if "nothing to do" in reason.en]
    assert len(found) == bool(idle) and all(f"{idle} will have" in each for each in found)


@pytest.mark.parametrize(("tile", "batch", "told"), [(256, 0, 1), (256, 4, 0), (0, 0, 0)])
def test_a_batch_that_follows_memory_is_said_to_take_more(tile: int, batch: int, told: int) -> None:
    settings = {"tile": tile, "tile_batch": batch}
    request = request_of(FLASH, height=540, width=960, settings=settings)
    reasons = make_plan(find_model(FLASH), request, target_of("rtx-4090")).reasons
    assert sum("more tiles at a time are tried" in str(reason) for reason in reasons) == told
