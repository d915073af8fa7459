"""Documents (task `parse`): pages of pictures that a vision-language model turns into text."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.errors import BadInput
from webui.core.fields import read_text, read_whole, shown
from webui.core.model import ModelCard
from webui.core.request import Given, Request
from webui.core.text import Text

MAX_SIDE_PX = 16_384
MAX_PAGES = 100_000
MAX_RATIO = 200
"""Longer side over the shorter one; the models' picture processor refuses more (`smart_resize`)."""
A4 = math.sqrt(2)
"""Height over width of a page whose size nobody named."""
_RANGE = re.compile(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?")
_MOST_DIGITS = len(str(MAX_PAGES))


@dataclass(frozen=True, slots=True, kw_only=True)
class PageDefaults:
    """The authors' values for what a request leaves out."""

    max_pixels: int
    """What a page is shrunk to, where its size is left out."""
    new_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCard(ModelCard):
    """A model that reads pages."""

    defaults: PageDefaults
    size_multiple: int
    """The picture's sides are brought to multiples of this, in pixels."""
    min_pixels: int
    max_pixels: int
    """What the picture processor brings every picture between."""
    prompt: str
    """What the model is asked with each page."""
    prompt_tokens: int
    """Text tokens around the picture's: the prompt and the conversation's frame."""
    max_positions: int
    """Tokens of a page, its text and its answer together."""

    def fed_size(self, height_px: int, width_px: int, max_pixels: int | None) -> tuple[int, int]:
        """Height and width that the vision tower sees.

        The rule of the models' picture processor (transformers,
        models/qwen2_vl/image_processing_qwen2_vl.py, `smart_resize`): the nearest place of the
        grid, shrunk or grown in its shape to a number of pixels between the two limits.
        """
        unit = self.size_multiple
        most = min(self.max_pixels, max_pixels or self.max_pixels)
        height, width = round(height_px / unit) * unit, round(width_px / unit) * unit
        if height * width > most:
            shrink = math.sqrt(height_px * width_px / most)
            height = max(unit, math.floor(height_px / shrink / unit) * unit)
            width = max(unit, math.floor(width_px / shrink / unit) * unit)
        elif height * width < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height_px * width_px))
            height = math.ceil(height_px * grow / unit) * unit
            width = math.ceil(width_px * grow / unit) * unit
        return height, width

    def image_tokens(self, request: PageRequest) -> int:
        """Tokens that a page's picture becomes: one for each place of the grid."""
        height, width = self.fed_size(request.height, request.width, request.max_pixels)
        return height * width // self.size_multiple**2


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest(Request):
    """Pages of one size, read one after the other or some at a time (`page_batch`)."""

    input: str = ""
    """A file or a folder, named on the command line; never a path from the network."""
    pages: int | str = 1
    """How many, or which of the input's, e.g. `1-3, 7`."""
    height: int
    width: int
    max_pixels: int | None
    """Pages with more are shrunk to this; None for the model's own limit."""
    new_tokens: int
    """Most tokens that a page's answer may have."""

    @property
    def shape(self) -> tuple[Hashable, ...]:
        size = (self.height, self.width, self.max_pixels, self.new_tokens)
        return (*size, self.repeats, bool(self.input))

    @property
    def repeats(self) -> int:
        return count_pages(self.pages)

    @property
    def size_text(self) -> str:
        return f"{self.height}x{self.width} +{self.new_tokens}"


def count_pages(pages: int | str) -> int:
    """How many pages a number, or a list of ranges, names."""
    if isinstance(pages, int):
        return pages
    return sum(last - first + 1 for first, last in _ranges(pages))


def page_numbers(pages: str) -> list[int]:
    """The pages of a list of ranges such as `1-3, 7`, each once and in order.

    Raises:
        BadInput: it is no such list.
    """
    return [page for first, last in _ranges(pages) for page in range(first, last + 1)]


def _ranges(pages: str) -> list[tuple[int, int]]:
    """First and last page of each range, in order and apart from each other.

    They are not counted page by page: a few characters can name all pages many times over.

    Raises:
        BadInput: it is no list of ranges, or one ends beyond `MAX_PAGES`.
    """
    named: list[tuple[int, int]] = []
    for part in pages.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise _bad_pages(pages)
        digits = [match[1].lstrip("0"), (match[2] or match[1]).lstrip("0")]
        if max(map(len, digits)) > _MOST_DIGITS:  # before `int`, which refuses very long ones
            raise _too_many_pages(pages)
        first, last = (int(number or 0) for number in digits)
        if not 1 <= first <= last:
            raise _bad_pages(pages)
        if last > MAX_PAGES:
            raise _too_many_pages(pages)
        named.append((first, last))
    found: list[tuple[int, int]] = []
    for first, last in sorted(named):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def read_pages(given: Given, model: PageCard, common: Mapping[str, Any]) -> PageRequest:
    """The request for pages, with the authors' values for what is left out.

    Args:
        given: the keys.
        model: takes them.
        common: the values of the keys that all tasks have.

    Raises:
        BadInput: names the first wrong field and says what is allowed.
    """
    unit = model.size_multiple
    max_pixels = None
    if "max_pixels" in given:
        lowest, highest = max(unit**2, model.min_pixels), model.max_pixels
        max_pixels = read_whole(given, "max_pixels", highest, lowest, highest)
    elif "height" not in given and "width" not in given:
        max_pixels = model.defaults.max_pixels
    page = (max_pixels or model.defaults.max_pixels) / A4
    width = read_whole(given, "width", round(math.sqrt(page)), unit, MAX_SIDE_PX)
    height = read_whole(given, "height", min(MAX_SIDE_PX, round(width * A4)), unit, MAX_SIDE_PX)
    if "height" in given and "width" not in given:
        width = min(MAX_SIDE_PX, max(unit, round(height / A4)))
    _check_shape(height, width)
    request = PageRequest(
        input=read_text(given, "input", ""),
        pages=_pages(given),
        height=height,
        width=width,
        max_pixels=max_pixels,
        new_tokens=read_whole(
            given, "new_tokens", model.defaults.new_tokens, 1, model.max_positions
        ),
        **common,
    )
    tokens = model.image_tokens(request) + model.prompt_tokens + request.new_tokens
    if tokens > model.max_positions:
        raise BadInput(
            "new_tokens",
            Text(
                f"A page and its answer would be {tokens} tokens; {model.title} takes "
                f"{model.max_positions}.",
                f"一页及其结果共 {tokens} 个词元；{model.title} 最多 {model.max_positions} 个。",
            ),
            Text("Use fewer new_tokens or fewer pixels.", "请减少 new_tokens 或像素数。"),
        )
    return request


def is_page(height_px: int, width_px: int) -> bool:
    """Whether the models' picture processor takes a picture of this shape."""
    return max(height_px, width_px) <= MAX_RATIO * min(height_px, width_px)


def _check_shape(height: int, width: int) -> None:
    if is_page(height, width):
        return
    longer, shorter = ("height", "width") if height > width else ("width", "height")
    most = MAX_RATIO * min(height, width)
    raise BadInput(
        longer,
        Text(
            f"A page of {width}x{height} px is too narrow: the model's picture processor takes "
            f"sides up to {MAX_RATIO}:1.",
            f"{width}x{height} 像素的页面过于狭长：图片处理器接受的边长比最大为 {MAX_RATIO}:1。",
        ),
        Text(
            f"Use a {longer} of at most {most}, or a larger {shorter}.",
            f"{longer} 请不超过 {most}，或增大 {shorter}。",
        ),
    )


def _pages(given: Given) -> int | str:
    if isinstance(given.get("pages"), str):
        pages = read_text(given, "pages", "")
        _ranges(pages)
        return pages
    return read_whole(given, "pages", 1, 1, MAX_PAGES)


def _too_many_pages(pages: str) -> BadInput:
    return BadInput(
        "pages",
        Text(
            f"'{shown(pages)}' names pages beyond {MAX_PAGES}.",
            f"“{shown(pages)}”超出了第 {MAX_PAGES} 页。",
        ),
        Text(f"Use pages from 1 to {MAX_PAGES}.", f"页码请在 1 到 {MAX_PAGES} 之间。"),
    )


def _bad_pages(pages: str) -> BadInput:
    return BadInput(
        "pages",
        Text(f"'{shown(pages)}' names no pages.", f"“{shown(pages)}”不是页码。"),
        Text(
            "Write a number of pages, or ranges such as '1-3, 7'.",
            "请写页数，或写范围，例如 '1-3, 7'。",
        ),
    )
