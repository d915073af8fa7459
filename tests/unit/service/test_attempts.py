"""Jobs that run out of memory, with a real worker under a cap: tried again with less, and told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.service.following import TINY
from webui.core.errors import OutOfMemory
from webui.core.job import JobState, JobView
from webui.core.receipt import Receipt
from webui.core.units import MIB
from webui.service import Access, Studio
from webui.service.access import LOCAL
from webui.storage import StudioConfig
from webui.ui.results import render_jobs, render_result

LARGER = TINY | {"frames": 1, "height": 256, "width": 256, "steps": 1, "card": "cpu"}
CAP_BYTES = 80 * MIB
"""Between what the decoder takes whole and in tiles (98 and 56 MiB); the plan is not told of it:
as if another program had taken the rest meanwhile."""


@pytest.fixture(scope="module")
def capped(on_processor: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_THREADS", "1")
        home = tmp_path_factory.mktemp("capped")
        studio = Studio(home, access=Access(), config=StudioConfig(), resume=False)
        patch.setattr(studio._planner, "hard_limit", lambda _: CAP_BYTES)
        yield studio
        studio.close()


def follow(studio: Studio, cancel_at: int = 0, **changes: Any) -> list[JobView]:
    job = studio.submit(studio.parse(LARGER | changes), LOCAL)
    views = []
    for view in studio.watch(job, LOCAL, 0.05):
        views.append(view)
        if view.attempt == cancel_at:
            studio.cancel(job, LOCAL)
    return views


def test_a_job_that_ran_out_goes_on_with_less(capped: Studio) -> None:
    views = follow(capped)
    done = views[-1]
    assert done.state is JobState.DONE, done.error
    receipt = done.receipt
    assert receipt is not None and receipt.measurement is not None
    (attempt,) = receipt.attempts
    # What happened is what really happened, and within the cap nothing else could.
    shortage = attempt.shortage
    assert (shortage.phase, shortage.limit_bytes) == ("decode", CAP_BYTES)
    assert shortage.in_use_bytes <= CAP_BYTES < shortage.in_use_bytes + shortage.wanted_bytes
    assert attempt.measurement is not None and attempt.error["type"] == "OutOfMemory"
    assert receipt.measurement.peak_allocated_bytes <= CAP_BYTES
    # The estimate was right, there was only less than it was told of: that teaches nothing.
    assert attempt.short_bytes == 0 and attempt.estimated_bytes > CAP_BYTES
    assert not attempt.settings["vae_tiling"] and receipt.plan["settings"]["vae_tiling"]
    # Whoever watches sees it, in both languages and in bytes.
    second = next(view for view in views if view.attempt == 2)
    assert second.attempts == 3 and second.changed == attempt.changed
    assert "MiB" in attempt.changed.en and "tiling" in attempt.changed.en
    assert "第 1 次尝试" in attempt.changed.zh and "MiB" in attempt.changed.zh
    assert "attempt 2 of 3" in render_jobs([second], "en")
    assert "第 2 / 3 次尝试" in render_jobs([second], "zh")
    assert "第 1 次尝试" in render_result(capped.run(done.id, LOCAL), "zh")
    # The same worker went on, and the receipt beside the file says all of it.
    assert {view.worker_pid for view in views if view.attempt == 2} == {done.worker_pid}
    (picture,) = capped.run(done.id, LOCAL).outputs
    sidecar = json.loads((picture.parent / "receipt.json").read_text(encoding="utf-8"))
    assert Receipt.from_json(sidecar) == receipt


def test_what_the_user_fixed_stays_and_the_end_says_what_would_fit(capped: Studio) -> None:
    fixed = {"precision": "fp32", "vae_tiling": False, "ffn_chunks": 1}
    failed = follow(capped, settings=fixed)[-1]
    assert failed.state is JobState.FAILED and isinstance(failed.error, OutOfMemory)
    assert "No settings are left" in failed.error.hint.en and failed.error.hint.zh
    assert "automatic settings" in failed.error.hint.en
    assert failed.receipt is not None
    (attempt,) = failed.receipt.attempts
    assert attempt.settings.items() >= fixed.items() and attempt.changed.en == ""
    # Nothing stayed behind: the next job has all of the cap.
    assert follow(capped, **TINY)[-1].state is JobState.DONE


def test_the_owner_limits_how_often(capped: Studio) -> None:
    policy = replace(capped.config.memory, retries_after_out_of_memory=0)
    before, capped.config = capped.config, replace(capped.config, memory=policy)
    try:
        failed = follow(capped)[-1]
    finally:
        capped.config = before
    assert failed.state is JobState.FAILED and isinstance(failed.error, OutOfMemory)
    assert failed.receipt is not None and len(failed.receipt.attempts) == 1


def test_without_auto_optimize_the_defaults_that_failed_are_stepped_down_from(
    capped: Studio,
) -> None:
    policy = replace(capped.config.memory, auto_optimize=False)
    before, capped.config = capped.config, replace(capped.config, memory=policy)
    try:
        done = follow(capped)[-1]
    finally:
        capped.config = before
    assert done.state is JobState.DONE, done.error
    assert done.receipt is not None and len(done.receipt.attempts) == 1
    assert "tiling" in done.receipt.attempts[0].changed.en


def test_a_second_attempt_can_be_cancelled(capped: Studio) -> None:
    # Enough steps that it is heard while they run, also on a busy machine.
    ended = follow(capped, cancel_at=2, steps=40)[-1]
    assert ended.state is JobState.CANCELLED
    assert ended.receipt is not None and len(ended.receipt.attempts) == 1


def test_a_cap_on_the_processor_is_held(on_processor: None, tmp_path: Path) -> None:
    studio = Studio(tmp_path, access=Access(), config=StudioConfig(), resume=False)
    asked = studio.parse(LARGER | {"vram_gib": 0.25})
    assert studio._planner.hard_limit(asked) == 256 * MIB == studio.plan(asked).estimate.limit_bytes
    assert studio._planner.hard_limit(studio.parse(LARGER)) is None
    studio.close()
