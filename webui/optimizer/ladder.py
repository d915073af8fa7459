"""Requests from large to small, and the first of them that fits: what inverse questions climb."""

from __future__ import annotations

import math
import operator
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

from webui.core.clip import MAX_CLIPS, ClipCard, ClipRequest
from webui.core.documents import MAX_SIDE_PX, is_page
from webui.core.fields import MAX_BATCH
from webui.core.language import TextCard, TextRequest
from webui.core.model import ModelCard
from webui.core.pages import PageCard, PageRequest
from webui.core.request import Request
from webui.core.settings import Settings
from webui.core.text import Text
from webui.core.training import TrainCard, TrainRequest
from webui.core.upscale import MAX_OUTPUT_SIDE_PX, MIN_SIDE_PX, UpscaleRequest
from webui.core.upscale import MAX_SIDE_PX as MAX_INPUT_SIDE_PX

Predicate = Callable[[Request], bool]

STEPS_AROUND = 4
"""How far around the bisected place a request is tried: what fits is monotone in live bytes, and
in reserved bytes but for the allocator's rounding."""
MAX_PAGE_SIDE_PX = 8192
INPUT_STEP_PX = 8
TOKEN_STEP = 64
"""Rungs of lengths in tokens: finer ones are no other answer to anybody."""


class Rungs(Sequence[Request]):
    """The same request with other values of some keys, made when it is asked for."""

    def __init__(
        self, request: Request, keys: tuple[str, ...], values: Sequence[tuple[int, ...]]
    ) -> None:
        self.request, self.keys, self.values = request, keys, values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Request: ...

    @overload
    def __getitem__(self, index: slice) -> Rungs: ...

    def __getitem__(self, index: int | slice) -> Request | Rungs:
        if isinstance(index, slice):
            return self.cut(self.values[index])
        return self.made(self.values[index])

    def cut(self, values: Sequence[tuple[int, ...]]) -> Rungs:
        """Some of them."""
        return Rungs(self.request, self.keys, values)

    def made(self, values: tuple[int, ...]) -> Request:
        """One of them."""
        changes: dict[str, Any] = dict(zip(self.keys, values, strict=True))
        return self.request.resized(**changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """One quantity of a workload, from the most that the model takes to the least."""

    name: str
    """`frames`, `size`, `tokens`, `length` or `batch`."""
    requests: Rungs
    """From large to small; a smaller one never needs more memory."""
    unit: Text
    """What it counts, e.g. `frames`; empty for a size; of a setting all words of an amount."""
    setting: str = ""
    """The setting that it changes, where that is no key of the workload."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The request's keys that it changes."""
        return self.requests.keys

    def amount(self, request: Request) -> Text:
        """How much of it a request asks for, in words, and the settings that go with it."""
        if self.setting:
            value = int(request.settings[self.setting])
            plural = "s" if value != 1 else ""
            return Text(
                self.unit.en.format(count=value, s=plural), self.unit.zh.format(count=value)
            )
        with_them = "".join(f", {key}: {value}" for key, value in self._settings(request).items())
        if self.name == "size":
            size = "x".join(str(getattr(request, key)) for key in self.keys)
            if len(self.keys) == 1:
                size = f"{size} px"
            return Text(size + with_them, size + with_them)
        count = getattr(request, self.keys[0])
        plural = "s" if count != 1 else ""
        return Text(
            f"{count} {self.unit.en}{plural}{with_them}", f"{count} {self.unit.zh}{with_them}"
        )

    def changes(self, request: Request) -> dict[str, Any]:
        """The request's values of the keys, and of the settings that go with them."""
        if self.setting:
            return {"settings": {self.setting: request.settings[self.setting]}}
        changes = {key: getattr(request, key) for key in self.keys}
        settings = self._settings(request)
        return changes | ({"settings": settings} if settings else {})

    def _settings(self, request: Request) -> Settings:
        """Fixed settings that had to follow: they are other than those that were asked for."""
        asked = self.requests.request.settings
        return {key: value for key, value in request.settings.items() if asked.get(key) != value}

    def below(self, request: Request) -> Ladder:
        """The rungs that ask for less than the request."""
        asked = math.prod(int(getattr(request, key)) for key in self.keys)
        rungs = self.requests
        fewer = [values for values in rungs.values if math.prod(values) < asked]
        return replace(self, requests=Rungs(rungs.request, rungs.keys, fewer))


def ladders(model: ModelCard, request: Request) -> dict[str, Ladder]:
    """What a request can be made larger or smaller in, by name."""
    found: list[Ladder] = []
    if isinstance(model, ClipCard) and isinstance(request, ClipRequest):
        found = [_clips(request), _frames(model, request), _clip_size(model, request)]
    elif isinstance(model, PageCard) and isinstance(request, PageRequest):
        found = [_page_size(model, request), _page_tokens(model, request)]
    elif isinstance(request, UpscaleRequest):
        found = [_input_size(request)]
    elif isinstance(model, TextCard) and isinstance(request, TextRequest):
        most = model.max_positions - request.prompt_tokens
        tokens = _count("tokens", "new_tokens", request, _multiples(most, TOKEN_STEP))
        found = [tokens, _batch(request)]
    elif isinstance(model, TrainCard) and isinstance(request, TrainRequest):
        found = [_length(model, request), _batch(request), _image_size(model, request)]
    return {ladder.name: ladder for ladder in found if ladder.requests}


_UNITS = {
    "frames": Text("frame", "帧"),
    "tokens": Text("token", "个词元"),
    "length": Text("token", "个词元"),
    "batch": Text("sample", "个样本"),
    "answers": Text("answer", "个结果"),
    "clips": Text("clip", "段视频"),
}


def _clips(request: ClipRequest) -> Ladder:
    """Every number of clips of one run."""
    ladder = _count("batch", "batch", request, range(MAX_CLIPS, 0, -1))
    return replace(ladder, unit=_UNITS["clips"])


def _frames(model: ClipCard, request: ClipRequest) -> Ladder:
    """Every number of frames that the model makes."""
    return _count(
        "frames",
        "frames",
        request,
        range(model.max_frames, model.min_frames - 1, -model.frame_step),
    )


def _clip_size(model: ClipCard, request: ClipRequest) -> Ladder:
    """Every height of the model's grid, in the request's shape.

    A width that would pass the model's longest side is left out, so that the shape is kept.
    """
    unit = model.size_multiple
    shape = request.width / request.height
    sizes = [
        (model.snap_side(height * shape), height)
        for height in range(model.max_side, model.min_side - 1, -unit)
        if round(height * shape / unit) * unit <= model.max_side
    ]
    return _sizes(request, sizes)


def _input_size(request: UpscaleRequest) -> Ladder:
    """Every height of an input in the request's shape, in steps of 8 px."""
    shape = request.width / request.height
    highest = min(MAX_INPUT_SIDE_PX, MAX_OUTPUT_SIDE_PX // request.scale)
    sizes = [
        (round(height * shape), height)
        for height in range(highest // INPUT_STEP_PX * INPUT_STEP_PX, 0, -INPUT_STEP_PX)
    ]
    taken = [size for size in sizes if min(size) >= MIN_SIDE_PX and max(size) <= highest]
    return _sizes(request, taken)


def _page_size(model: PageCard, request: PageRequest) -> Ladder:
    """Every height of the model's grid, in the page's shape, within the processor's limits."""
    unit = model.size_multiple
    shape = request.width / request.height
    sizes = [
        (height, max(unit, round(height * shape / unit) * unit))
        for height in range(MAX_PAGE_SIDE_PX // unit * unit, 0, -unit)
    ]
    taken = [
        (width, height)
        for height, width in sizes
        if is_page(height, width)
        and max(height, width) <= MAX_SIDE_PX
        and model.min_pixels <= height * width <= model.max_pixels
        and height * width // unit**2 + model.prompt_tokens + request.new_tokens
        <= model.max_positions
    ]
    return _sizes(request.with_changes(max_pixels=None), taken)


def _sizes(request: Request, sizes: list[tuple[int, int]]) -> Ladder:
    """Widths and heights in pixels."""
    rungs = Rungs(request, ("width", "height"), sizes)
    return Ladder(name="size", requests=rungs, unit=Text("", ""))


def _page_tokens(model: PageCard, request: PageRequest) -> Ladder:
    most = model.max_positions - model.prompt_tokens - model.image_tokens(request)
    return _count("tokens", "new_tokens", request, _multiples(most, TOKEN_STEP))


def _length(model: TrainCard, request: TrainRequest) -> Ladder:
    """Samples longer than their picture."""
    shortest = model.image_tokens(request.image_size) + 1
    lengths = [n for n in _multiples(model.max_positions, TOKEN_STEP) if n >= shortest]
    return _count("length", "sequence_length", request, lengths)


def _image_size(model: TrainCard, request: TrainRequest) -> Ladder:
    """Every side of the model's grid whose picture leaves room for text."""
    unit = model.size_multiple
    sides = [
        (side,)
        for side in range(model.max_image_size // unit * unit, model.min_image_size - 1, -unit)
        if model.image_tokens(side) < request.sequence_length
    ]
    rungs = Rungs(request, ("image_size",), sides)
    return Ladder(name="size", requests=rungs, unit=Text("", ""))


def _batch(request: Request) -> Ladder:
    ladder = _count("batch", "batch", request, range(MAX_BATCH, 0, -1))
    unit = _UNITS["answers"] if isinstance(request, TextRequest) else ladder.unit
    return replace(ladder, unit=unit)


def _count(name: str, key: str, request: Request, counts: Iterable[int]) -> Ladder:
    rungs = Rungs(request, (key,), [(count,) for count in counts])
    return Ladder(name=name, requests=rungs, unit=_UNITS[name])


def _multiples(most: int, step: int) -> list[int]:
    """Every multiple of a step from the most down, and 1."""
    return [*range(most // step * step, 0, -step), 1]


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


def first_that_fits(requests: Sequence[Request], fits: Predicate) -> Request | None:
    """The first request of a ladder that fits, by bisection.

    Args:
        requests: from large to small; a smaller one never needs more live bytes.
        fits: the answer that counts, by a replay.

    Returns:
        The largest that fits, or None where not even the smallest does.
    """
    low, high = 0, len(requests)
    while low < high:
        middle = (low + high) // 2
        if fits(requests[middle]):
            high = middle
        else:
            low = middle + 1
    # Around the border both ways: the allocator's rounding makes it uneven by a step or two.
    return next(filter(fits, requests[max(0, low - STEPS_AROUND) : low + STEPS_AROUND]), None)


def near_first_that_fits(
    requests: Rungs, fits: Predicate, excess_bytes: Callable[[Request], float]
) -> int | None:
    """Where the border of what fits is, found by few questions; rarely a step or two below.

    Args:
        requests: from large to small.
        fits: the answer that counts.
        excess_bytes: a cheap guess of how many bytes too many a request needs; nearly linear in
            how much it asks for, so that the place where it is 0 is interpolated.
    """
    amounts = [math.prod(values) for values in requests.values]
    low, high = 0, len(requests) - 1
    over, under = excess_bytes(requests[low]), excess_bytes(requests[high])
    while over > 0 > under and high - low > 1:
        zero = amounts[low] + (amounts[high] - amounts[low]) * over / (over - under)
        middle = bisect_left(amounts, -zero, low, high, key=operator.neg)
        middle = min(max(middle, low + 1), high - 1)
        excess = excess_bytes(requests[middle])
        if excess > 0:
            low, over = middle, excess
        else:
            high, under = middle, excess
    border = high if over > 0 else low
    places = range(max(0, border - 1), min(border + STEPS_AROUND, len(requests)))
    return next((place for place in places if fits(requests[place])), None)
