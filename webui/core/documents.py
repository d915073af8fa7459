"""Documents (task `parse`): what all of its engines share: pages of pictures, and which of them.

An engine that writes text is in `pages`; one that only reads what stands there (OCR) is here.
"""

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
from webui.core.units import MIB

MAX_SIDE_PX = 16_384
MAX_PAGES = 100_000
MAX_RATIO = 200
"""Longer side over the shorter one; the models' picture processor refuses more (`smart_resize`)."""
A4 = math.sqrt(2)
"""Height over width of a page whose size nobody named."""
ALL = "all"
"""The `pages` of a request with an input that names none."""
AUTO = "auto"
"""The `max_pixels` of a request that asks for the most that fits."""
MAX_UPLOAD_BYTES = 256 * MIB
"""Of a document that is not on this machine already."""
MIN_DPI, DPI, MAX_DPI = 36, 200, 600
"""Resolution at which pages of a PDF are drawn."""
_RANGE = re.compile(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?")
_MOST_DIGITS = len(str(MAX_PAGES))


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentCard(ModelCard):
    """A model that takes pages as pictures."""

    size_multiple: int
    """The picture's sides are brought to multiples of this, in pixels."""
    min_pixels: int
    max_pixels: int
    """What every picture is brought between."""

    def fed_size(
        self, height_px: int, width_px: int, max_pixels: int | str | None
    ) -> tuple[int, int]:
        """Height and width that the model sees.

        The rule of the models' picture processor (transformers,
        models/qwen2_vl/image_processing_qwen2_vl.py, `smart_resize`): the nearest place of the
        grid, shrunk or grown in its shape to a number of pixels between the two limits.
        """
        unit = self.size_multiple
        asked = max_pixels if isinstance(max_pixels, int) else 0
        most = min(self.max_pixels, asked or self.max_pixels)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRequest(Request):
    """Pages of one size, or those of an input."""

    input: str = ""
    """A file or a folder, named on the command line; never a path from the network."""
    pages: int | str = 1
    """How many, or which of the input's, e.g. `1-3, 7`, or `all`."""
    dpi: int = DPI
    """Resolution at which pages of a PDF are drawn."""
    height: int
    width: int
    max_pixels: int | str | None
    """Pages with more are shrunk to this; None for the model's own limit, `auto` for the most that
    fits the card."""

    @property
    def repeats(self) -> int:
        return count_pages(self.pages)

    @property
    def size_text(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanDefaults:
    """What a request leaves out."""

    max_pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanCard(DocumentCard):
    """An engine that reads what stands on a page (OCR); it writes nothing of its own."""

    defaults: ScanDefaults


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest(DocumentRequest):
    """Pages for OCR."""

    @property
    def shape(self) -> tuple[Hashable, ...]:
        return (self.height, self.width, self.max_pixels, self.repeats, bool(self.input))


def count_pages(pages: int | str) -> int:
    """How many pages a number, or a list of ranges, names; one where nobody counted them yet."""
    if isinstance(pages, int):
        return pages
    if pages == ALL:
        return 1
    return sum(last - first + 1 for first, last in _ranges(pages))


def page_numbers(pages: int | str, there: int) -> list[int]:
    """The pages that a request names, each once and in order.

    Args:
        pages: a number, a list of ranges such as `1-3, 7`, or `all`.
        there: how many the input has.

    Raises:
        BadInput: it is no such list, or one of them is not there.
    """
    if pages == ALL:
        return list(range(1, there + 1))
    ranges = [(1, pages)] if isinstance(pages, int) else _ranges(pages)
    last = ranges[-1][1]
    if last > there:
        raise BadInput(
            "pages",
            Text(
                f"There is no page {last}: the input has {there}.",
                f"没有第 {last} 页：输入共 {there} 页。",
            ),
            Text(f"Use 1 to {there}.", f"请用 1 到 {there}。"),
        )
    return [page for first, last in ranges for page in range(first, last + 1)]


def range_text(numbers: list[int]) -> str:
    """Page numbers in order as a list of ranges, e.g. `1-3, 7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


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


def read_document(
    given: Given, model: DocumentCard, default_pixels: int, common: Mapping[str, Any]
) -> dict[str, Any]:
    """The keys that all engines have, with the model's values for what is left out.

    Args:
        given: the keys.
        model: takes them.
        default_pixels: what a page is shrunk to, where its size is left out.
        common: the values of the keys that all tasks have.

    Raises:
        BadInput: names the first wrong field and says what is allowed.
    """
    unit = model.size_multiple
    max_pixels: int | str | None = None
    if given.get("max_pixels") == AUTO:
        max_pixels = AUTO
    elif "max_pixels" in given:
        lowest, highest = max(unit**2, model.min_pixels), model.max_pixels
        max_pixels = read_whole(given, "max_pixels", highest, lowest, highest)
    elif "height" not in given and "width" not in given:
        max_pixels = default_pixels
    pixels = model.max_pixels if max_pixels == AUTO else default_pixels
    page = (max_pixels if isinstance(max_pixels, int) else pixels) / A4
    usual_width = min(MAX_SIDE_PX, round(math.sqrt(page)))
    width = read_whole(given, "width", usual_width, unit, MAX_SIDE_PX)
    height = read_whole(given, "height", min(MAX_SIDE_PX, round(width * A4)), unit, MAX_SIDE_PX)
    if "height" in given and "width" not in given:
        width = min(MAX_SIDE_PX, max(unit, round(height / A4)))
    _check_shape(height, width)
    return {
        "input": read_text(given, "input", ""),
        "pages": _pages(given),
        "dpi": read_whole(given, "dpi", DPI, MIN_DPI, MAX_DPI),
        "height": height,
        "width": width,
        "max_pixels": max_pixels,
        **common,
    }


def read_scan(given: Given, model: ScanCard, common: Mapping[str, Any]) -> ScanRequest:
    """The request for OCR.

    Raises:
        BadInput: names the first wrong field and says what is allowed.
    """
    return ScanRequest(**read_document(given, model, model.defaults.max_pixels, common))


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
        if pages.strip().lower() == ALL:
            return ALL
        _ranges(pages)
        return pages
    if given.get("input") and "pages" not in given:
        return ALL
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
