"""What the plan says of step caches and of attention kernels."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.optimizer.test_plan import WAN, plan, target_of
from webui.catalogue import find_model
from webui.core.plan import Plan
from webui.estimator.case import Case
from webui.estimator.estimate import trace_phase
from webui.estimator.seconds import CUDA
from webui.estimator.wan_step_cache import computed_steps
from webui.estimator.wan_steps import expert_steps

START_S = CUDA.start_s
SIZE = {"frames": 81, "height": 480, "width": 832, "steps": 50}


def made(**settings: Any) -> Plan:
    return plan("h200", **SIZE, settings={"offload": "none", **settings})


def denoise_bytes(found: Plan) -> int:
    return next(p.allocated_bytes for p in found.estimate.phases if p.name == "denoise")


def denoise_seconds(found: Plan) -> float:
    return next(p.seconds for p in found.estimate.phases if p.name == "denoise")


@pytest.mark.parametrize(
    ("interval", "steps", "computed"),
    [(5, 50, 13), (1, 50, 50), (2, 16, 9), (20, 3, 3), (20, 5, 4), (5, 1, 1)],
)
def test_taylorseers_schedule(interval: int, steps: int, computed: int) -> None:
    settings = {"step_cache": "taylorseer", "step_cache_interval": interval}
    assert computed_steps(settings, steps) == computed


def test_taylorseer_takes_the_seconds_of_what_it_computes() -> None:
    plain, cached = made(), made(step_cache="taylorseer")
    share = (denoise_seconds(cached) - START_S) / (denoise_seconds(plain) - START_S)
    assert share == pytest.approx(13 / 50)
    model, asked = find_model(WAN), cached.request
    trace = trace_phase(Case(model, asked, cached.settings, target_of(asked, "h200")), "denoise")
    assert trace.seconds_formula == "26 x compute 1 + start 1"
    assert any("extrapolated" in reason.en for reason in cached.reasons)


def test_the_first_blocks_cache_is_a_range_down_to_the_first_block() -> None:
    plain, cached = made(), made(step_cache="first-block")
    assert denoise_seconds(cached) == denoise_seconds(plain)
    (low, high), (plain_low, plain_high) = (
        found.estimate.seconds_range for found in (cached, plain)
    )
    assert high == plain_high and low < plain_low / 5
    assert any("at most" in note.en for note in cached.estimate.notes)
    never = made(step_cache="first-block", step_cache_threshold=0)
    assert never.estimate.seconds_range == plain.estimate.seconds_range


def test_what_a_cache_keeps() -> None:
    """81 frames of 480x832 are 32 760 tokens; 1.3B is 1536 wide, and its last layer 64."""
    plain = denoise_bytes(made())
    first = denoise_bytes(made(step_cache="first-block"))
    assert first - plain == pytest.approx(6 * 32760 * 1536 * 2, rel=1e-3)
    taylor = denoise_bytes(made(step_cache="taylorseer"))
    assert taylor - plain == pytest.approx(4 * 32760 * 64 * 2, rel=1e-3)
    single = plan("h200", **SIZE, guidance=1.0, settings={"offload": "none"})
    cached = plan(
        "h200", **SIZE, guidance=1.0, settings={"offload": "none", "step_cache": "first-block"}
    )
    difference = denoise_bytes(cached) - denoise_bytes(single)
    assert difference == pytest.approx(3 * 32760 * 1536 * 2, rel=1e-3)


@pytest.mark.parametrize("gib", [80, 8, 4, 3])
def test_a_cache_is_never_chosen_unasked(gib: int) -> None:
    found = plan("h200", **SIZE, vram_gib=gib)
    assert found.settings["step_cache"] == "none" and found.settings["attention"] == "sdpa"
    assert "step_cache_threshold" not in found.choices
    asked = plan("h200", **SIZE, vram_gib=gib, settings={"step_cache": "taylorseer"})
    assert "step_cache_interval" in asked.choices
    assert "step_cache_threshold" not in asked.choices


def test_attention_kernels_say_what_was_not_measured() -> None:
    plain = made()
    for name in ("flash", "xformers"):
        found = made(attention=name)
        assert denoise_bytes(found) == denoise_bytes(plain)
        assert any(f"{name} was never measured" in note.en for note in found.estimate.notes)
    sage = made(attention="sage")
    assert denoise_bytes(sage) - denoise_bytes(plain) == pytest.approx(32760 * 1536 * 4, rel=1e-3)
    assert any("upper bound" in note.en for note in sage.estimate.notes)
    assert not any("never measured" in note.en for note in plain.estimate.notes)


def test_other_phases_do_not_depend_on_them() -> None:
    plain, other = made(), made(attention="sage", step_cache="first-block")
    for before, after in zip(plain.estimate.phases, other.estimate.phases, strict=True):
        if before.name != "denoise":
            assert before == after


def test_each_of_two_transformers_counts_its_own_steps() -> None:
    model, steps = "wan2.2-t2v-a14b", 20
    plain = plan("h200", model=model, steps=steps)
    cached = plan("h200", model=model, steps=steps, settings={"step_cache": "taylorseer"})
    counts = expert_steps(find_model(model), plain.request, steps)
    for name, count in zip(("denoise_high", "denoise_low"), counts, strict=True):
        before, after = (
            next(phase.seconds for phase in found.estimate.phases if phase.name == name) - START_S
            for found in (plain, cached)
        )
        share = computed_steps(cached.settings, count) / count
        assert share < 1 and after / before == pytest.approx(share)
