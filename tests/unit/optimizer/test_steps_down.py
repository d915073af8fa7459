"""What would save memory: it does, by as much as is said, and nothing of the result is given up."""

from __future__ import annotations

from typing import Any

import pytest

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.units import MIB
from webui.estimator.estimate import estimate
from webui.estimator.target import Target
from webui.hardware import find_card
from webui.optimizer import make_plan
from webui.optimizer.candidates import quality_cost
from webui.optimizer.steps_down import StepDown, find_steps_down

REQUESTS: tuple[dict[str, Any], ...] = (
    {"model": "wan2.1-t2v-1.3b", "card": "rtx-3060-12gb", "prompt": "a boat"},
    {"model": "wan2.1-i2v-14b-480p", "card": "h200", "image": "start.png", "prompt": "a boat"},
    {"model": "svd-xt", "card": "rtx-4090", "image": "start.png", "frames": 14},
)


@pytest.mark.parametrize("data", REQUESTS, ids=lambda data: data["model"])
def test_each_step_saves_what_it_says(data: dict[str, Any]) -> None:
    request = parse_request(data, find_model)
    model, card = find_model(request.model, request.task), find_card(request.card)
    target = Target(card=card, limit_bytes=card.vram_bytes, host=find_card("cpu"))
    plan = make_plan(model, request, target)
    steps = find_steps_down(model, request, plan.settings, target)
    assert steps
    before = plan.estimate
    for step in steps:
        after = estimate(model, request, {**plan.settings, **step.changes}, target)
        assert step.saved_bytes == before.peak_device_bytes - after.peak_device_bytes > 0
        assert step.extra_s == pytest.approx(after.seconds - before.seconds)
        assert step.lossless is (quality_cost(after.settings) <= quality_cost(plan.settings))
        assert not {"precision", "quantization", "step_cache"} & set(step.changes)
        assert step.text.en and step.text.zh
    for kind in (True, False):
        ranked = [step for step in steps if step.lossless is kind]
        assert ranked == sorted(ranked, key=lambda step: step.saved_bytes)
        # More memory saved for less time would leave the other one without a use.
        assert not any(_beats(one, other) for one in ranked for other in ranked)


def test_what_the_user_encoded_before_stays_so() -> None:
    data = {
        "model": "wan2.1-t2v-1.3b", "prompt": "a boat", "card": "h200",
        "settings": {"text_encoder": "absent"},
    }  # fmt: skip
    request = parse_request(data, find_model)
    model, card = find_model(request.model), find_card("h200")
    target = Target(card=card, limit_bytes=card.vram_bytes, host=find_card("cpu"))
    plan = make_plan(model, request, target)
    steps = find_steps_down(model, request, plan.settings, target)
    assert steps and all("text_encoder" not in step.changes for step in steps)


def test_what_the_user_fixed_stays() -> None:
    data = {
        "model": "wan2.1-t2v-1.3b", "prompt": "a boat", "card": "h200",
        "settings": {"offload": "none", "vae_tiling": False},
    }  # fmt: skip
    request = parse_request(data, find_model)
    model, card = find_model(request.model), find_card("h200")
    target = Target(card=card, limit_bytes=card.vram_bytes, host=find_card("cpu"))
    plan = make_plan(model, request, target)
    steps = find_steps_down(model, request, plan.settings, target)
    assert steps and not any({"offload", "vae_tiling"} & set(step.changes) for step in steps)


def _beats(one: StepDown, other: StepDown) -> bool:
    more = one.saved_bytes > other.saved_bytes + 64 * MIB
    return more and one.extra_s < other.extra_s - 1e-6
