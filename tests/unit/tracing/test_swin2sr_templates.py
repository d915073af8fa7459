"""Swin2SR's templates against fresh traces and a real run, at shapes they were not made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.settings import with_defaults
from webui.estimator.events import rounded
from webui.estimator.rules import Rules
from webui.estimator.swin2sr import PHASE, Swin2srMemory
from webui.estimator.tape import ALLOCATE, RELEASE, SCRATCH
from webui.pipelines import swin2sr
from webui.pipelines.live_bytes import LiveBytes
from webui.tracing.swin2sr import record_batch, shape_of

EXACT = 0.005
CARD = find_model("swin2sr-demo")
BARE = Rules("cuda", (), has_scratch=True, expandable=True, measured=True)
PROCESSOR = Rules("cpu", (), has_scratch=False, expandable=True, measured=True)


def memory_of(rules: Rules, settings: dict[str, Any], **keys: Any) -> Swin2srMemory:
    request = parse_request({"task": "upscale", "model": CARD.name, **keys}, find_model)
    complete = with_defaults(settings, CARD.settings, CARD.setting_defaults)
    return Swin2srMemory(CARD, request, complete, rules)


@pytest.mark.parametrize(
    ("scale", "precision", "size", "settings", "batch"),
    [
        (2, "fp32", (90, 160), {}, (1, 90, 160)),
        (4, "fp16", (64, 104), {"tile_batch": 3}, (3, 64, 104)),
        (2, "bf16", (100, 150), {"tile": 48, "tile_overlap": 8, "tile_batch": 5}, (5, 48, 48)),
        (4, "fp32", (17, 61), {"tile_batch": 2}, (2, 17, 61)),
        (4, "fp16", (72, 40), {}, (1, 72, 40)),
    ],
)
def test_a_batch(
    scale: int,
    precision: str,
    size: tuple[int, int],
    settings: dict[str, Any],
    batch: tuple[int, int, int],
) -> None:
    keys = {"scale": scale, "height": size[0], "width": size[1], "frames": 24}
    memory = memory_of(BARE, {**settings, "precision": precision}, **keys)
    events = memory.phase(PHASE)
    recording = record_batch(CARD, precision, f"x{scale}", shape_of(8, *batch))
    sizes: dict[int, int] = {}
    live = peak = 0
    for event in recording.events:
        if event.kind == ALLOCATE:
            sizes[event.slot] = rounded(event.size_bytes)
            live += sizes[event.slot]
        elif event.kind == RELEASE:
            live -= sizes.pop(event.slot, 0)
        peak = max(peak, live + (rounded(event.size_bytes) if event.kind == SCRATCH else 0))
    assert events.peak_live_bytes() - events.resident_bytes == pytest.approx(peak, rel=EXACT)


@pytest.mark.parametrize(
    ("precision", "size", "batch", "recorded"),
    [
        ("fp32", (270, 480), 1, 2_370_450_003),
        ("fp32", (360, 640), 1, 4_180_294_803),
        ("fp32", (270, 480), 4, 6_170_311_728),
        ("fp32", (200, 304), 3, 2_156_862_128),
        ("fp16", (128, 128), 1, 148_725_907),
        ("bf16", (720, 1280), 1, 8_361_750_675),
        ("fp16", (270, 480), 2, 1_551_348_504),
    ],
)
def test_what_an_h200_took(
    precision: str, size: tuple[int, int], batch: int, recorded: int
) -> None:
    """Of `swin2sr-realworld-x4`, which is largest at its last convolutions: bytes above the weights
    at the peak, recorded with random weights (torch 2.11, cuDNN 9.19, 2026-11-29)."""
    card = find_model("swin2sr-realworld-x4")
    keys = {"scale": 4, "height": size[0], "width": size[1], "frames": batch}
    request = parse_request({"task": "upscale", "model": card.name, **keys}, find_model)
    settings = {"precision": precision, "tile": 0, "tile_batch": batch}
    complete = with_defaults(settings, card.settings, card.setting_defaults)
    events = Swin2srMemory(card, request, complete, BARE).phase(PHASE)
    assert events.peak_live_bytes() - events.resident_bytes == pytest.approx(recorded, rel=EXACT)


def test_a_real_run_on_the_processor() -> None:
    keys = {"scale": 2, "height": 40, "width": 56, "frames": 3}
    memory = memory_of(PROCESSOR, {"precision": "fp32", "tile_batch": 3}, **keys)
    events = memory.phase(PHASE)
    pipe = swin2sr.build_random(CARD, memory.settings, "cpu")
    frames = torch.from_numpy(np.zeros((3, 40, 56, 3), np.uint8))
    with LiveBytes() as live:
        for scale in (2, 4):
            live.track_module(pipe.model(scale))
        made = swin2sr.upscale(pipe, frames, 2)
    assert made.shape == (3, 80, 112, 3)
    assert events.peak_live_bytes(with_scratch=False) == pytest.approx(live.peak_bytes, rel=0.01)
