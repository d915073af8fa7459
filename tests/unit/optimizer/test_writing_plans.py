"""Plans of models that write text: as many pages at a time as pay, streamed weights where needed,
reasons in words, questions asked backwards."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.optimizer.test_plan import larger_cards, target_of
from webui.catalogue import find_model
from webui.core.errors import BadInput
from webui.core.parse import parse_request
from webui.core.plan import Plan
from webui.core.request import Request
from webui.core.settings import with_defaults
from webui.estimator.estimate import estimate
from webui.hardware import find_card
from webui.optimizer import make_plan
from webui.optimizer.candidates import candidates, open_values
from webui.optimizer.frontier import find_frontier
from webui.optimizer.inverse import find_most, smallest_card
from webui.optimizer.ladder import ladders

PAGES = {"task": "parse", "model": "logics-parsing-v1", "height": 1204, "width": 868}


def parse(**data: Any) -> Request:
    return parse_request({**PAGES, "new_tokens": 512, **data}, find_model)


def plan(on: str, request: Request) -> Plan:
    target = target_of(request, on)
    model = find_model(request.model, request.task)
    return make_plan(model, request, target, lambda: larger_cards(target))


@pytest.mark.parametrize(
    ("pages", "batches"),
    [
        (1, [1]),
        (2, [1, 2]),
        (10, [1, 2, 4, 8, 10]),
        (64, [1, 2, 4, 8, 16, 32, 64]),
        (300, [1, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_batches_that_are_tried(pages: int, batches: list[int]) -> None:
    request = parse(pages=pages)
    found = open_values(find_model(request.model), request, target_of(request, "h200"))
    assert found["page_batch"] == batches
    assert found["offload"] == ["none", "leaf"] and found["attention"] == ["sdpa"]


@pytest.mark.parametrize(
    ("card", "gib", "pages", "settings"),
    [
        ("h200", None, 1, {"offload": "none", "page_batch": 1, "precision": "bf16"}),
        ("h200", None, 40, {"offload": "none", "page_batch": 40}),
        ("rtx-3090", None, 40, {"offload": "none"}),
        ("rtx-3060-12gb", None, 40, {"offload": "leaf"}),
        ("rtx-3060-12gb", 4, 1, {"offload": "leaf", "page_batch": 1}),
        ("rtx-2080-ti", None, 4, {"offload": "leaf", "precision": "fp16"}),
    ],
)
def test_plans_for_cards(
    card: str, gib: float | None, pages: int, settings: dict[str, Any]
) -> None:
    made = plan(card, parse(pages=pages, vram_gib=gib))
    assert made.fits
    assert {name: made.settings[name] for name in settings} == settings
    taken = made.estimate.peak_device_bytes + made.estimate.margin_bytes
    assert taken <= made.estimate.limit_bytes


@pytest.mark.parametrize(("card", "gib"), [("rtx-3090", None), ("rtx-3060-12gb", 6)])
def test_it_is_the_fastest_that_fits(card: str, gib: float | None) -> None:
    request = parse(pages=24, vram_gib=gib)
    made = plan(card, request)
    model, target = find_model(request.model), target_of(request, card)
    every = [estimate(model, request, one, target) for one in candidates(model, request, target)]
    fitting = [found for found in every if found.fits]
    assert made.estimate.seconds == pytest.approx(min(found.seconds for found in fitting))
    assert len(fitting) < len(every)


def test_what_the_user_fixed_stays() -> None:
    settings = {"page_batch": 3, "attention": "eager", "offload": "leaf"}
    made = plan("rtx-3090", parse(pages=9, settings=settings))
    assert {name: made.settings[name] for name in settings} == settings
    assert all(made.choices[name].by_user for name in settings)
    assert made.fits


def test_reasons_are_words_with_numbers() -> None:
    made = plan("rtx-3060-12gb", parse(pages=40))
    words = " ".join(reason.en for reason in made.reasons)
    assert "leaf streaming: -" in words and "while writing" in words
    assert f"{made.settings['page_batch']} pages at a time: +" in words
    assert all(reason.zh and reason.zh != reason.en for reason in made.reasons)
    for name in ("page_batch", "attention", "precision", "offload"):
        assert made.choices[name].why.en and made.choices[name].why.zh
    whole = plan("h200", parse(pages=4))
    assert "Everything fits" in whole.reasons[-1].en
    assert "4 pages at a time" in whole.choices["page_batch"].why.en
    assert "one page" in plan("h200", parse()).choices["page_batch"].why.en


def test_what_cannot_fit_is_offered_smaller() -> None:
    request = parse(height=4000, width=3000, pages=1, vram_gib=2.5)
    made = plan("rtx-3060-12gb", request)
    assert not made.fits
    offered = {key for offer in made.alternatives for key in offer.changes}
    assert {"height", "card"} <= offered
    for offer in made.alternatives:
        if "card" not in offer.changes:
            assert plan("rtx-3060-12gb", request.with_changes(**offer.changes)).fits


def test_the_largest_page_and_the_longest_answer_that_fit() -> None:
    request = parse(vram_gib=3)
    model = find_model(request.model)
    target = target_of(request, "rtx-3060-12gb")
    size = find_most(model, request, target, "size")
    assert size.found and size.request.height > 300 and size.request.max_pixels is None
    assert plan("rtx-3060-12gb", size.request).fits
    larger = size.request.with_changes(
        height=size.request.height + 280, width=size.request.width + 196
    )
    assert not plan("rtx-3060-12gb", larger).fits
    tokens = find_most(model, request, target, "tokens")
    assert tokens.found and plan("rtx-3060-12gb", tokens.request).fits
    assert "tokens fit" in tokens.text.en and "词元" in tokens.text.zh
    with pytest.raises(BadInput):
        find_most(model, request, target, "frames")


@pytest.mark.parametrize(("width", "height"), [(82, 16_384), (16_384, 82), (40, 8000)])
def test_sizes_of_narrow_pages_are_those_that_a_request_may_have(width: int, height: int) -> None:
    request = parse(width=width, height=height)
    rungs = ladders(find_model(request.model), request)["size"].requests
    assert rungs
    for rung in rungs:
        assert parse(**rung.to_json()).size_text == rung.size_text


def test_the_smallest_card_without_streaming() -> None:
    request = parse(pages=4, settings={"offload": "none"})
    model = find_model(request.model)
    cards = [(find_card(name), target_of(request, name)) for name in ("rtx-3060-12gb", "rtx-3090")]
    answer = smallest_card(model, request, cards)
    assert answer.found and answer.changes == {"card": "rtx-3090"}


def test_the_frontier_trades_memory_for_time() -> None:
    request = parse(pages=16)
    made = plan("h200", request)
    model, target = find_model(request.model), target_of(request, "h200")
    points = find_frontier(model, request, target, made.estimate)
    assert len(points) > 3 and sum(point.chosen for point in points) == 1
    assert [p.peak_device_bytes for p in points] == sorted(p.peak_device_bytes for p in points)
    assert [p.seconds for p in points] == sorted((p.seconds for p in points), reverse=True)
    assert {point.quality_cost for point in points} == {0.0}


def text(**data: Any) -> Request:
    return parse_request({"task": "generate", "model": "qwen3-4b", **data}, find_model)


def test_language_models_are_planned_too() -> None:
    made = plan("rtx-3060-12gb", text(batch=4))
    assert made.fits and made.settings["offload"] == "none"
    small = plan("rtx-3060-12gb", text(vram_gib=4))
    assert small.fits and small.settings["offload"] == "leaf"
    tight = plan("rtx-3060-12gb", text(batch=64, new_tokens=8192, vram_gib=6))
    assert not tight.fits
    assert any("answer" in offer.text.en for offer in tight.alternatives)
    most = find_most(
        find_model("qwen3-4b"),
        text(new_tokens=2048),
        target_of(text(), "rtx-3060-12gb"),
        "batch",
    )
    assert most.found and most.request.batch > 4


def test_eager_is_never_chosen_unasked() -> None:
    request = text()
    target = target_of(request, "h200")
    model = find_model("qwen3-4b")
    chosen = {one["attention"] for one in candidates(model, request, target)}
    assert chosen == {"sdpa"}
    eager = with_defaults({"attention": "eager"}, model.settings)
    plain = with_defaults({}, model.settings)
    found = [estimate(model, request, one, target) for one in (plain, eager)]
    assert found[1].peak_allocated_bytes > found[0].peak_allocated_bytes
