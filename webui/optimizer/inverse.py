"""Plans asked backwards: the most frames, the largest size, the smallest card."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from webui.core.card import Card
from webui.core.errors import BadInput
from webui.core.model import ModelCard
from webui.core.request import Request
from webui.core.text import Text
from webui.estimator.target import Target
from webui.optimizer.ladder import Ladder, Predicate, first_that_fits, ladders, listed_sizes
from webui.optimizer.search import can_fit
from webui.optimizer.setting_ladders import setting_ladders

MOST = ("frames", "size", "tokens", "length", "batch", "pages", "tile")
"""What the most of can be asked for; each task has some of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an inverse question found."""

    question: str
    """One of `MOST`, or `card` (the smallest)."""
    request: Request
    """The request that was found; where nothing fits, the smallest that was tried."""
    found: bool
    ladder: Ladder | None = None
    """What was climbed; None for `card`."""
    listed: Request | None = None
    """Of `size`: the largest of the model's own sizes that fits."""
    title: str = ""
    """Of `card`: its name for people."""

    @property
    def changes(self) -> dict[str, Any]:
        """The request's keys that were found; each None where nothing fits.

        `settings` is among them where a fixed one had to follow, as with offers.
        """
        if self.ladder is None:
            return {"card": self.request.card if self.found else None}
        found = self.ladder.changes(self.request)
        return found if self.found else dict.fromkeys(self.ladder.keys or ("settings",))

    def to_json(self) -> dict[str, Any]:
        """The `answer` of a plan: null where not even the smallest fits."""
        data: dict[str, Any] = {"question": self.question, "found": self.found, **self.changes}
        if self.question == "size" and self.ladder is not None:
            data["listed"] = self.ladder.changes(self.listed) if self.listed else None
        return data | {"text": self.text.en}

    @property
    def text(self) -> Text:
        """The answer in one sentence."""
        if self.ladder is None:
            return (
                Text(f"The smallest card is {self.title}.", f"最小的显卡是 {self.title}。")
                if self.found
                else Text("It fits on no card of the list.", "列表中没有放得下的显卡。")
            )
        amount = self.ladder.amount(self.request)
        if not self.found:
            return Text(f"Not even {amount.en} fits.", f"连 {amount.zh} 也放不下。")
        if self.ladder.setting:
            return Text(f"Up to {amount.en}.", f"最多{amount.zh}。")
        if self.question != "size":
            return Text(f"Up to {amount.en} fit.", f"最多可放下 {amount.zh}。")
        own = self.ladder.amount(self.listed).en if self.listed else ""
        if self.request.settings.get("tile") == 0:
            return Text(
                f"Up to {amount.en} fits in this shape without tiles.",
                f"不分块时，按此比例最大 {amount.zh}。",
            )
        return Text(
            f"Up to {amount.en} fits in this shape"
            + (f"; of the model's own sizes {own}." if own else "."),
            f"按此比例最大 {amount.zh}" + (f"；模型自带的尺寸中最大 {own}。" if own else "。"),
        )


def find_most(model: ModelCard, request: Request, target: Target, question: str) -> Answer:
    """The most of one quantity that fits with any of the open settings.

    Raises:
        BadInput: the request has no such quantity.
    """
    known = ladders(model, request) | setting_ladders(model, request)
    if question not in known:
        listed = ", ".join(known)
        raise BadInput(
            "most",
            Text(
                f"A request of {model.title} has no {question}.",
                f"{model.title} 的请求中没有 {question}。",
            ),
            Text(f"What can be asked for: {listed}.", f"可用的值：{listed}。"),
        )
    ladder = known[question]
    fits = _fits(model, target)
    found = first_that_fits(ladder.requests, fits)
    listed_size = None
    if question == "size":
        listed_size = next((size for size in listed_sizes(model, request) if fits(size)), None)
    return Answer(
        question=question,
        request=found or ladder.requests[-1],
        found=found is not None,
        ladder=ladder,
        listed=listed_size,
    )


def smallest_card(
    model: ModelCard, request: Request, cards: Iterable[tuple[Card, Target]]
) -> Answer:
    """The first card that holds the request as it is.

    Every card is asked: what fits is no plain function of the memory (older cards have no bf16,
    and another CUDA context).

    Args:
        model: the request's model.
        request: the workload and its fixed settings.
        cards: the smallest first; at least one.
    """
    last = ""
    for card, target in cards:
        last = card.name
        asked = request.with_changes(card=card.name, vram_gib=None)
        if can_fit(model, asked, target, every=True):
            return Answer(question="card", request=asked, found=True, title=card.title)
    return Answer(
        question="card", request=request.with_changes(card=last, vram_gib=None), found=False
    )


def _fits(model: ModelCard, target: Target) -> Predicate:
    return lambda request: can_fit(model, request, target, every=True)
