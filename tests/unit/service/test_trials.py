"""Trials of plans: the border is one, the rivals are the next best, the table says what was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from webui.catalogue import find_model
from webui.core.errors import BadInput
from webui.core.parse import parse_request
from webui.core.receipt import Measurement, PhaseMeasurement, Receipt
from webui.core.request import Request
from webui.core.units import GIB
from webui.estimator.case import Case
from webui.estimator.estimate import estimate
from webui.estimator.target import Target
from webui.hardware import find_card
from webui.optimizer.candidates import quality_cost
from webui.optimizer.search import can_fit
from webui.service.trials import BEST, OTHERS, STEP_GIB, Trial, make_trials, trials_table

REQUEST = {"model": "wan2.1-t2v-1.3b", "frames": 17, "height": 480, "width": 832}


def target_of(request: Request) -> Target:
    card = find_card("h200")
    limit = card.vram_bytes if request.vram_gib is None else int(request.vram_gib * GIB)
    return Target(card=card, limit_bytes=limit, host=find_card("cpu"))


def parse(**changes: Any) -> Request:
    return parse_request({**REQUEST, **changes}, find_model)


def test_the_border_is_where_less_is_not_enough() -> None:
    border, beyond = make_trials("border", parse(), 3, target_of)
    assert (border.role, beyond.role, border.group) == ("border", "beyond", 3)
    model, asked = find_model(REQUEST["model"]), border.request
    assert can_fit(model, asked, target_of(asked), every=True) and asked.settings == {}
    less = asked.with_changes(vram_gib=asked.vram_gib - STEP_GIB)
    assert not can_fit(model, less, target_of(less), every=True)
    assert beyond.request.vram_gib == pytest.approx(0.9 * asked.vram_gib)
    assert set(beyond.request.settings) == set(model.settings)
    forced = target_of(beyond.request)
    assert not Case(model, beyond.request, beyond.request.settings, forced).fits


def test_what_fits_nowhere_has_no_border() -> None:
    fixed = {"offload": "none", "vae_tiling": False, "precision": "fp32", "ffn_chunks": 1}
    huge = parse(model="wan2.1-t2v-14b", frames=481, height=2048, width=2048, settings=fixed)
    with pytest.raises(BadInput):
        make_trials("border", huge, 0, target_of)


def test_rivals_are_the_next_best_and_some_others() -> None:
    request = parse(vram_gib=8)
    trials = make_trials("rivals", request, 1, target_of)
    assert [trial.role for trial in trials] == ["chosen"] * 2 + ["rival"] * (len(trials) - 2)
    assert trials[::2] == trials[1::2]
    trials = trials[::2]
    assert BEST < len(trials) <= BEST + OTHERS
    model, target = find_model(REQUEST["model"]), target_of(request)
    found = [estimate(model, request, trial.request.settings, target) for trial in trials]
    assert all(one.fits for one in found)
    times = [one.seconds for one in found[1:BEST]]
    assert times == sorted(times)
    assert len({tuple(sorted(trial.request.settings.items())) for trial in trials}) == len(trials)
    assert make_trials("rivals", request, 1, target_of)[::2] == trials
    costs = [quality_cost(one.settings) for one in found]
    assert max(costs) == costs[0]


def receipt(seconds: float, error: dict[str, Any] | None = None) -> Receipt:
    phase = PhaseMeasurement(
        name="denoise", resident_bytes=1, allocated_bytes=1, reserved_bytes=1, seconds=seconds
    )
    measured = Measurement(
        phases=(phase,),
        peak_allocated_bytes=1,
        peak_reserved_bytes=1,
        peak_device_bytes=1,
        host_bytes=1,
        seconds=seconds,
        load_seconds=0.0,
        source="cuda",
    )
    made = Receipt(id="x", request={}, plan={}, measurement=measured, outputs=())
    return replace(made, error=error)


def test_the_table_says_what_happened() -> None:
    request = parse(vram_gib=6)
    border = Trial(role="border", group=0, request=request)
    beyond = Trial(role="beyond", group=0, request=request)
    out = receipt(1, {"type": "OutOfMemory"})
    assert "ran at 6 GiB, ran out at 0.9" in trials_table([(border, receipt(1)), (beyond, out)])
    assert "did NOT run out" in trials_table([(border, receipt(1)), (beyond, receipt(1))])
    assert "FAILED at 6 GiB" in trials_table([(border, out), (beyond, out)])
    chosen = Trial(role="chosen", group=1, request=request)
    rival = Trial(role="rival", group=1, request=request)
    slow = Trial(role="rival", group=1, request=parse(vram_gib=6, settings={"offload": "leaf"}))
    runs = [(chosen, 4), (chosen, 2.1), (rival, 2.9), (rival, 2.0), (slow, 9), (slow, 8)]
    line = trials_table([(trial, receipt(seconds)) for trial, seconds in runs])
    assert "chosen 2.10 s, fastest of 3 2.00 s (+5.0%)" in line
