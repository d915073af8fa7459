"""Plans asked backwards: the most frames, the largest size, the smallest card."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from webui.core.card import Card
from webui.core.model import ModelCard
from webui.core.request import Request
from webui.core.text import Text
from webui.estimator.estimate import Target
from webui.optimizer.ladder import (
    Predicate,
    fewer_frames,
    first_that_fits,
    listed_sizes,
    sizes_of_shape,
)
from webui.optimizer.search import can_fit

QUESTIONS = ("frames", "size", "card")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an inverse question found."""

    question: str
    """`frames` or `size` (the most of it), or `card` (the smallest)."""
    request: Request
    """The request that was found; where nothing fits, the smallest that was tried."""
    found: bool
    listed: Request | None = None
    """Of `size`: the largest of the model's own sizes that fits."""
    title: str = ""
    """Of `card`: its name for people."""

    def to_json(self) -> dict[str, Any]:
        """The `answer` of a plan: null where not even the smallest fits."""
        data: dict[str, Any] = {"question": self.question, "found": self.found}
        if self.question == "frames":
            data["frames"] = self.request.frames if self.found else None
        elif self.question == "size":
            data |= _size(self.request if self.found else None)
            data["listed"] = _size(self.listed) if self.listed else None
        else:
            data["card"] = self.request.card if self.found else None
        return data | {"text": self.text.en}

    @property
    def text(self) -> Text:
        """The answer in one sentence."""
        request = self.request
        size = f"{request.width}x{request.height}"
        if self.question == "frames":
            return (
                Text(f"Up to {request.frames} frames fit.", f"最多可放下 {request.frames} 帧。")
                if self.found
                else Text("Not even one frame fits.", "连一帧也放不下。")
            )
        if self.question == "size":
            if not self.found:
                return Text(f"Not even {size} fits.", f"连 {size} 也放不下。")
            own = f"{self.listed.width}x{self.listed.height}" if self.listed else ""
            return Text(
                f"Up to {size} fits in this shape"
                + (f"; of the model's own sizes {own}." if own else "."),
                f"按此比例最大 {size}" + (f"；模型自带的尺寸中最大 {own}。" if own else "。"),
            )
        return (
            Text(f"The smallest card is {self.title}.", f"最小的显卡是 {self.title}。")
            if self.found
            else Text("It fits on no card of the list.", "列表中没有放得下的显卡。")
        )


def most_frames(model: ModelCard, request: Request, target: Target) -> Answer:
    """The most frames that fit with any of the open settings, up to the model's own limit."""
    ladder = fewer_frames(model, request, model.max_frames)
    found = first_that_fits(ladder, _fits(model, target))
    return Answer(question="frames", request=found or ladder[-1], found=found is not None)


def largest_size(model: ModelCard, request: Request, target: Target) -> Answer:
    """The largest size of the request's shape that fits, and the largest of the authors' sizes."""
    fits = _fits(model, target)
    ladder = sizes_of_shape(model, request, model.max_side)
    found = first_that_fits(ladder, fits)
    listed = next((size for size in listed_sizes(model, request) if fits(size)), None)
    return Answer(
        question="size", request=found or ladder[-1], found=found is not None, listed=listed
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


def _size(request: Request | None) -> dict[str, int | None]:
    return {
        "width": request.width if request else None,
        "height": request.height if request else None,
    }
