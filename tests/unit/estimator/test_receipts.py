"""Today's estimator against what was measured on a card: the committed receipts.

`python -m webui accuracy` prints every row. `python -m webui verify LIST.yaml --save FILE.json`,
for the lists in tests/gpu and on a card, makes them again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from statistics import mean

import pytest

from webui.core.parse import TASKS
from webui.estimator.verified import read_receipts
from webui.service.recorded import Recorded, recorded, summary
from webui.service.verify import PhaseAccuracy

RECEIPTS = read_receipts()


@cache
def runs() -> list[Recorded]:
    return list(recorded(RECEIPTS))


@cache
def phases() -> list[PhaseAccuracy]:
    return [phase for run in runs() for phase in run.phases]


def share(errors: list[float], bound: float) -> float:
    """Of those that are within the bound."""
    return mean(abs(error) <= bound for error in errors)


def test_many_models_ran_and_none_failed():
    assert len(runs()) == len(RECEIPTS) >= 160
    assert len({run.estimate.model for run in runs()}) >= 18
    assert {run.receipt.request["task"] for run in runs()} == set(TASKS)
    assert all(run.receipt.error is None for run in runs())


def test_plans_that_nearly_filled_their_cap_ran():
    assert sum(bool(run.receipt.request["vram_gib"]) for run in runs()) >= 45
    assert sum(run.tight for run in runs()) >= 30


def test_what_ran_is_said_to_fit():
    # A plan that today's estimate would not make: the margin, not the memory, is too small for it.
    assert mean(run.estimate.fits for run in runs()) >= 0.98


def test_allocated_bytes_of_the_phases():
    errors = [phase.error for phase in phases()]
    assert mean(map(abs, errors)) <= 0.005
    assert share(errors, 0.04) >= 0.985


def test_reserved_bytes_of_the_phases():
    errors = [phase.reserved_error for phase in phases()]
    assert mean(map(abs, errors)) <= 0.02
    assert share(errors, 0.07) >= 0.97


def test_device_bytes():
    errors = [run.device_error for run in runs()]
    assert mean(map(abs, errors)) <= 0.02
    assert share(errors, 0.07) >= 0.98


@pytest.mark.parametrize("index", range(len(RECEIPTS)))
def test_the_device_never_held_more_than_the_estimate_with_its_margin(index: int):
    run = runs()[index]
    assert not run.beyond_margin
    assert run.estimate.margin_bytes <= run.estimate.limit_bytes * 0.05 + 128 * 2**20


def test_the_summary_counts():
    told = summary(runs()[:3], RECEIPTS[:3])
    assert told.startswith("cells: 3, of ")
    assert "0 above the estimate with its margin" in told
    crashed = replace(RECEIPTS[0], request={**RECEIPTS[0].request, "vram_gib": 8}, measurement=None,
                      error={"type": "RunFailed"})  # fmt: skip
    assert summary(runs()[:1], [crashed]).endswith("1 failed")
