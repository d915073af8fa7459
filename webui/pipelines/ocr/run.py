"""A run of OCR over pages, one after the other: find the lines, read them, put them in order."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from webui.core.documents import ScanRequest
from webui.documents.blocks import Block
from webui.documents.layout import Line, read_lines
from webui.pipelines.documents import Pages
from webui.pipelines.ocr.load import OcrPipeline
from webui.pipelines.running import Report

MIN_SIDE_PX = 32
"""The detector's grid: a smaller page is set on white."""


def run(
    pipe: OcrPipeline,
    request: ScanRequest,
    _settings: Mapping[str, Any],
    report: Report,
    pages: Pages,
) -> None:
    """Reads the pages.

    Raises:
        Cancelled: the report says so, at the next page.
    """
    numbers = list(pages.numbers)
    report.begin("read")
    try:
        for count, number in enumerate(numbers):
            report.check()
            page = pages.open(number)
            if page is not None:
                _read(pipe, request, pages, number, page)
            report.step(count + 1, len(numbers))
    finally:
        pipe.engine.rest()


def _read(
    pipe: OcrPipeline, request: ScanRequest, pages: Pages, number: int, page: Image.Image
) -> None:
    try:
        blocks = read_page(pipe, request, page)
    except MemoryError:
        raise
    except Exception as error:  # of the engine, on this page
        logging.getLogger(__name__).warning("page %d", number, exc_info=True)
        pages.failed(number, error)
    else:
        pages.done(number, blocks)


def read_page(pipe: OcrPipeline, request: ScanRequest, page: Image.Image) -> list[Block]:
    """The blocks of one page, in pixels of it."""
    height, width = pipe.card.fed_size(page.height, page.width, request.max_pixels)
    fed = page
    if height * width < page.height * page.width:
        fed = page.resize((width, height), Image.Resampling.LANCZOS)
    if min(fed.size) < MIN_SIDE_PX:
        sides = max(fed.width, MIN_SIDE_PX), max(fed.height, MIN_SIDE_PX)
        larger = Image.new("RGB", sides, "white")
        larger.paste(fed)
        fed = larger
    found = pipe.engine(np.ascontiguousarray(np.asarray(fed)[:, :, ::-1]))
    if found.boxes is None or not found.txts:
        return []
    grown = fed.size != page.size and fed.size != (width, height)
    across = 1.0 if grown else page.width / fed.width
    down = 1.0 if grown else page.height / fed.height
    lines = [
        Line(text, tuple((float(x) * across, float(y) * down) for x, y in corners))
        for corners, text in zip(found.boxes, found.txts, strict=True)
        if text.strip()
    ]
    return read_lines(lines, page.width, page.height)
