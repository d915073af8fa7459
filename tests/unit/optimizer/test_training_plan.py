"""Plans for fine-tuning: what is chosen, why, and what is offered where nothing fits."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.optimizer.test_plan import parse, plan, target_of
from webui.catalogue import find_model
from webui.core.plan import Plan
from webui.core.request import Request
from webui.estimator.target import Target
from webui.hardware import find_card, load_cards
from webui.optimizer.candidates import candidates
from webui.optimizer.frontier import find_frontier
from webui.optimizer.inverse import find_most, smallest_card
from webui.optimizer.search import find_best

ADAPTERS: dict[str, Any] = {
    "task": "train",
    "model": "qwen2.5-vl-3b",
    "image_size": 336,
    "sequence_length": 1024,
    "batch": 1,
    "gradient_accumulation": 4,
    "lora_rank": 16,
}
FULL = {**ADAPTERS, "lora_rank": 0}
CARD = find_model("qwen2.5-vl-3b", "train")


def fits(card: str, request: Request) -> bool:
    return find_best(CARD, request, target_of(request, card)) is not None


def said(made: Plan) -> str:
    return " ".join(reason.en for reason in made.reasons)


def test_nothing_is_computed_twice_where_everything_fits() -> None:
    made = plan("rtx-4090", **ADAPTERS)
    assert made.fits and made.settings["gradient_checkpointing"] is False
    assert "nothing is computed twice" in said(made)
    assert made.choices["gradient_checkpointing"].why.en == "Not needed: it fits without."


def test_checkpoints_are_chosen_where_it_would_not_fit_without() -> None:
    made = plan("rtx-3060-12gb", **ADAPTERS)
    assert made.fits and made.settings["gradient_checkpointing"] is True
    assert "gradient checkpointing: -4." in said(made) and "a step" in said(made)
    fixed = {**ADAPTERS, "settings": {"gradient_checkpointing": False}}
    refused = plan("rtx-3060-12gb", **fixed)
    assert not refused.fits
    (auto,) = [offer for offer in refused.alternatives if "settings" in offer.changes]
    assert auto.changes == {"settings": {"gradient_checkpointing": "auto"}}


@pytest.mark.parametrize("card", ["rtx-3060-12gb", "rtx-4090", "h200", "cpu"])
def test_the_result_is_never_changed_unasked(card: str) -> None:
    """Eight-bit states and another precision are for who names them."""
    request = parse(**ADAPTERS)
    tried = list(candidates(CARD, request, target_of(request, card)))
    assert {settings["optimizer"] for settings in tried} == {"adamw-fused"}
    assert {settings["gpus"] for settings in tried} == {1}
    assert {settings["zero_stage"] for settings in tried} == {0}
    precisions = {settings["precision"] for settings in tried}
    assert precisions == ({"fp32", "bf16"} if card == "cpu" else {"bf16"})


def test_an_older_card_trains_in_fp16() -> None:
    made = plan("rtx-2080-ti", **{**ADAPTERS, "sequence_length": 512})
    assert made.settings["precision"] == "fp16"


def test_eight_bits_are_used_when_named() -> None:
    made = plan("h200", **FULL, vram_gib=28)
    assert not made.fits
    named = plan("h200", **FULL, vram_gib=28, settings={"optimizer": "adamw-8bit"})
    assert named.fits and named.choices["optimizer"].by_user
    assert "optimizer states in 8 bits: -" in said(named)


@pytest.mark.parametrize(
    ("cap_gib", "batch", "changes"),
    [
        (28, 1, [{"settings": {"optimizer": "adamw-8bit"}}, {"lora_rank": 64}]),
        (11, 1, [{"lora_rank": 16}]),
        (11, 8, [{"lora_rank": 16, "batch": 1}]),
    ],
)
def test_what_does_not_fit_is_offered_smaller(
    cap_gib: float, batch: int, changes: list[Any]
) -> None:
    asked = {**FULL, "batch": batch}
    made = plan("h200", **asked, vram_gib=cap_gib)
    assert not made.fits
    offered = [offer.changes for offer in made.alternatives]
    assert offered[: len(changes)] == changes
    for change in changes:
        assert plan("h200", **{**asked, **change}, vram_gib=cap_gib).fits


@pytest.mark.parametrize("cap_gib", [80, 28])
def test_states_in_eight_bits_are_not_shared(cap_gib: float) -> None:
    """What the parser refuses is not planned, whether it would fit or not."""
    fixed = {"optimizer": "adamw-8bit", "gpus": 4}
    request = parse(**FULL, vram_gib=cap_gib, settings=fixed)
    tried = list(candidates(CARD, request, target_of(request, "h200")))
    assert tried and {settings["zero_stage"] for settings in tried} == {0}
    chosen = dict(plan("h200", **FULL, vram_gib=cap_gib, settings=fixed).settings)
    assert parse(**FULL, settings=chosen).settings == chosen


@pytest.mark.parametrize(("cap_gib", "stage"), [(34, 1), (28, 2), (23, 3)])
def test_of_several_gpus_the_lowest_stage_that_fits_is_taken(cap_gib: float, stage: int) -> None:
    several = {"gpus": 4, "gradient_checkpointing": True}
    data = {**FULL, "gradient_accumulation": 1, "vram_gib": cap_gib}
    made = plan("h200", **data, settings=several)
    assert made.fits and made.settings["zero_stage"] == stage
    for lower in range(stage):
        assert not plan("h200", **data, settings={**several, "zero_stage": lower}).fits
    assert f"(ZeRO {stage})" in said(made)
    alone = plan("h200", **FULL, settings=several)
    assert alone.settings["zero_stage"] == 0


@pytest.mark.parametrize("question", ["length", "batch", "size"])
def test_the_most_is_what_fits_and_more_does_not(question: str) -> None:
    request = parse(**ADAPTERS)
    answer = find_most(CARD, request, target_of(request, "rtx-3060-12gb"), question)
    assert answer.found and fits("rtx-3060-12gb", answer.request)
    key, step = {
        "length": ("sequence_length", 64),
        "batch": ("batch", 1),
        "size": ("image_size", 28),
    }[question]
    found = getattr(answer.request, key)
    assert found == answer.changes[key]
    if question == "size":  # the picture's tokens are part of the sample
        assert CARD.image_tokens(found) < request.sequence_length
        assert CARD.image_tokens(found + step) >= request.sequence_length or not fits(
            "rtx-3060-12gb", request.with_changes(image_size=found + step)
        )
    else:
        # What is reserved is uneven by a rung or two of the ladder.
        assert not fits("rtx-3060-12gb", request.with_changes(**{key: found + 3 * step}))


def test_the_smallest_card() -> None:
    by_memory = sorted(load_cards().values(), key=lambda card: card.vram_bytes)
    cards = [
        (card, Target(card=card, limit_bytes=card.vram_bytes, host=find_card("cpu")))
        for card in by_memory
    ]
    for data in (ADAPTERS, FULL):
        request = parse(**data)
        answer = smallest_card(CARD, request, cards)
        first = next(card.name for card in by_memory if fits(card.name, request))
        assert answer.found and answer.request.card == first


def test_offers_where_nothing_fits() -> None:
    data = {**ADAPTERS, "batch": 2, "sequence_length": 1280, "vram_gib": 11}
    made = plan("rtx-3060-12gb", **data)
    assert not made.fits and "does not fit" in made.reasons[0].en
    offered = {key for offer in made.alternatives for key in offer.changes}
    assert {"sequence_length", "batch", "card"} <= offered
    for offer in made.alternatives:
        changes = {key: value for key, value in offer.changes.items() if value is not None}
        if "card" in changes:
            continue
        assert fits("rtx-3060-12gb", parse(**{**data, **changes}))


def test_the_frontier_has_both_ways() -> None:
    request = parse(**ADAPTERS)
    target = target_of(request, "rtx-4090")
    made = plan("rtx-4090", **ADAPTERS)
    points = find_frontier(CARD, request, target, made.estimate)
    assert [point.settings["gradient_checkpointing"] for point in points] == [True, False]
    assert points[0].seconds > points[1].seconds
