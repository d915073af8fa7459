"""Requests from large to small, and the first of them that fits: what inverse questions climb."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from webui.core.clip import ClipCard, ClipRequest
from webui.core.language import TextCard, TextRequest
from webui.core.model import ModelCard
from webui.core.pages import PageCard, PageRequest
from webui.core.request import Request
from webui.core.text import Text
from webui.core.training import MAX_BATCH, TrainCard, TrainRequest

Predicate = Callable[[Request], bool]

STEPS_AROUND = 4
"""How far around the bisected place a request is tried: what fits is monotone in live bytes, and
in reserved bytes but for the allocator's rounding."""
MAX_PAGE_SIDE_PX = 8192
TOKEN_STEP = 64
"""Rungs of lengths in tokens: finer ones are no other answer to anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """One quantity of a workload, from the most that the model takes to the least."""

    name: str
    """`frames`, `size`, `tokens`, `length` or `batch`."""
    keys: tuple[str, ...]
    """The request's keys that it changes."""
    requests: Sequence[Request]
    """From large to small; a smaller one never needs more memory."""
    unit: Text
    """What it counts, e.g. `frames`; empty for a size."""

    def amount(self, request: Request) -> Text:
        """How much of it a request asks for, in words."""
        if self.name == "size":
            size = "x".join(str(getattr(request, key)) for key in self.keys)
            if len(self.keys) == 1:
                size = f"{size} px"
            return Text(size, size)
        count = getattr(request, self.keys[0])
        plural = "s" if count != 1 else ""
        return Text(f"{count} {self.unit.en}{plural}", f"{count} {self.unit.zh}")

    def changes(self, request: Request) -> dict[str, Any]:
        """The request's values of the keys."""
        return {key: getattr(request, key) for key in self.keys}

    def below(self, request: Request) -> Ladder:
        """The rungs that ask for less than the request."""
        asked = self.measure(request)
        fewer = [rung for rung in self.requests if self.measure(rung) < asked]
        return Ladder(name=self.name, keys=self.keys, requests=fewer, unit=self.unit)

    def measure(self, request: Request) -> int:
        """How much of it a request asks for: a count, or pixels."""
        values = [int(getattr(request, key)) for key in self.keys]
        return values[0] * values[1] if len(values) == 2 else values[0]


def ladders(model: ModelCard, request: Request) -> dict[str, Ladder]:
    """What a request can be made larger or smaller in, by name."""
    found: list[Ladder] = []
    if isinstance(model, ClipCard) and isinstance(request, ClipRequest):
        found = [_frames(model, request), _clip_size(model, request)]
    elif isinstance(model, PageCard) and isinstance(request, PageRequest):
        found = [_page_size(model, request), _page_tokens(model, request)]
    elif isinstance(model, TextCard) and isinstance(request, TextRequest):
        most = model.max_positions - request.prompt_tokens
        found = [_count("tokens", "new_tokens", request, most, TOKEN_STEP), _batch(request)]
    elif isinstance(model, TrainCard) and isinstance(request, TrainRequest):
        found = [_length(model, request), _batch(request), _image_size(model, request)]
    return {ladder.name: ladder for ladder in found if ladder.requests}


_UNITS = {
    "frames": Text("frame", "帧"),
    "tokens": Text("token", "个词元"),
    "length": Text("token", "个词元"),
    "batch": Text("sample", "个样本"),
    "answers": Text("answer", "个结果"),
}


def _frames(model: ClipCard, request: ClipRequest) -> Ladder:
    """Every number of frames that the model makes."""
    return Ladder(
        name="frames",
        keys=("frames",),
        requests=[
            request.with_changes(frames=count)
            for count in range(model.max_frames, 0, -model.frame_step)
        ],
        unit=_UNITS["frames"],
    )


def _clip_size(model: ClipCard, request: ClipRequest) -> Ladder:
    """Every height of the model's grid, in the request's shape.

    A width that would pass the model's longest side is left out, so that the shape is kept.
    """
    unit = model.size_multiple
    shape = request.width / request.height
    return Ladder(
        name="size",
        keys=("width", "height"),
        requests=[
            request.with_changes(height=height, width=model.snap_side(height * shape))
            for height in range(model.max_side, model.min_side - 1, -unit)
            if round(height * shape / unit) * unit <= model.max_side
        ],
        unit=Text("", ""),
    )


def _page_size(model: PageCard, request: PageRequest) -> Ladder:
    """Every height of the model's grid, in the page's shape, within the processor's limits."""
    unit = model.size_multiple
    shape = request.width / request.height
    sizes = [
        (height, max(unit, round(height * shape / unit) * unit))
        for height in range(MAX_PAGE_SIDE_PX, 0, -unit)
    ]
    return Ladder(
        name="size",
        keys=("width", "height"),
        requests=[
            request.with_changes(height=height, width=width, max_pixels=None)
            for height, width in sizes
            if model.min_pixels <= height * width <= model.max_pixels
            and height * width // unit**2 + model.prompt_tokens + request.new_tokens
            <= model.max_positions
        ],
        unit=Text("", ""),
    )


def _page_tokens(model: PageCard, request: PageRequest) -> Ladder:
    most = model.max_positions - model.prompt_tokens - model.image_tokens(request)
    return _count("tokens", "new_tokens", request, most, TOKEN_STEP)


def _length(model: TrainCard, request: TrainRequest) -> Ladder:
    """Samples longer than their picture."""
    ladder = _count("length", "sequence_length", request, model.max_positions, TOKEN_STEP)
    shortest = model.image_tokens(request.image_size) + 1
    kept = [rung for rung in ladder.requests if ladder.measure(rung) >= shortest]
    return Ladder(name=ladder.name, keys=ladder.keys, requests=kept, unit=ladder.unit)


def _image_size(model: TrainCard, request: TrainRequest) -> Ladder:
    """Every side of the model's grid whose picture leaves room for text."""
    unit = model.size_multiple
    return Ladder(
        name="size",
        keys=("image_size",),
        requests=[
            request.with_changes(image_size=side)
            for side in range(model.max_image_size // unit * unit, model.min_image_size - 1, -unit)
            if model.image_tokens(side) < request.sequence_length
        ],
        unit=Text("", ""),
    )


def _batch(request: Request) -> Ladder:
    ladder = _count("batch", "batch", request, MAX_BATCH, 1)
    unit = _UNITS["answers"] if isinstance(request, TextRequest) else ladder.unit
    return replace(ladder, unit=unit)


def _count(name: str, key: str, request: Request, most: int, step: int) -> Ladder:
    """Every multiple of a step, and 1."""
    counts = [*range(most // step * step, 0, -step), *([1] if step > 1 else [])]
    return Ladder(
        name=name,
        keys=(key,),
        requests=[request.with_changes(**{key: count}) for count in counts],
        unit=_UNITS[name],
    )


def listed_sizes(model: ModelCard, request: Request) -> list[Request]:
    """A clip's request at the authors' sizes, the most pixels first, its own orientation before."""
    if not (isinstance(model, ClipCard) and isinstance(request, ClipRequest)):
        return []
    wide = request.width >= request.height
    sizes = sorted(
        model.sizes,
        key=lambda size: (size[0] * size[1], (size[0] >= size[1]) == wide),
        reverse=True,
    )
    return [request.with_changes(width=width, height=height) for width, height in sizes]


def first_that_fits(
    requests: Sequence[Request],
    fits: Predicate,
    seems_to_fit: Predicate | None = None,
) -> Request | None:
    """The first request of a ladder that fits, by bisection.

    Args:
        requests: from large to small; a smaller one never needs more live bytes.
        fits: the answer that counts, by a replay.
        seems_to_fit: a cheaper guess to bisect by; `fits` itself when left out.

    Returns:
        The largest that fits, or None where not even the smallest does.
    """
    guess = seems_to_fit or fits
    low, high = 0, len(requests)
    while low < high:
        middle = (low + high) // 2
        if guess(requests[middle]):
            high = middle
        else:
            low = middle + 1
    # Around the border both ways: the allocator's rounding makes it uneven by a step or two.
    for request in requests[max(0, low - STEPS_AROUND) : low + STEPS_AROUND]:
        if fits(request):
            return request
    return None
