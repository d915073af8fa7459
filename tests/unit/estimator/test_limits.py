"""Near the limit: one answer whatever was asked before, and true of what the worker may use."""

from __future__ import annotations

from typing import Any

import pytest

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.plan import Estimate
from webui.core.units import GIB, MIB
from webui.estimator.allocator import CachingAllocator, SimulatedOutOfMemory
from webui.estimator.answers import replay, use_templates
from webui.estimator.case import Case
from webui.estimator.estimate import estimate_case
from webui.estimator.target import Target
from webui.estimator.templates import FOLDER
from webui.hardware import find_card
from webui.optimizer import make_estimate

WAN = {"model": "wan2.1-t2v-1.3b", "frames": 81, "settings": {"offload": "leaf"}}
TEXT = {"model": "qwen3-4b", "batch": 16, "prompt_tokens": 100, "new_tokens": 2048}
SVD = {"model": "svd-xt", "frames": 14, "settings": {"offload": "leaf", "decode_chunk": 4}}


def case_of(asked: dict[str, Any], limit_gib: float) -> Case:
    request = parse_request({"card": "rtx-4090", **asked}, find_model)
    model = find_model(request.model, request.task)
    target = Target(
        card=find_card("rtx-4090"), limit_bytes=int(limit_gib * GIB), host=find_card("cpu")
    )
    return Case(model, request, make_estimate(model, request, target).settings, target)


def found(asked: dict[str, Any], limit_gib: float) -> Estimate:
    return estimate_case(case_of(asked, limit_gib))


def forget() -> None:
    use_templates(FOLDER)


@pytest.mark.parametrize("asked", [WAN, {**TEXT, "settings": {"offload": "leaf"}}, SVD])
def test_an_answer_does_not_depend_on_those_before(asked: dict[str, Any]) -> None:
    for limit_gib in (3.0, 5.0, 7.0, 9.5):
        forget()
        cold = found(asked, limit_gib)
        forget()
        found(asked, 24.0)  # what is kept of this one may be reused
        assert found(asked, limit_gib).to_json() == cold.to_json()
        if cold.fits:
            needed = cold.peak_device_bytes + cold.margin_bytes
            assert needed <= cold.limit_bytes


def test_what_fits_also_runs_at_the_limit_that_the_worker_has() -> None:
    """With more room the cache is given back elsewhere, and what is kept may lie worse."""
    windows = {**SVD, "settings": {**SVD["settings"], "allocator": "default"}}  # type: ignore[dict-item]
    verdicts = []
    for step in range(48):
        case = case_of(windows, 5.6 + step / 24)
        fits = case.fits
        verdicts.append(fits)
        assert estimate_case(case).fits == fits
        if fits:
            assert all(
                replay(case.key(phase), phase, case.allowed_bytes).fits for phase in case.phases
            )
    assert any(verdicts) and not all(verdicts)


def test_the_limit_counts_a_whole_new_segment() -> None:
    """PyTorch compares with the limit before it looks at the free end of an expandable segment."""
    allocator = CachingAllocator(True, 260 * MIB)
    allocator.allocate(1, 100 * MIB)
    allocator.allocate(2, 60 * MIB)
    allocator.release(2)
    # 60 MiB are free at the end and 30 more would do, but 160 reserved and 90 more are compared.
    allocator.allocate(3, 90 * MIB)
    assert (allocator.retries, allocator.reserved_bytes) == (0, 200 * MIB)
    allocator.release(3)
    allocator.allocate(4, 140 * MIB)
    assert allocator.retries == 1, "200 reserved and 140 more are above the limit"
    assert allocator.most_asked_bytes == 250 * MIB
    allocator.release(4)
    with pytest.raises(SimulatedOutOfMemory):
        allocator.allocate(5, 180 * MIB)


@pytest.mark.parametrize("asked", [WAN, SVD])
def test_a_limit_that_is_never_met_changes_nothing(asked: dict[str, Any]) -> None:
    case = case_of(asked, 24.0)
    for phase in case.phases:
        free = replay(case.key(phase), phase, None)
        forget()
        enough = replay(case.key(phase), phase, free.asked_bytes)
        assert (enough.met_limit, enough.reserved_bytes) == (False, free.reserved_bytes)
        forget()
        less = replay(case.key(phase), phase, free.asked_bytes - 2 * MIB)
        assert less.met_limit
