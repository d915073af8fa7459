"""The simulated allocator against records of PyTorch's own, event by event.

`tests/fixtures/allocator` has what an H200's allocator was asked for in phases that began with an
empty cache and met no limit (`torch.cuda.memory._snapshot`), with the peaks that it counted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contract.project import ROOT
from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.settings import with_defaults
from webui.estimator.allocator import COPY_STREAM, CachingAllocator
from webui.estimator.case import Case
from webui.estimator.plain_replay import play_in_python
from webui.estimator.replay import replay_spans
from webui.estimator.simulator import simulator
from webui.estimator.tape import LOAD, RELEASE
from webui.estimator.target import Target
from webui.estimator.timeline import Span, Timeline
from webui.hardware import find_card

RECORDS = sorted((ROOT / "tests/fixtures/allocator").glob("*.npz"))


def read(path: Path) -> tuple[Timeline, dict[str, Any]]:
    arrays = np.load(path, allow_pickle=False)
    timeline = Timeline(
        resident=arrays["resident"],
        kinds=arrays["kinds"],
        keys=arrays["keys"],
        deltas=arrays["sizes"],
    )
    return timeline, json.loads(str(arrays["about"]))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_block_by_block_it_comes_to_the_same(path: Path) -> None:
    timeline, about = read(path)
    allocator = CachingAllocator(expandable=True)
    for key, size in enumerate(timeline.resident.tolist()):
        allocator.allocate(key, size)
    allocator.reset_peaks()
    most = allocator.allocated_bytes
    events = zip(
        timeline.kinds.tolist(), timeline.keys.tolist(), timeline.deltas.tolist(), strict=True
    )
    for kind, key, delta in events:
        if kind == RELEASE:
            allocator.release(key)
        else:
            allocator.allocate(key, delta, COPY_STREAM if kind == LOAD else 0)
            most = max(most, allocator.allocated_bytes)
    assert allocator.peak_reserved_bytes == about["reserved_bytes"], about["what"]
    assert most == about["allocated_bytes"], about["what"]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_replays_come_within_a_hundredth(path: Path) -> None:
    """Of the small pool they know the most bytes alive only."""
    timeline, about = read(path)
    whole = [Span(0, len(timeline.kinds))]
    simulator().wait()
    compiled = replay_spans(timeline, whole, expandable=True, limit_bytes=None)[0]
    plain = play_in_python(timeline, whole, expandable=True, limit_bytes=None)[0]
    assert (compiled.allocated_bytes, compiled.reserved_bytes) == plain[:2]
    assert compiled.reserved_bytes == pytest.approx(about["reserved_bytes"], rel=0.01)
    assert compiled.allocated_bytes == pytest.approx(about["allocated_bytes"], rel=0.01)


def test_there_are_records() -> None:
    assert len(RECORDS) >= 8


def test_an_estimate_follows_the_calls_after_the_fourth() -> None:
    """FlashVSR's projection reserves more until its tenth call."""
    _, about = read(ROOT / "tests/fixtures/allocator/flashvsr-project.npz")
    card = find_card("h200")
    asked = {"task": "upscale", "model": "flashvsr-v1.1", "card": "h200", "scale": 2}
    size = {"frames": 61, "height": 540, "width": 960}
    request = parse_request({**asked, **size, "settings": {"offload": "model"}}, find_model)
    model = find_model(request.model, request.task)
    settings = with_defaults(request.settings | {"precision": "bf16"}, model.settings, {})
    target = Target(card=card, limit_bytes=card.vram_bytes, host=find_card("cpu"))
    project = Case(model, request, settings, target).expected("project")
    assert project.reserved_bytes == pytest.approx(about["reserved_bytes"], rel=0.005)
