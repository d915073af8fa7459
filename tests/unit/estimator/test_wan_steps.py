"""Two transformers: the steps of each are those that the schedulers' times give."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.estimator.wan_steps import FEW_STEPS, expert_steps, relevant_steps, steps_of
from webui.pipelines.wan import build_scheduler, denoise_phases


@pytest.mark.parametrize("model", ["wan2.1-t2v-1.3b", "wan2.2-t2v-a14b"])
def test_memory_depends_on_the_first_steps_only(model: str) -> None:
    """Of each transformer: what stands for a number of steps has as many of them, or enough."""
    card = find_model(model)
    for phase in denoise_phases(card):
        kept = set()
        for steps in range(1, 201):
            request = parse_request({"model": model, "steps": steps}, find_model)
            found = steps_of(phase, card, request)
            stands = request.with_changes(steps=relevant_steps(phase, card, request))
            assert min(found, FEW_STEPS) == min(steps_of(phase, card, stands), FEW_STEPS)
            kept.add(stands.steps)
        assert len(kept) < 12
    assert relevant_steps("decode", card, request) == card.defaults.steps


@pytest.mark.parametrize("model", ["wan2.2-t2v-a14b", "wan2.2-i2v-a14b"])
@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_steps_fall_as_in_the_library(model: str, solver: str) -> None:
    card = find_model(model)
    for steps in (1, 2, 3, 4, 8, 20, 40, 50, 77):
        for shift in (1.0, 3.0, card.defaults.flow_shift, 20.0):
            keys = {"model": model, "steps": steps, "flow_shift": shift, "solver": solver}
            request = parse_request(keys, find_model)
            scheduler = build_scheduler(SimpleNamespace(card=card), request)
            scheduler.set_timesteps(steps)
            boundary = card.pipeline["boundary_ratio"] * 1000
            high = int((scheduler.timesteps >= boundary).sum())
            assert expert_steps(card, request, steps) == (high, steps - high), (steps, shift)
