"""OCR on its embedded models: what it reads, and where; nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.rendered_pages import fonts
from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.units import MIB
from webui.pipelines import ocr
from webui.pipelines.ocr.load import OcrPipeline
from webui.pipelines.ocr.run import read_page

CARD = find_model("ocr", "parse")


@pytest.fixture(scope="module")
def pipe() -> Iterator[OcrPipeline]:
    """Loaded where no address can be opened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.socket.connect", lambda *_: pytest.fail("it went to the network"))
        yield ocr.load(CARD, {}, {}, "cpu")  # type: ignore[arg-type]


def read(pipe: OcrPipeline, page: Image.Image, **keys: object) -> list[tuple[str, tuple | None]]:
    request = parse_request({"task": "parse", "model": "ocr", **keys}, find_model)
    return [(block.text, block.box) for block in read_page(pipe, request, page)]


def page_of(text: str, font: ImageFont.FreeTypeFont, size: tuple[int, int]) -> Image.Image:
    page = Image.new("RGB", size, "white")
    ImageDraw.Draw(page).text((60, 60), text, fill="black", font=font)
    return page


def test_boxes_are_pixels_of_the_page_whatever_it_is_shrunk_to(pipe) -> None:
    page = page_of("Memory 8.19 GB", ImageFont.load_default(80), (1200, 300))
    inked = page.convert("L").point(lambda level: 255 * (level < 128)).getbbox()
    assert inked is not None
    for limit in (360_000, 60_000):
        ((text, box),) = read(pipe, page, max_pixels=limit)
        assert text == "Memory 8.19 GB" and box is not None
        for found, place in zip(box, inked, strict=True):
            assert abs(found - place) < 60


def test_a_page_that_lies_askew_is_read(pipe) -> None:
    page = page_of("Turned by two degrees", ImageFont.load_default(50), (900, 300))
    assert read(pipe, page.rotate(2, fillcolor="white"))[0][0] == "Turned by two degrees"


@pytest.mark.parametrize("size", [(300, 300), (7, 5), (2000, 11)])
def test_blank_and_tiny_pages_are_empty(pipe, size) -> None:
    assert read(pipe, Image.new("RGB", size, "white")) == []


@pytest.mark.skipif(not fonts(chinese=True), reason="no font has Chinese letters here")
def test_chinese_is_read(pipe) -> None:
    text = "显存不足时，请降低图片分辨率。"
    page = page_of(text, ImageFont.truetype(fonts(chinese=True)[0], 44, index=2), (900, 200))
    assert read(pipe, page)[0][0].replace(",", "，") == text


def test_lines_read_side_by_side_keep_their_places(pipe) -> None:
    lines = ["Seven", "The longest line of them all, by far", "Two words", "Card 12 GB", "End."]
    page = Image.new("RGB", (1000, 700), "white")
    for number, line in enumerate(lines):
        place = (60, 60 + 120 * number)
        ImageDraw.Draw(page).text(place, line, fill="black", font=ImageFont.load_default(44))
    found = read(pipe, page)
    assert [text for text, _ in found] == lines
    widths = [box[2] - box[0] for _, box in found if box is not None]
    assert sorted(range(5), key=lambda index: widths[index]) == [4, 0, 2, 3, 1]


def test_what_is_kept_for_the_next_page_is_given_back(pipe) -> None:
    process, page = psutil.Process(), Image.new("RGB", (1654, 2339), "white")
    read(pipe, page)
    kept = process.memory_info().rss
    read(pipe, page)
    assert process.memory_info().rss - kept < 32 * MIB
    pipe.engine.rest()
    assert kept - process.memory_info().rss > 200 * MIB
