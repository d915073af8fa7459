"""Plans: fixed settings stay, the best that fits is chosen, and what does not fit gets offers."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest

from webui.catalogue import find_model
from webui.core.card import Card
from webui.core.parse import parse_request
from webui.core.plan import Estimate, Plan
from webui.core.request import DETECTED, Request
from webui.core.settings import SETTINGS, refused_together, with_defaults
from webui.core.units import GIB, MIB
from webui.estimator.estimate import estimate
from webui.estimator.target import Target
from webui.hardware import find_card, load_cards
from webui.optimizer import make_estimate, make_plan
from webui.optimizer.candidates import GPU_ONLY, candidates, quality_cost

WAN = "wan2.1-t2v-1.3b"
FULL = {"model": WAN, "frames": 81, "height": 480, "width": 832}
LOSSY = {"vae_precision": ("bf16", "fp16"), "vae_tiling": (True,)}


def parse(**data: Any) -> Request:
    return parse_request({"model": WAN, **data}, find_model)


def target_of(request: Request, card: str) -> Target:
    found = find_card(card)
    limit = found.vram_bytes if request.vram_gib is None else int(request.vram_gib * GIB)
    return Target(card=found, limit_bytes=limit, host=find_card("cpu"))


def larger_cards(target: Target) -> tuple[tuple[Card, Target], ...]:
    cards = sorted(load_cards().values(), key=lambda card: card.vram_bytes)
    return tuple(
        (card, Target(card=card, limit_bytes=card.vram_bytes, host=target.host))
        for card in cards
        if card.vram_bytes > target.limit_bytes
    )


def plan(on: str = "rtx-3060-12gb", **data: Any) -> Plan:
    request = parse(**data)
    card = on if request.card == DETECTED else request.card
    target = target_of(request, card)
    model = find_model(request.model, request.task)
    return make_plan(model, request, target, lambda: larger_cards(target))


def is_lossless(found: Estimate) -> bool:
    return not any(found.settings[name] in values for name, values in LOSSY.items())


FIXED: list[dict[str, Any]] = [
    {"precision": "fp32"},
    {"precision": "fp16"},
    {"offload": "model", "text_encoder": "cpu"},
    {"offload": "block", "channels_last": False},
    {"text_encoder": "absent"},
    {"vae_precision": "fp16"},
    {"vae_tiling": True},
    {"vae_tiling": False},
    {"vae_tile": 64},
    {"vae_tile": 96, "vae_tiling": True},
    {"vae_tile": 192},
    {"vae_tile": 1024, "vae_tiling": True},
    {"vae_tile_overlap": 128},
    {"vae_tile_overlap": 16},
    {"vae_tile": 512, "vae_tile_overlap": 256, "vae_tiling": True},
    {"allocator": "default"},
]


@pytest.mark.parametrize("fixed", FIXED, ids=str)
@pytest.mark.parametrize("card", ["rtx-4090", "rtx-3060-12gb", "cpu"])
@pytest.mark.parametrize("model", ["demo", WAN])
def test_fixed_settings_are_kept(fixed: dict[str, Any], card: str, model: str) -> None:
    made = plan(card, model=model, settings=fixed)
    kept = {k: v for k, v in fixed.items() if card != "cpu" or k not in GPU_ONLY}
    assert {name: made.settings[name] for name in kept} == kept
    assert set(made.settings) == set(find_model(model).settings)
    assert int(made.settings["vae_tile_overlap"]) <= int(made.settings["vae_tile"]) // 2
    for name in kept:
        if name in made.choices:
            assert made.choices[name].by_user
            assert made.choices[name].why.zh == "由你指定。"
    for name, choice in made.choices.items():
        assert choice.value == made.settings[name]
        assert choice.by_user == (name in fixed)
        assert choice.why.en and choice.why.zh
    # What was chosen is a request that parses and estimates the same.
    again = parse(model=model, settings=made.settings)
    found = estimate(find_model(model), again, dict(made.settings), target_of(again, card))
    assert found == made.estimate


def test_workload_is_never_changed() -> None:
    for data in ({"frames": 5}, {**FULL, "vram_gib": 3}):
        request = parse(**data)
        assert plan(**data).request == request


def brute_force(request: Request, card: str) -> list[Estimate]:
    """Every candidate that fits, by `estimate`, best first: quality, seconds, peak."""
    model, target = find_model(request.model), target_of(request, card)
    found = [estimate(model, request, item, target) for item in candidates(model, request, target)]
    return sorted(
        (item for item in found if item.fits),
        key=lambda item: (
            quality_cost(item.settings),
            round(item.seconds, 9),
            item.peak_reserved_bytes,
        ),
    )


@pytest.mark.parametrize(
    ("card", "data"),
    [
        ("rtx-4090", FULL),
        ("rtx-3060-12gb", FULL),
        ("rtx-3060-12gb", {**FULL, "vram_gib": 8}),
        ("rtx-3060-12gb", {**FULL, "vram_gib": 6}),
        ("rtx-3060-12gb", {**FULL, "vram_gib": 5, "guidance": 1.0}),
        ("rtx-3060-12gb", {**FULL, "platform": "windows"}),
        ("rtx-3060-12gb", {**FULL, "vram_gib": 6, "settings": {"offload": "model"}}),
        ("gtx-1060-6gb", {**FULL, "frames": 33}),
        ("h200", {**FULL, "model": "wan2.1-t2v-14b"}),
        ("rtx-4090", {**FULL, "model": "wan2.1-t2v-14b"}),
        ("rtx-4090", {"model": "demo"}),
        ("cpu", {"model": "demo"}),
    ],
    ids=str,
)
def test_nothing_better_fits(card: str, data: dict[str, Any]) -> None:
    request = parse(**data)
    made = plan(card, **data)
    fitting = brute_force(request, card)
    assert made.fits == bool(fitting)
    if not fitting:
        return
    best = fitting[0]
    assert quality_cost(made.settings) == quality_cost(best.settings)
    assert made.estimate.seconds == pytest.approx(best.seconds, rel=1e-6)
    assert made.estimate.peak_reserved_bytes <= best.peak_reserved_bytes


@pytest.mark.parametrize("gib", [24, 16, 12, 10, 8, 6, 5, 4.5, 4])
def test_lossless_means_come_first(gib: float) -> None:
    made = plan("rtx-4090", **FULL, vram_gib=gib)
    lossless = [item for item in brute_force(made.request, "rtx-4090") if is_lossless(item)]
    if lossless:
        assert made.fits and is_lossless(made.estimate)
        assert made.estimate.seconds <= min(item.seconds for item in lossless) * (1 + 1e-6)


def test_less_memory_is_never_faster_or_better() -> None:
    costs = []
    for gib in (24, 16, 12, 8, 6, 5, 4):
        made = plan("rtx-4090", **FULL, vram_gib=gib)
        if made.fits:
            costs.append((quality_cost(made.settings), made.estimate.seconds))
            assert made.estimate.peak_device_bytes + made.estimate.margin_bytes <= gib * GIB
    assert len(costs) >= 3
    assert costs == sorted(costs)


def test_a_large_card_offloads_nothing() -> None:
    made = plan("h200", **FULL)
    assert made.settings["vae_tiling"] is False and made.settings["vae_precision"] == "fp32"
    assert made.settings["precision"] == "bf16"


@pytest.mark.parametrize("name", ["rtx-3060-12gb", "rtx-4090", "rtx-4060", "gtx-1070", "h200"])
def test_named_cards(name: str) -> None:
    made = plan(name, **(FULL | {"frames": 17}))
    card = find_card(name)
    assert made.estimate.card == name and made.estimate.limit_bytes == card.vram_bytes
    assert made.estimate.context_bytes == card.context_bytes
    assert made.settings["precision"] == ("bf16" if card.bf16 else "fp16")


def test_windows_has_no_expandable_segments() -> None:
    made = plan("rtx-4090", **FULL, platform="windows")
    assert made.settings["allocator"] == "default"
    assert "Windows" in made.choices["allocator"].why.en
    assert plan("rtx-4090", **FULL).settings["allocator"] == "expandable"


def test_on_a_processor_gpu_settings_are_ignored_and_said_to_be() -> None:
    plain = plan("cpu", model="demo")
    assert plain.fits
    assert not set(plain.choices) & set(GPU_ONLY)
    assert plain.settings["vae_tiling"] is False
    given = {
        "offload": "leaf",
        "channels_last": True,
        "allocator": "default",
        "text_encoder": "cpu",
    }
    told = plan("cpu", model="demo", settings=given)
    assert [p.allocated_bytes for p in told.estimate.phases] == [
        p.allocated_bytes for p in plain.estimate.phases
    ]
    assert not set(told.choices) & set(GPU_ONLY)
    sentence = next(reason for reason in told.reasons if "change nothing" in reason.en)
    for name in given:
        label = SETTINGS[name].label
        assert label.en in sentence.en and label.zh in sentence.zh
    assert not any("change nothing" in reason.en for reason in plain.reasons)


def test_reasons_have_numbers_in_both_languages() -> None:
    made = plan("rtx-3060-12gb", **FULL, vram_gib=5)
    assert made.fits and len(made.reasons) >= 3
    savings = [reason for reason in made.reasons if re.search(r"-[\d.]+ [GM]iB", reason.en)]
    assert len(savings) >= 2
    for reason in made.reasons:
        assert reason.en and reason.zh
        assert re.search("[\u4e00-\u9fff]", reason.zh)
        assert re.findall(r"[\d.]+ [GM]iB", reason.en) == re.findall(r"[\d.]+ [GM]iB", reason.zh)
    streamed = next(reason for reason in made.reasons if "leaf streaming" in reason.en)
    assert re.search(r"[+-][\d.]+ s a step", streamed.en)


def test_the_saving_that_is_told_is_the_difference_of_estimates() -> None:
    made = plan("rtx-3060-12gb", **FULL, settings={"offload": "leaf", "text_encoder": "cpu"})
    reason = next(reason for reason in made.reasons if "leaf streaming" in reason.en)
    told = float(re.search(r"-([\d.]+) GiB", reason.en)[1])  # type: ignore[index]
    model, target = find_model(WAN), target_of(made.request, "rtx-3060-12gb")
    with_it, without = (
        estimate(model, made.request, dict(made.settings) | {"offload": offload}, target)
        .phases[1]
        .allocated_bytes
        for offload in ("leaf", "none")
    )
    assert told == pytest.approx((without - with_it) / GIB, abs=0.01)


def changed(request: Request, changes: dict[str, Any]) -> dict[str, Any]:
    """What the page does when an offer is taken."""
    data = request.to_json()
    settings = data["settings"] | changes.get("settings", {})
    return data | changes | {"settings": settings}


@pytest.mark.parametrize(
    ("card", "data"),
    [
        ("rtx-3060-12gb", {**FULL, "vram_gib": 1.5}),
        ("rtx-3060-12gb", {**FULL, "settings": {"offload": "none", "text_encoder": "gpu"}}),
        (
            "rtx-3060-12gb",
            {**FULL, "frames": 161, "vram_gib": 4, "settings": {"vae_tiling": False}},
        ),
        (
            "gtx-1060-6gb",
            {**FULL, "model": "wan2.1-t2v-14b", "height": 720, "width": 1280, "frames": 161},
        ),
    ],
    ids=str,
)
def test_offers_fit_when_they_are_taken(card: str, data: dict[str, Any]) -> None:
    made = plan(card, **data)
    assert not made.fits
    assert "does not fit" in made.reasons[0].en and "放不下" in made.reasons[0].zh
    assert len(re.findall(r"[\d.]+ [GM]iB", made.reasons[0].en)) == 2
    assert made.alternatives
    for offer in made.alternatives:
        assert offer.text.en and offer.text.zh
        taken = changed(made.request, offer.changes)
        then = plan(card, **taken)
        assert then.fits, offer.text.en
        assert set(offer.changes) <= {"frames", "height", "width", "settings", "card", "vram_gib"}
    told = made.to_json()
    assert told["fits"] is False and len(told["alternatives"]) == len(made.alternatives)


LARGE = {**FULL, "model": "wan2.1-t2v-14b"}


@pytest.mark.parametrize("card", ["rtx-3060-12gb", "h200"])
@pytest.mark.parametrize(
    ("size", "vram_gib"),
    [({"height": 480, "width": 832}, 6), ({"height": 720, "width": 1280}, 8)],
    ids=str,
)
def test_14b_fits_on_a_small_card(card: str, size: dict[str, int], vram_gib: int) -> None:
    made = plan(card, **{**LARGE, **size, "vram_gib": vram_gib})
    assert made.fits
    assert made.estimate.settings["precision"] == "bf16"


def test_pieces_come_before_means_that_cost_quality() -> None:
    """Denoising fits in pieces: fp8 is not asked for, and the reason says what they free."""
    made = plan("rtx-3060-12gb", **{**LARGE, "height": 720, "width": 1280, "vram_gib": 8})
    assert made.estimate.settings["ffn_chunks"] == 8
    reason = next(text for text in made.reasons if "in 8 pieces" in text.en)
    assert re.search(r"-[\d.]+ GiB while denoising, \+", reason.en) and "前馈分 8 段" in reason.zh
    assert plan("h200", **LARGE).estimate.settings["ffn_chunks"] == 1, "not where it fits without"


def test_fp8_is_chosen_only_where_streaming_by_layers_is_ruled_out() -> None:
    fixed = plan("rtx-4090", **LARGE, settings={"offload": "model"})
    assert fixed.fits and fixed.estimate.settings["precision"] == "fp8"
    assert any("stored in fp8" in text.en for text in fixed.reasons)
    assert not plan("rtx-4090", **LARGE, settings={"offload": "model", "precision": "bf16"}).fits
    assert plan("rtx-4090", **LARGE).estimate.settings["precision"] == "bf16"


def test_the_offered_frames_are_the_most() -> None:
    made = plan(**FULL, vram_gib=6, settings={"vae_tiling": False, "vae_precision": "fp32"})
    assert not made.fits
    frames = next(o.changes["frames"] for o in made.alternatives if "frames" in o.changes)
    assert frames < 81
    more = plan("rtx-3060-12gb", **(changed(made.request, {"frames": frames + 4})))
    assert not more.fits


def test_the_offered_size_keeps_the_shape() -> None:
    made = plan(**FULL, vram_gib=6, settings={"vae_tiling": False, "vae_precision": "fp32"})
    size = next(o.changes for o in made.alternatives if "height" in o.changes)
    assert size["height"] < 480
    assert size["width"] / size["height"] == pytest.approx(832 / 480, rel=0.1)


def test_the_offered_card_is_the_smallest() -> None:
    data = {**FULL, "settings": {"offload": "none", "text_encoder": "gpu", "precision": "bf16"}}
    made = plan("rtx-3060-12gb", **data)
    assert not made.fits
    offered = next(o.changes["card"] for o in made.alternatives if "card" in o.changes)
    size = find_card(offered).vram_bytes
    for card in load_cards().values():
        if card.vram_bytes < size:
            assert not plan(card.name, **data).fits or card.vram_bytes <= made.estimate.limit_bytes


def test_estimate_searches_nothing() -> None:
    request = parse(**FULL, settings={"offload": "leaf"})
    made = make_estimate(find_model(WAN), request, target_of(request, "rtx-3060-12gb"))
    assert made.settings == with_defaults({"offload": "leaf"}, find_model(WAN).settings)
    assert made.choices["offload"].by_user and not made.choices["precision"].by_user
    assert made.fits
    huge = parse(**FULL, vram_gib=2)
    refused = make_estimate(find_model(WAN), huge, target_of(huge, "rtx-3060-12gb"))
    assert not refused.fits and refused.reasons


def test_the_same_request_gets_the_same_plan() -> None:
    assert plan(**FULL).to_json() == plan(**FULL).to_json()


def test_any_request_gets_a_plan() -> None:
    """Random fixed settings and limits: an answer always, in time."""
    chance = random.Random(5)
    cards = list(load_cards())
    seconds = []
    for _ in range(60):
        model = chance.choice(("demo", WAN, "wan2.1-t2v-14b"))
        known = find_model(model).setting_values
        settings: dict[str, Any] = {}
        for name in find_model(model).settings:
            spec = SETTINGS[name]
            if chance.random() < 0.3:
                settings[name] = (
                    chance.choice(known.get(name, spec.choices))
                    if spec.choices
                    else chance.randrange(spec.low, spec.high + 1, spec.multiple)
                )
        if settings.get("vae_tile_overlap", 0) > settings.get("vae_tile", 256) // 2:
            settings.pop("vae_tile_overlap")
        if refused_together(settings) is not None:
            settings.pop("quantization")
        multiple = find_model(model).size_multiple
        data: dict[str, Any] = {
            "model": model,
            "frames": 4 * chance.randrange(0, 30) + 1,
            "height": multiple * chance.randrange(4, 40),
            "width": multiple * chance.randrange(4, 40),
            "settings": settings,
            "platform": chance.choice(("linux", "windows")),
        }
        if chance.random() < 0.5:
            data["vram_gib"] = chance.choice((0.25, 1, 3, 6, 12, 24, 80))
        began = time.perf_counter()
        made = plan(chance.choice(cards), **data)
        seconds.append(time.perf_counter() - began)
        assert made.reasons or made.fits
        if made.fits:
            taken = made.estimate.peak_device_bytes + made.estimate.margin_bytes
            assert taken <= made.estimate.limit_bytes + MIB
    assert sorted(seconds)[len(seconds) // 2] < 2.0
