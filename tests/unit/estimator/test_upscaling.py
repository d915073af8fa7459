"""Upscalers' estimates: what each setting changes, how they grow, and how work is shared."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.plan import Estimate
from webui.core.settings import SettingValue, with_defaults
from webui.core.units import GIB, format_bytes
from webui.estimator.estimate import estimate
from webui.estimator.families import components_of
from webui.estimator.flashvsr import FlashVsrMemory, blocks_of
from webui.estimator.flashvsr_seconds import kept_pairs
from webui.estimator.rules import rules_for
from webui.estimator.target import Target
from webui.estimator.upscaling import CORE_FLOPS, longest_share
from webui.hardware import find_card
from webui.optimizer import make_plan
from webui.pipelines.tiles import ClipBlend, TileGrid
from webui.video.segments import split

FLASH, SWIN = "flashvsr-v1.1", "swin2sr-demo"


def target_of(name: str = "h200", gib: float | None = None) -> Target:
    card = find_card(name)
    limit = card.vram_bytes if gib is None else int(gib * GIB)
    return Target(card=card, limit_bytes=limit, host=find_card("cpu"))


def request_of(model: str, **keys: Any) -> Any:
    return parse_request({"task": "upscale", "model": model, **keys}, find_model)


def figures(model: str, settings: dict[str, SettingValue] | None = None, **keys: Any) -> Estimate:
    card = find_model(model)
    complete = with_defaults(settings or {}, card.settings, card.setting_defaults)
    return estimate(card, request_of(model, **keys), complete, target_of())


def allocated(found: Estimate) -> dict[str, int]:
    return {phase.name: phase.allocated_bytes for phase in found.phases}


def test_memory_of_a_video_does_not_grow_with_its_length() -> None:
    """From the second block on; before, every frame more may take more."""
    lengths = (1, 21, 22, 109, 110, 205, 480, 481, 2000, 100_000)
    peaks = [figures(FLASH, frames=count).peak_allocated_bytes for count in lengths]
    assert peaks == sorted(peaks)
    assert len(set(peaks[lengths.index(205) :])) == 1 and len(set(peaks)) >= 3


@pytest.mark.parametrize("model", [FLASH, SWIN])
@pytest.mark.parametrize("settings", [{}, {"tile": 64, "tile_overlap": 16, "tile_batch": 2}])
def test_larger_frames_take_more(model: str, settings: dict[str, SettingValue]) -> None:
    found = [
        figures(model, settings, frames=61, height=height, width=width)
        for height, width in ((96, 160), (192, 160), (192, 384), (384, 384))
    ]
    seconds = [one.seconds for one in found]
    peaks = [one.peak_allocated_bytes for one in found]
    assert seconds == sorted(set(seconds))
    assert peaks == sorted(peaks)
    assert (len(set(peaks)) == 4) is not bool(settings)  # tiles are of one size


@pytest.mark.parametrize(
    ("name", "value", "phase", "less"),
    [
        ("precision", "fp32", "denoise", False),
        ("offload", "model", "project", True),
        ("offload", "model", "denoise", True),
        ("offload", "leaf", "denoise", True),
        ("decoder", "full", "decode", False),
        ("tile", 128, "denoise", True),
    ],
)
def test_every_setting_changes_the_memory(
    name: str, value: SettingValue, phase: str, less: bool
) -> None:
    before, after = (allocated(figures(FLASH, one)) for one in ({}, {name: value}))
    assert after[phase] != before[phase] and (after[phase] < before[phase]) is less


def test_tiles_together_take_more_memory_and_less_time() -> None:
    for model, phase in ((FLASH, "denoise"), (SWIN, "upscale")):
        found = [
            figures(model, {"tile": 64, "tile_batch": batch}, height=192, width=352, frames=61)
            for batch in (1, 2, 4)
        ]
        peaks = [allocated(one)[phase] for one in found]
        assert peaks == sorted(set(peaks))
        seconds = [one.seconds for one in found]
        assert seconds == sorted(set(seconds), reverse=True)


def test_only_the_decoder_that_is_used_is_loaded() -> None:
    card = find_model(FLASH)
    assert {"decoder", "vae"} < set(components_of(card))
    tiny, full = (
        figures(FLASH, {"decoder": kind, "offload": "model"}).host_bytes
        for kind in ("tiny", "full")
    )
    # Parameters of the decoder (authors' file) and of the VAE's decoding half, in bf16.
    assert full - tiny == pytest.approx(2 * (73_285_955 - 45_338_371), rel=0.05)


def test_sparse_attention_is_counted_by_what_it_keeps() -> None:
    """The authors' size: 7199 of 10 800 pairs a slab in the first chunk, of 14 400 later."""
    assert kept_pairs(6, 10, "stable") == (3 * 7199, 7199)
    assert kept_pairs(6, 10, "fast") == (3 * 5399, 5399)
    # Small frames keep all but the least.
    assert kept_pairs(1, 2, "stable") == (3 * (3 * 4 - 1), 4 * 4 - 1)
    stable, fast = (
        figures(FLASH, {"sparsity": kind}, height=384, width=640).seconds
        for kind in ("stable", "fast")
    )
    assert fast < stable


def test_blocks_follow_the_schedule() -> None:
    assert [block.calls["decode"] for block in blocks_of(1)] == [6]
    assert [block.calls for block in blocks_of(110)] == [
        {"project": 29, "denoise": 12, "decode": 28},
        {"project": 2, "denoise": 1, "decode": 2},
    ]


@pytest.mark.parametrize(("height", "width"), [(192, 352), (360, 640)])
def test_what_is_reserved_is_enough_for_every_block(height: int, width: int) -> None:
    """The block with the highest peak may reserve less than one beside it."""
    card = find_model(FLASH)
    settings = with_defaults({"allocator": "default"}, card.settings, card.setting_defaults)
    request = request_of(FLASH, frames=1920, height=height, width=width)
    memory = FlashVsrMemory(
        card, request, settings, rules_for(find_card("h200"), "default", "linux")
    )
    told = memory.phase("decode").replay(expandable=False, limit_bytes=None)
    blocks = [memory._decode(block) for block in memory.blocks]
    alone = [events.replay(expandable=False, limit_bytes=None) for events in blocks]
    assert len(blocks) == 3
    assert told.reserved_bytes == max(found.reserved_bytes for found in alone)
    assert told.allocated_bytes == max(found.allocated_bytes for found in alone)


def test_several_cards_share_the_time_but_warm_up_for_themselves() -> None:
    processor = find_card("cpu")

    def seconds(gpus: int, cores: int) -> float:
        card = find_model(FLASH)
        complete = with_defaults({"gpus": gpus}, card.settings, card.setting_defaults)
        host = replace(processor, fp32_flops=cores * CORE_FLOPS)
        target = replace(target_of(), host=host)
        return estimate(card, request_of(FLASH, frames=1920), complete, target).seconds

    one, four = seconds(1, 64), seconds(4, 64)
    assert 0.25 * one < four < 0.3 * one
    # Four workers on few cores wait for their encoders.
    assert seconds(1, 4) < 1.3 * one and seconds(4, 4) > 1.3 * four
    assert longest_share([(2.0, 3), (1.0, 1)], 2) == 4.0


@pytest.mark.parametrize("gib", [6, 8, 12, 16, 24])
def test_plans_for_small_cards(gib: float) -> None:
    for keys in ({"scale": 2, "height": 540, "width": 960}, {"height": 216, "width": 384}):
        request = request_of(FLASH, frames=500, **keys)
        plan = make_plan(find_model(FLASH), request, target_of(gib=gib))
        assert plan.fits and plan.estimate.peak_device_bytes <= gib * GIB


def test_what_waits_on_the_disk_is_what_the_pipeline_keeps_there(tmp_path: Path) -> None:
    size = {"height": 96, "width": 160, "frames": 61, "segment_frames": 40, "overlap": 8}
    tiles = {"tile": 64, "tile_overlap": 16}
    found = figures(FLASH, tiles, **size)
    longest = max(segment.count for segment in split(61, 40, 8))
    blend = ClipBlend(TileGrid(96, 160, 64, 16, 32), longest, 4, folder=tmp_path)
    assert found.disk_bytes == os.fstat(blend._file.fileno()).st_size > 0
    blend.close()
    # Each card has a segment of its own under way.
    assert figures(FLASH, tiles | {"gpus": 2}, **size).disk_bytes == 2 * found.disk_bytes
    assert figures(FLASH, {}, **size).disk_bytes == 0 == figures(SWIN, tiles, **size).disk_bytes
    plan = make_plan(find_model(FLASH), request_of(FLASH, settings=tiles, **size), target_of())
    (told,) = [reason for reason in plan.reasons if "disk" in reason.en]
    assert format_bytes(found.disk_bytes) in told.en and format_bytes(found.disk_bytes) in told.zh


@pytest.mark.parametrize("colour", ["adain", "wavelet"])
def test_16k_in_tiles_goes_through_a_small_card(colour: str) -> None:
    """Colours of joined frames are fixed in bands: they do not decide what fits."""
    size = {"height": 2304, "width": 4096, "scale": 4, "frames": 61}
    request = request_of(FLASH, **size, colour=colour, vram_gib=6)
    plan = make_plan(find_model(FLASH), request, target_of("rtx-3060-12gb", 6))
    assert plan.fits and int(plan.settings["tile"]) >= 192
