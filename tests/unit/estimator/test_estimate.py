"""Estimates: the contract's form, and what must hold for any request."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.unit.estimator.estimating import PHASES, WAN, peaks, random_requests, run, target
from webui.catalogue import find_model, models_of
from webui.core.clip import ClipCard
from webui.core.errors import NotFound
from webui.core.parse import parse_request
from webui.core.settings import with_defaults
from webui.core.units import GIB, MIB
from webui.estimator.case import Case
from webui.estimator.estimate import (
    CALIBRATED_RANGE,
    UNCALIBRATED_RANGE,
    estimate,
    range_of,
)
from webui.estimator.rules import rules_for
from webui.estimator.target import Target, margin_bytes
from webui.estimator.templates import find_template
from webui.hardware import find_card, load_cards

CONTRACT = {
    "model": str,
    "card": str,
    "settings": dict,
    "fits": bool,
    "phases": list,
    "peak_allocated_bytes": int,
    "peak_reserved_bytes": int,
    "peak_device_bytes": int,
    "margin_bytes": int,
    "limit_bytes": int,
    "host_bytes": int,
    "seconds": float,
    "versions": dict,
}
PHASE = {
    "name": str,
    "resident_bytes": int,
    "activation_bytes": int,
    "allocated_bytes": int,
    "reserved_bytes": int,
    "seconds": float,
}


REQUESTS = random_requests(24)


@pytest.mark.parametrize("data", REQUESTS, ids=range(len(REQUESTS)))
@pytest.mark.parametrize("card", ["rtx-3060-12gb", "cpu"])
def test_form_and_sums(data: dict[str, Any], card: str) -> None:
    found = run(card, **data)
    told = found.to_json()
    for key, kind in CONTRACT.items():
        assert isinstance(told[key], kind), key
    assert set(told["settings"]) == set(find_model(data["model"]).settings)
    names = [phase["name"] for phase in told["phases"]]
    places = [PHASES.index(name) for name in names]
    assert places == sorted(set(places)) and names[-1] == "decode"
    has_encoder = data["settings"].get("text_encoder", "absent") != "absent"
    assert ("encode" in names) == has_encoder
    assert any(name.startswith("denoise") for name in names)
    for phase in told["phases"]:
        assert {key: type(phase[key]) for key in phase} == PHASE
        assert phase["allocated_bytes"] == phase["resident_bytes"] + phase["activation_bytes"]
        assert phase["activation_bytes"] >= 0 and phase["resident_bytes"] >= 0
        assert phase["allocated_bytes"] <= phase["reserved_bytes"]
        recalled = phase["name"] == "encode" and data["settings"]["text_encoder"] == "cached"
        assert phase["seconds"] > 0 or recalled
    for kind in ("allocated", "reserved"):
        whole = max(phase[f"{kind}_bytes"] for phase in told["phases"])
        assert told[f"peak_{kind}_bytes"] == whole
    assert told["peak_device_bytes"] == told["peak_reserved_bytes"] + find_card(card).context_bytes
    assert told["seconds"] == pytest.approx(sum(phase["seconds"] for phase in told["phases"]))
    low, high = told["seconds_range"]
    assert low < told["seconds"] < high
    if told["fits"]:
        assert told["peak_device_bytes"] + told["margin_bytes"] <= told["limit_bytes"]
    assert told["versions"]["torch"]


def test_margin_is_bounded_on_every_card() -> None:
    for card in load_cards().values():
        for platform in ("linux", "windows"):
            for gib in (1.0, 8.0, card.vram_bytes / GIB):
                where = Target(card=card, limit_bytes=int(gib * GIB), host=find_card("cpu"))
                margin = margin_bytes(where, rules_for(card, "expandable", platform))
                assert 0 < margin <= where.limit_bytes * 0.05 + 128 * MIB


@pytest.mark.parametrize("data", random_requests(12, seed=1), ids=range(12))
def test_more_work_never_needs_less(data: dict[str, Any]) -> None:
    """Frames, height and width each: live bytes of no phase go down."""
    card = models_of(ClipCard)[data["model"]]
    phases = tuple(phase.name for phase in run(**data).phases)
    for key, step in (
        ("frames", card.frame_step),
        ("height", card.size_multiple),
        ("width", card.size_multiple),
    ):
        before: list[int] = [0] * len(phases)
        for more in (0, 1, 2, 3, 5, 9):
            now = peaks(phases, **(data | {key: data[key] + more * step}))
            # Where tiling sets in, the first tile takes a trifle less than the whole did.
            assert all(0.995 * a <= b for a, b in zip(before, now, strict=True)), (key, more)
            before = now


@pytest.mark.parametrize("model", [WAN, "demo"])
@pytest.mark.parametrize("allocator", ["expandable", "default"])
def test_reserved_grows_with_frames(model: str, allocator: str) -> None:
    """A search for the most frames relies on it: no dip beyond what fragmentation makes."""
    reserved = [
        run(
            model=model, frames=4 * k + 1, height=256, width=256, settings={"allocator": allocator}
        ).peak_reserved_bytes
        for k in (0, 1, 2, 4, 7, 11, 16, 20)
    ]
    for before, after in pairwise(reserved):
        assert after >= 0.98 * before


def test_a_limit_decides_what_fits_and_not_what_is_needed() -> None:
    common: dict[str, Any] = {"frames": 33, "settings": {"offload": "leaf"}}
    free = run("rtx-4090", **common)
    needed = (free.peak_device_bytes + free.margin_bytes) / GIB
    assert free.fits
    tight = run("rtx-4090", gib=needed * 0.5, **common)
    assert not tight.fits
    assert tight.phases == free.phases
    assert tight.limit_bytes == int(needed * 0.5 * GIB)
    assert run("rtx-4090", gib=needed, **common).fits
    nothing = run("rtx-4090", gib=0.25, **common)
    assert not nothing.fits and nothing.peak_device_bytes == free.peak_device_bytes


def test_the_processor_counts_live_bytes() -> None:
    found = run(
        "cpu", model="demo", frames=5, height=64, width=64, settings={"text_encoder": "gpu"}
    )
    assert found.margin_bytes == 0 and found.context_bytes == 0
    for phase in found.phases:
        assert phase.allocated_bytes == phase.reserved_bytes
    # Nothing to offload to: a GPU's settings change nothing.
    offloaded = run(
        "cpu",
        model="demo",
        frames=5,
        height=64,
        width=64,
        settings={
            "text_encoder": "stream",
            "offload": "leaf",
            "channels_last": True,
            "allocator": "default",
        },
    )
    assert [p.allocated_bytes for p in offloaded.phases] == [
        p.allocated_bytes for p in found.phases
    ]


def test_receipts_of_this_machine_correct_the_seconds() -> None:
    request = parse_request({"model": "demo"}, find_model)
    model = find_model("demo")
    settings = with_defaults({"text_encoder": "gpu"}, model.settings)
    plain = estimate(model, request, settings, target("rtx-4090"))
    speed = {"encode": 3.0, "denoise": 2.0, "decode": 0.5}
    taught = estimate(model, request, settings, target("rtx-4090", speed=speed))
    for before, after in zip(plain.phases, taught.phases, strict=True):
        assert after.seconds == pytest.approx(before.seconds * speed.get(after.name, 1.0))
    low, high = taught.seconds_range
    assert (low, high) == pytest.approx((taught.seconds * 0.85, taught.seconds * 1.15))
    assert plain.seconds_range[1] / plain.seconds > 1.15
    assert any("range" in note.en for note in plain.notes)
    assert not any("range" in note.en for note in taught.notes)
    partly = estimate(model, request, settings, target("rtx-4090", speed={"denoise": 2.0}))
    assert partly.seconds_range[1] / partly.seconds > 1.15


def test_receipts_of_short_runs_say_less() -> None:
    """As much as nothing, where they are none of what is planned; all, from a quarter of it on."""
    plain, speed = target("rtx-4090"), {"denoise": 2.0}
    assert range_of(plain, "denoise", 100.0) == UNCALIBRATED_RANGE
    spans = []
    for seen in (0.0, 0.5, 2.0, 5.0, 10.0, 1000.0):
        known = replace(plain, speed=speed, speed_seconds={"denoise": seen})
        low, high = range_of(known, "denoise", 1000.0)
        spans.append(high / low)
        # Four times as much in all, and corrected by two.
        assert range_of(known, "denoise", 8 * seen) == pytest.approx(CALIBRATED_RANGE)
    assert spans[0] == pytest.approx(3.0) and spans == sorted(spans, reverse=True)
    assert spans[-1] == spans[-2] == pytest.approx(1.15 / 0.85) and spans[-2] < spans[-3]


def test_other_versions_and_unmeasured_cards_are_told() -> None:
    request = parse_request({"model": "demo"}, find_model)
    model = find_model("demo")
    settings = with_defaults({}, model.settings)
    traced = find_template(model, "transformer", "half").versions
    same = estimate(model, request, settings, target("h200", versions=traced))
    assert not any("versions" in note.en for note in same.notes)
    other = target("h200", versions=traced | {"torch": "2.4.0+cu121"})
    notes = estimate(model, request, settings, other).notes
    assert any("torch 2.4.0" in note.en and "2.4.0" in note.zh for note in notes)
    assert any("never measured" in note.en for note in run("rtx-4090", model="demo").notes)


def test_faster_cards_take_less_time() -> None:
    work: dict[str, Any] = {"frames": 33, "settings": {"text_encoder": "gpu"}}
    slow, fast, fastest = (run(c, **work) for c in ("rtx-3060-12gb", "rtx-4090", "h200"))
    for a, b, c in zip(slow.phases, fast.phases, fastest.phases, strict=True):
        assert a.seconds > b.seconds > c.seconds


def test_weights_are_those_of_the_checkpoint() -> None:
    """The demo's files, counted from the safetensors headers."""
    import json
    import struct
    from pathlib import Path

    import webui.demo

    folder = Path(webui.demo.__file__).parent / "checkpoint"
    elements = {}
    for part in ("transformer", "vae", "text_encoder"):
        (file,) = (folder / part).glob("*.safetensors")
        raw = file.read_bytes()
        header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
        elements[part] = sum(
            int(np.prod(item["shape"])) for name, item in header.items() if name != "__metadata__"
        )
    model = find_model("demo")
    for part, key in (("transformer", "transformer"), ("vae", "vae"), ("text", "text_encoder")):
        found = int(find_template(model, part, "full").array("weights").sum())
        # Buffers (rotary tables) come on top.
        assert 4 * elements[key] <= found <= 4 * elements[key] * 1.05 + 4 * MIB


def test_a_model_without_templates_is_named() -> None:
    demo = find_model("demo")
    changed = {**demo.configs, "transformer": {**demo.configs["transformer"], "num_layers": 99}}
    with pytest.raises(NotFound, match="template") as caught:
        find_template(replace(demo, configs=changed), "transformer", "half")
    assert "webui.tracing demo" in caught.value.hint.en


def test_phases_of_a_request() -> None:
    request = parse_request({"model": "demo"}, find_model)
    model = find_model("demo")
    for encoder, count in (("absent", 2), ("gpu", 3), ("stream", 3), ("cpu", 3)):
        settings = with_defaults({"text_encoder": encoder}, model.settings)
        assert len(Case(model, request, settings, target()).phases) == count
