"""Models that tell places in marks of their own, small and of the real classes, in the worker."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from tests.unit.pipelines.text_cards import tiny_mineru, tiny_paddleocr
from tests.unit.worker.test_pages_run import WORD, job_of
from tests.unit.worker.test_svd_run import Recorded
from webui.documents.blocks import Block
from webui.documents.kept import KeptPages
from webui.pipelines.qwen_vl import regions
from webui.worker import runner
from webui.worker.device import Device

PAGE = (900, 1200)
FIGURE = (600, 900, 840, 1080)


def thousandths(box: tuple[int, int, int, int]) -> list[int]:
    return [round(place * 1000 / side) for place, side in zip(box, PAGE * 2, strict=True)]


def forced(monkeypatch: Any, answer_to: Any) -> list[str]:
    """The model runs, and what it writes is replaced by the answer to what it was asked; returns
    the questions, as they come."""
    running = import_module("webui.pipelines.qwen_vl.run")
    real_write, questions = running.write, []

    def write(pipe: Any, inputs: Any, new_tokens: int, *more: Any) -> list[list[int]]:
        real_write(pipe, inputs, min(new_tokens, 6), *more)
        asked = [pipe.tokenizer.decode(ids[mask.bool()]) for ids, mask in _asked(inputs)]
        questions.extend(text.split("<|image_pad|>")[-1] for text in asked)
        return [
            pipe.tokenizer(answer_to(text), add_special_tokens=False)["input_ids"]
            for text in questions[-len(asked) :]
        ]

    monkeypatch.setattr(running, "write", write)
    return questions


def _asked(inputs: Any) -> Any:
    return zip(inputs["input_ids"], inputs["attention_mask"], strict=True)


def pages_of(given: dict[str, Any], tmp_path: Path) -> list[list[Block]]:
    """The blocks of the pages that could be opened."""
    (tmp_path / "run").mkdir()
    channel = Recorded()
    assert runner.Runner(Device(), channel).run(given)  # type: ignore[arg-type]
    assert channel.events[-1][0] == "result", channel.events[-1]
    kept = list(KeptPages(tmp_path / "run").all())
    assert [page.error is not None for page in kept] == [False, True, False]
    return [list(page.blocks) for page in kept if page.error is None]


def assert_at(block: Block, place: tuple[int, int, int, int]) -> None:
    assert block.box is not None
    for found, wanted, side in zip(block.box, place, PAGE * 2, strict=True):
        assert abs(found - wanted) <= max(2, side / 1000)


def test_lines_land_on_their_words(tmp_path, monkeypatch):
    card = tiny_paddleocr("paddleocr-vl-1.5-lines")
    left, top, right, bottom = thousandths(WORD)
    corners = [left, top, right, top, right, bottom, left, bottom]
    marks = tuple(f"<|LOC_{number}|>" for number in sorted({*corners}))
    given = job_of(card, tmp_path, monkeypatch, marks)
    answer = "word" + "".join(f"<|LOC_{number}|>" for number in corners)
    asked = forced(monkeypatch, lambda _: answer)
    for blocks in pages_of(given, tmp_path):
        assert [block.text for block in blocks] == ["word"]
        assert_at(blocks[0], WORD)
    assert asked == ["Spotting:"] * 2


@pytest.mark.parametrize(("count", "cut_off"), [(4, True), (3, False)])
def test_a_page_of_too_many_lines_is_said_to_be_cut_off(tmp_path, monkeypatch, count, cut_off):
    monkeypatch.setattr("webui.documents.marks.MOST_LINES", 3)
    marks = tuple(f"<|LOC_{number}|>" for number in range(8))
    given = job_of(tiny_paddleocr("paddleocr-vl-1.5-lines"), tmp_path, monkeypatch, marks)
    given["request"]["new_tokens"] = 1000
    line = "a" + "".join(marks)
    forced(monkeypatch, lambda _: line * count)
    pages_of(given, tmp_path)
    kept = [page for page in KeptPages(tmp_path / "run").all() if page.error is None]
    assert [page.cut_off for page in kept] == [cut_off] * 2


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    """The regions as they are cut out, before they are brought to the model's grid."""
    pictures: list[Image.Image] = []
    real = regions.PageRegions.question

    def question(self: Any, place: int) -> Any:
        asked = real(self, place)
        pictures.append(asked.picture)
        return asked

    monkeypatch.setattr(regions.PageRegions, "question", question)
    return pictures


def test_regions_are_found_cut_out_and_read_one_by_one(tmp_path, monkeypatch, seen):
    card = tiny_mineru()
    table = (90, 600, 300, 900)
    found = [("text", WORD, "up"), ("image", FIGURE, "up"), ("table", table, "right")]
    marks = ("<|box_start|>", "<|box_end|>", "<|ref_start|>", "<|ref_end|>")
    marks += ("<|rotate_up|>", "<|rotate_right|>")
    given = job_of(card, tmp_path, monkeypatch, marks)
    page = Image.new("RGB", PAGE, "white")
    ImageDraw.Draw(page).rectangle((90, 600, 300, 640), fill="black")  # the table's upper edge
    for name in ("1.png", "3.png"):
        page.save(tmp_path / "pages" / name)
    answers = {
        "\nLayout Detection:": "\n".join(
            f"<|box_start|>{' '.join(map(str, thousandths(box)))}<|box_end|>"
            f"<|ref_start|>{named}<|ref_end|><|rotate_{turn}|>"
            for named, box, turn in found
        ),
        "\nText Recognition:": "word",
        "\nTable Recognition:": "<fcel>a<fcel>b<nl>",
    }
    asked = forced(monkeypatch, answers.__getitem__)
    for blocks in pages_of(given, tmp_path):
        assert [block.kind for block in blocks] == ["text", "figure", "table"]
        assert [block.text for block in blocks] == ["word", "", "a\tb"]
        for block, place in zip(blocks, (WORD, FIGURE, table), strict=True):
            assert_at(block, place)
    layout, *read = answers
    # One page at a time: the second of the first two is none.
    assert asked == [layout, *read] * 2
    word, turned = seen[0].size, seen[1]
    assert word == pytest.approx((360, 60), abs=2)
    assert turned.size == pytest.approx((300, 210), abs=2)
    # Turned to the left by a quarter: what was above is on the left now.
    assert turned.getpixel((5, 100)) == (0, 0, 0)
    assert turned.getpixel((290, 100)) == (255, 255, 255)


@pytest.mark.parametrize(("most", "cut_off"), [(2, True), (3, False)])
def test_regions_are_asked_about_once_and_no_more_than_so_many(
    tmp_path, monkeypatch, most, cut_off
):
    marks = ("<|box_start|>", "<|box_end|>", "<|ref_start|>", "<|ref_end|>")
    given = job_of(tiny_mineru(), tmp_path, monkeypatch, marks)
    given["request"]["new_tokens"] = 1000
    monkeypatch.setattr(regions, "MOST_REGIONS", most)
    layout = "".join(
        f"<|box_start|>{' '.join(map(str, thousandths(box)))}<|box_end|>"
        "<|ref_start|>text<|ref_end|>"
        for box in (WORD, WORD, FIGURE, WORD, (90, 600, 300, 900))
    )
    asked = forced(monkeypatch, lambda text: layout if "Layout" in text else "word")
    assert [len(blocks) for blocks in pages_of(given, tmp_path)] == [most, most]
    assert asked.count("\nText Recognition:") == 2 * most
    kept = [page for page in KeptPages(tmp_path / "run").all() if page.error is None]
    assert [page.cut_off for page in kept] == [cut_off] * 2


def test_a_page_on_which_nothing_is_found_is_empty(tmp_path, monkeypatch):
    given = job_of(tiny_mineru(), tmp_path, monkeypatch)
    asked = forced(monkeypatch, lambda _: "nothing here")
    assert pages_of(given, tmp_path) == [[], []]
    assert asked == ["\nLayout Detection:"] * 2


def test_a_region_that_is_a_hair_wide_gets_room():
    picture = regions._handy(Image.new("RGB", (2000, 4)), 28)
    assert min(picture.size) >= 28 and max(picture.size) <= 50 * min(picture.size)
