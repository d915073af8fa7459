"""Plans with quantised weights: only for who names them, and with what they go with."""

from __future__ import annotations

import re
from typing import Any

import pytest

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.plan import Plan
from webui.core.request import Request
from webui.core.settings import with_defaults
from webui.estimator.estimate import Target, estimate, weights_bytes
from webui.hardware import find_card
from webui.optimizer import make_plan
from webui.optimizer.candidates import candidates

WAN = "wan2.1-t2v-1.3b"
FULL = {"model": WAN, "frames": 81, "height": 480, "width": 832}


def parse(**data: Any) -> Request:
    return parse_request(data, find_model)


def target_on(card: str) -> Target:
    found = find_card(card)
    return Target(card=found, limit_bytes=found.vram_bytes, host=find_card("cpu"))


def plan(card: str, **data: Any) -> Plan:
    return make_plan(find_model(data["model"]), parse(**data), target_on(card), lambda: ())


def test_quantisation_is_for_who_names_it() -> None:
    for settings in candidates(find_model(WAN), parse(**FULL), target_on("rtx-3060-12gb")):
        assert settings["quantization"] == "none"


@pytest.mark.parametrize("name", ["int8", "nf4", "int8wo", "fp8wo"])
def test_quantised_weights_are_planned_with_what_they_go_with(name: str) -> None:
    request = parse(**FULL, settings={"quantization": name})
    target = target_on("rtx-3060-12gb")
    tried = list(candidates(find_model(WAN), request, target))
    assert {settings["offload"] for settings in tried} == {"none", "model"}
    assert {settings["precision"] for settings in tried} == {"bf16"}
    made = plan("rtx-3060-12gb", **FULL, settings={"quantization": name})
    assert made.estimate.fits and made.estimate.settings["quantization"] == name
    told = [reason for reason in made.reasons if f"({name})" in reason.en]
    assert len(told) == 1 and "while denoising" in told[0].en and f"{name}" in told[0].zh
    assert re.search(r"-[\d.]+ [GM]iB", told[0].en)


def test_weights_in_blocks_are_planned_streamed_too() -> None:
    asked = {"quantization": "gguf", "gguf_type": "q4_k_m"}
    request = parse(**FULL, settings=asked)
    tried = list(candidates(find_model(WAN), request, target_on("rtx-3060-12gb")))
    assert {settings["offload"] for settings in tried} == {"none", "model", "block", "leaf"}
    made = plan("rtx-3060-12gb", **FULL, settings=asked)
    assert made.estimate.fits and made.estimate.settings["gguf_type"] == "q4_k_m"
    assert len([reason for reason in made.reasons if "gguf" in reason.en]) == 1


def test_finer_blocks_take_more_memory_and_streamed_ones_wait_in_less_of_the_hosts() -> None:
    target = target_on("rtx-4090")
    found = {}
    for name in ("q4_k_m", "q5_k_m", "q6_k", "q8_0"):
        asked = {"quantization": "gguf", "gguf_type": name}
        settings = with_defaults(asked, find_model(WAN).settings)
        made = estimate(find_model(WAN), parse(**FULL), settings, target)
        found[name] = next(p.resident_bytes for p in made.phases if p.name == "denoise")
    assert list(found.values()) == sorted(found.values())
    host = {}
    for name in ("none", "gguf"):
        asked = {"quantization": name, "gguf_type": "q4_k_m", "offload": "leaf"}
        settings = with_defaults(asked, find_model(WAN).settings)
        host[name] = estimate(find_model(WAN), parse(**FULL), settings, target).host_bytes
    whole = sum(weights_bytes(find_model(WAN), settings | {"quantization": "none"}).values())
    assert host["none"] - host["gguf"] > 0.3 * whole


def test_fewer_bits_take_less_memory() -> None:
    target = target_on("rtx-4090")
    resident = []
    for name in ("none", "int8", "nf4"):
        settings = with_defaults({"quantization": name}, find_model(WAN).settings)
        found = estimate(find_model(WAN), parse(**FULL), settings, target)
        resident.append(next(p.resident_bytes for p in found.phases if p.name == "denoise"))
        assert found.seconds > 0
    assert resident == sorted(resident, reverse=True)


def test_14b_in_four_bits_fits_where_bf16_does_not() -> None:
    asked = {**FULL, "model": "wan2.1-t2v-14b"}
    fixed = {"precision": "bf16", "offload": "model", "text_encoder": "cpu"}
    assert not plan("rtx-4090", **asked, settings=fixed).estimate.fits
    assert plan("rtx-4090", **asked, settings=fixed | {"quantization": "nf4"}).estimate.fits
