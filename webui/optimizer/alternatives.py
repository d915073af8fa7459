"""When nothing fits: the nearest requests that would, offered and never taken unasked."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

from webui.core.card import Card
from webui.core.model import ModelCard
from webui.core.plan import Alternative, Estimate
from webui.core.request import Request
from webui.core.settings import Settings
from webui.core.text import Text
from webui.core.training import TrainRequest
from webui.estimator.case import Case
from webui.estimator.rules import rules_for
from webui.estimator.target import Target, room_bytes
from webui.optimizer import upscaling
from webui.optimizer.ladder import STEPS_AROUND, Rungs, ladders, near_first_that_fits
from webui.optimizer.search import can_fit, leanest_that_fits, least_bytes

OFFERED_RANKS = (64, 16)
"""Ranks of adapters that are offered, the nearest to training all weights first."""

_STEPS_UP = (STEPS_AROUND, STEPS_AROUND, 1, 1)
"""How far above the border so far other settings are asked for, one time after the other."""

Cards = Callable[[], tuple[tuple[Card, Target], ...]]


def find_alternatives(
    model: ModelCard, request: Request, target: Target, leanest: Estimate, cards: Cards
) -> tuple[Alternative, ...]:
    """Freed settings, less of each quantity, a larger card: each the nearest that fits.

    Args:
        model: the request's model.
        request: what does not fit.
        target: the device.
        leanest: the estimate of the leanest settings, which do not fit either.
        cards: larger cards, the smallest first.
    """
    offers = []
    if request.settings and can_fit(model, request.with_changes(settings={}), target):
        offers.append(
            Alternative(
                text=Text("Fits with automatic settings", "改用自动设置即可放下"),
                changes={"settings": dict.fromkeys(request.settings, "auto")},
            )
        )
    offers += _smaller_training(model, request, target)
    search = _Search(model, target, leanest)
    for ladder in ladders(model, request).values():
        smaller = search.largest(ladder.below(request).requests)
        if smaller is not None:
            amount = ladder.amount(smaller)
            offers.append(
                Alternative(
                    text=Text(f"Fits at {amount.en}", f"{amount.zh} 可以放下"),
                    changes=ladder.changes(smaller),
                )
            )
    least: dict[Hashable, int] = {}
    for card, card_target in cards():
        # Where the rules and the number formats are the same, so are the live bytes.
        rules = rules_for(card, "expandable", request.platform)
        same = (replace(rules, measured=True), card.bf16)
        if same not in least:
            least[same] = least_bytes(model, request, card_target)
        if room_bytes(card_target, rules) < least[same]:
            continue
        if can_fit(model, request, card_target):
            offers.append(
                Alternative(
                    text=Text(f"Fits on {card.title}", f"{card.title} 可以放下"),
                    changes={"card": card.name, "vram_gib": None},
                )
            )
            break
    return tuple(offers)


def _smaller_training(model: ModelCard, request: Request, target: Target) -> list[Alternative]:
    """Optimizer states in 8 bits; low-rank adapters in place of training all weights, if need be
    with fewer samples at once. What shares states over GPUs has neither."""
    if not isinstance(request, TrainRequest) or request.settings.get("zero_stage", 0):
        return []
    offers = []
    if "optimizer" not in request.settings:
        eight = request.with_changes(settings={**request.settings, "optimizer": "adamw-8bit"})
        if can_fit(model, eight, target):
            text = Text("Fits with optimizer states in 8 bits", "改用 8 位优化器状态可以放下")
            offers.append(Alternative(text=text, changes={"settings": {"optimizer": "adamw-8bit"}}))
    if request.lora_rank:
        return offers
    for batch in dict.fromkeys((request.batch, 1)):
        for rank in OFFERED_RANKS:
            changes = {"lora_rank": rank, "batch": batch}
            if not can_fit(model, request.with_changes(**changes), target):
                continue
            en = f"Fits with low-rank adapters (LoRA) of rank {rank}"
            zh = f"改用秩为 {rank} 的低秩适配器（LoRA）"
            if batch == request.batch:
                del changes["batch"]
            else:
                en, zh = f"{en} and batches of {batch}", f"{zh}、批大小为 {batch} 时"
            return [*offers, Alternative(text=Text(en, f"{zh}可以放下"), changes=changes)]
    return offers


class _Search:
    """Finds the border by live bytes; replays only the last guesses."""

    def __init__(self, model: ModelCard, target: Target, leanest: Estimate) -> None:
        self._model = model
        self._target = target
        self._leanest: Settings = leanest.settings
        self._overhead = leanest.peak_reserved_bytes / max(1, leanest.peak_allocated_bytes)

    def largest(self, requests: Rungs) -> Request | None:
        """The first request that fits, or one close by; smaller ones never need more."""
        place = self._border(requests, self._leanest)
        # What is leanest for all that was asked may not be for less of it: of a long clip the
        # joined frames are the most, and tiles need more of those.
        for steps in _STEPS_UP:
            larger = requests.cut(requests.values[:place])
            if not larger:
                break
            nearest = len(larger) - 1 if place is None else max(0, len(larger) - steps)
            better = leanest_that_fits(self._model, larger[nearest], self._target)
            above = None if better is None else self._border(larger, better.settings)
            place = place if above is None else above
        return None if place is None else requests[place]

    def _border(self, requests: Rungs, settings: Settings) -> int | None:
        if not requests:
            return None

        def case(request: Request) -> Case:
            fixed = {
                name: value
                for name, value in request.settings.items()
                if not upscaling.is_open(name, value)
            }
            return Case(self._model, request, {**settings, **fixed}, self._target)

        return near_first_that_fits(
            requests,
            lambda request: case(request).fits,
            lambda request: case(request).excess_bytes(self._overhead),
        )
