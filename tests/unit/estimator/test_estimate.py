"""Estimates: the contract's form, and what must hold for any request."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from webui.catalogue import find_model, models_of
from webui.core.clip import ClipCard
from webui.core.errors import NotFound
from webui.core.parse import parse_request
from webui.core.plan import Estimate
from webui.core.settings import SETTINGS, refused_together, unquantized, with_defaults
from webui.core.units import GIB, MIB
from webui.estimator.estimate import (
    Target,
    estimate,
    margin_bytes,
    peak_bytes,
    phase_names,
    weights_bytes,
)
from webui.estimator.rules import rules_for
from webui.estimator.templates import find_template
from webui.hardware import find_card, load_cards

WAN = "wan2.1-t2v-1.3b"
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


def target(card: str = "h200", gib: float | None = None, **changes: Any) -> Target:
    found = find_card(card)
    limit = found.vram_bytes if gib is None else int(gib * GIB)
    return Target(card=found, limit_bytes=limit, host=find_card("cpu"), **changes)


def run(card: str = "h200", gib: float | None = None, **data: Any) -> Estimate:
    """The estimate of a request; settings not named have their defaults."""
    request = parse_request({"model": WAN, **data}, find_model)
    model = find_model(request.model)
    return estimate(
        model, request, with_defaults(request.settings, model.settings), target(card, gib)
    )


def peaks(phases: tuple[str, ...], card: str = "h200", **data: Any) -> list[int]:
    """Live bytes of phases, which need no replay."""
    request = parse_request({"model": WAN, **data}, find_model)
    model = find_model(request.model)
    settings = with_defaults(request.settings, model.settings)
    where = target(card)
    return [peak_bytes(model, request, settings, where, phase) for phase in phases]


def random_requests(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Workloads and settings of all kinds of clips, small enough to replay quickly."""
    chance = random.Random(seed)
    models = list(models_of(ClipCard))
    found = []
    for _ in range(count):
        model = models_of(ClipCard)[chance.choice(models)]
        multiple, step = model.size_multiple, model.frame_step
        sides = range(max(64, model.min_side), 400, multiple)
        settings: dict[str, Any] = {
            name: chance.choice(model.setting_values.get(name) or SETTINGS[name].choices)
            for name in model.settings
            if SETTINGS[name].choices
        }
        if refused_together(settings) is not None:
            settings.pop("quantization")
        if settings.get("vae_tiling"):
            settings["vae_tile"] = chance.choice((64, 128, 192, 256, 320))
        data = {
            "model": model.name,
            "frames": step * chance.randrange(0, 32 // step) + 1,
            "height": chance.choice(sides),
            "width": chance.choice(sides),
            "steps": chance.randrange(2, 60),
            "guidance": chance.choice((1.0, 5.0)),
            "settings": settings,
        }
        if "solver" in model.workload:
            data["solver"] = chance.choice(("unipc", "dpm++"))
        pictures = [key for key in ("image", "last_image") if key in model.workload]
        data |= {key: "picture" for key in pictures if chance.random() < 0.5}
        found.append(data)
    return found


PHASES = ("encode", "image_encode", "denoise", "denoise_high", "denoise_low", "decode")
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


@pytest.mark.parametrize("size", [(256, 256), (480, 832)])
@pytest.mark.parametrize("frames", [1, 33])
def test_streamed_weights_take_less_than_swapped_and_those_than_resident(
    size: tuple[int, int], frames: int
) -> None:
    work = {"height": size[0], "width": size[1], "frames": frames}
    by_offload = {
        offload: run(**work, settings={"offload": offload, "text_encoder": "gpu"})
        for offload in ("leaf", "block", "model", "none")
    }
    for phase in range(3):
        resident = {name: item.phases[phase].resident_bytes for name, item in by_offload.items()}
        peak = {name: item.phases[phase].allocated_bytes for name, item in by_offload.items()}
        assert resident["leaf"] <= resident["block"] <= resident["model"] <= resident["none"]
        assert peak["leaf"] <= peak["block"] <= peak["model"] <= peak["none"]
    weights = weights_bytes(
        find_model(WAN), with_defaults({"text_encoder": "gpu"}, find_model(WAN).settings)
    )
    assert by_offload["none"].phases[1].resident_bytes >= sum(weights.values())
    assert by_offload["leaf"].phases[1].resident_bytes < 0.1 * weights["transformer"]
    # What is not on the card waits on the host.
    assert by_offload["leaf"].host_bytes - by_offload["none"].host_bytes == sum(weights.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tile", [64, 128, 256])
@pytest.mark.parametrize("frames", [1, 5, 33])
def test_tiles_lower_the_decode_peak(precision: str, tile: int, frames: int) -> None:
    work = {"height": 704, "width": 1280, "frames": frames}
    common = {"vae_precision": precision, "offload": "model"}
    (whole,) = peaks(("decode",), **work, settings=common)
    (tiled,) = peaks(("decode",), **work, settings=common | {"vae_tiling": True, "vae_tile": tile})
    assert tiled < whole
    (other_phase,) = peaks(
        ("denoise",), **work, settings=common | {"vae_tiling": True, "vae_tile": tile}
    )
    assert other_phase == peaks(("denoise",), **work, settings=common)[0]


def test_tiles_larger_than_the_picture_change_nothing() -> None:
    work = {"height": 256, "width": 256, "frames": 9}
    assert peaks(("decode",), **work, settings={"vae_tiling": True}) == peaks(("decode",), **work)


@pytest.mark.parametrize("data", random_requests(10, seed=2), ids=range(10))
def test_fp32_never_needs_less_than_half_precision(data: dict[str, Any]) -> None:
    whole = unquantized(data["settings"])
    full, half, half_too = (
        run(**(data | {"settings": whole | {"precision": p, "vae_precision": p}}))
        for p in ("fp32", "bf16", "fp16")
    )
    for a, b in zip(full.phases, half.phases, strict=True):
        assert a.allocated_bytes >= b.allocated_bytes
        assert a.resident_bytes >= b.resident_bytes
    if find_model(data["model"]).family != "svd":  # its encoder takes fp32 in place of fp16 alone
        assert half.phases == half_too.phases


def step_seconds(**data: Any) -> float:
    """What one more step takes: what a phase pays for its start does not count."""
    few, many = run(**data, steps=10), run(**data, steps=20)
    assert many.phases[0].name == "denoise"
    return (many.phases[0].seconds - few.phases[0].seconds) / 10


def test_guidance_costs_time_and_no_less_memory() -> None:
    one, two = {"guidance": 1.0, "frames": 33}, {"guidance": 5.0, "frames": 33}
    assert step_seconds(**two) == pytest.approx(2 * step_seconds(**one))
    assert run(**two).phases[0].allocated_bytes >= run(**one).phases[0].allocated_bytes


def test_steps_cost_time_and_no_memory() -> None:
    few, more, many = (run(frames=17, steps=steps) for steps in (10, 20, 40))
    first, second = (
        later.phases[0].seconds - earlier.phases[0].seconds
        for earlier, later in ((few, more), (more, many))
    )
    assert second == pytest.approx(2 * first)
    assert 10 * step_seconds(frames=17) < few.phases[0].seconds
    assert many.phases[0].allocated_bytes == few.phases[0].allocated_bytes
    assert many.phases[1] == few.phases[1]


def test_channels_last_saves_scratch_on_a_gpu() -> None:
    for vae in ("fp32", "bf16"):
        plain, better = (
            peaks(("decode",), frames=17, settings={"vae_precision": vae, "channels_last": on})[0]
            for on in (False, True)
        )
        assert better < plain


def test_the_default_allocator_wastes_more() -> None:
    common = {"offload": "leaf", "text_encoder": "gpu"}
    expandable = run(settings=common)
    default = run(settings=common | {"allocator": "default"})
    assert default.peak_reserved_bytes > expandable.peak_reserved_bytes
    windows = run(settings=common, platform="windows")
    assert windows.peak_reserved_bytes == default.peak_reserved_bytes


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
    rules = rules_for(find_card("h200"), "expandable", "linux")
    for encoder, count in (("absent", 2), ("gpu", 3), ("stream", 3), ("cpu", 3)):
        settings = with_defaults({"text_encoder": encoder}, model.settings)
        assert len(phase_names(model, request, settings, rules)) == count
