"""Two transformers: the steps of each are those that the schedulers' times give."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.estimator.wan_steps import expert_steps
from webui.pipelines.wan import build_scheduler


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
