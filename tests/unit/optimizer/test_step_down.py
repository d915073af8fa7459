"""After running out of memory: each step needs less where it failed, and the steps end."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.receipt import Shortage
from webui.core.request import Request
from webui.core.units import GIB
from webui.estimator.case import Case
from webui.estimator.target import Target
from webui.hardware import find_card
from webui.optimizer.candidates import quality_cost
from webui.optimizer.search import find_best
from webui.optimizer.step_down import (
    STEP_SHARE,
    Tried,
    blamed_phase,
    narrowed,
    short_bytes,
    what_changes,
)

ASKED: dict[str, Any] = {"frames": 33, "height": 480, "width": 832}
TARGET = Target(card=find_card("rtx-4090"), limit_bytes=24 * GIB, host=find_card("cpu"))


def parse(**changes: Any) -> Request:
    return parse_request({"model": "wan2.1-t2v-1.3b", **ASKED, **changes}, find_model)


def steps(request: Request, phase: str, target: Target = TARGET) -> list[Case]:
    """All plans, one after the other, if each of them runs out of memory in a phase."""
    model = find_model(request.model, request.task)
    cases: list[Case] = []
    while len(cases) < 100:
        tried = [Tried(settings=case.settings, phase=phase) for case in cases]
        best = find_best(model, request, narrowed(model, request, target, tried))
        if best is None:
            return cases
        cases.append(Case(model, request, best.settings, target))
    raise AssertionError("it goes on for ever")


@pytest.mark.parametrize("phase", ["encode", "denoise", "decode"])
def test_each_step_needs_less_where_it_failed(phase: str) -> None:
    cases = steps(parse(), phase)
    assert len(cases) > 1
    peaks = [case.peak_bytes(phase) for case in cases]
    for before, after in pairwise(peaks):
        assert after <= before * (1 - STEP_SHARE)
    # Lossless means first: once quality was touched, there was nothing lossless left.
    costs = [quality_cost(case.settings) for case in cases]
    assert costs == sorted(costs)
    told = what_changes(cases[0], cases[1], phase)
    assert "→" in told.en and "iB" in told.en and "→" in told.zh


def test_only_open_settings_change() -> None:
    fixed = {"offload": "none", "vae_tiling": False, "vae_precision": "fp32"}
    cases = steps(parse(settings=fixed), "decode")
    assert all(case.settings.items() >= fixed.items() for case in cases)
    everything = dict(cases[0].settings)
    assert len(steps(parse(settings=everything), "decode")) == 1


def test_other_phases_may_stay_as_they_are() -> None:
    first, second, *_ = steps(parse(settings={"offload": "leaf"}), "decode")
    assert second.peak_bytes("denoise") == first.peak_bytes("denoise")
    assert second.settings["ffn_chunks"] == first.settings["ffn_chunks"] == 1


def test_the_next_plan_leaves_free_what_the_estimate_lacked() -> None:
    """A step that is known to be too small is not tried."""
    request = parse()
    model = find_model(request.model)
    first, second, *_ = steps(request, "denoise")
    short = first.room_bytes - second.peak_bytes("denoise") + 1
    tried = Tried(settings=first.settings, phase="denoise", short_bytes=short)
    following = find_best(model, request, narrowed(model, request, TARGET, [tried]))
    assert following is not None
    after = Case(model, request, following.settings, TARGET)
    assert after.peak_bytes("denoise") < second.peak_bytes("denoise")


def test_what_the_estimate_lacked() -> None:
    request = parse()
    model = find_model(request.model)
    best = find_best(model, request, TARGET)
    assert best is not None
    case = Case(model, request, best.settings, TARGET)
    expected = case.peak_bytes("decode")

    def shortage(in_use: int, wanted: int, phase: str = "decode") -> Shortage:
        return Shortage(
            phase=phase,
            in_use_bytes=in_use,
            reserved_bytes=in_use,
            wanted_bytes=wanted,
            limit_bytes=TARGET.limit_bytes,
        )

    # It should have fitted: it needs more than all the room, whatever was in use.
    assert short_bytes(case, shortage(expected, 0)) == case.room_bytes - expected
    over = case.room_bytes + GIB
    assert short_bytes(case, shortage(over, GIB)) == over + GIB - expected
    # There was less than planned with, and the estimate says so too: nothing is wrong with it.
    less = Target(card=TARGET.card, limit_bytes=expected, host=TARGET.host)
    cramped = Case(model, request, best.settings, less)
    assert short_bytes(cramped, shortage(expected - GIB, GIB // 2)) == 0
    assert blamed_phase(case, "loading") == max(case.phases, key=case.peak_bytes)
