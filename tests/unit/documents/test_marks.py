"""Answers in a model's own marks: lines with corners, regions of a page, tables in OTSL."""

from __future__ import annotations

import random

import pytest

from webui.documents.marks import (
    MOST_LINES,
    has_too_many_lines,
    line_blocks,
    otsl_table,
    read_regions,
    region_block,
)

PAGE = (2000, 1000)


def corners(left: int, top: int, right: int, bottom: int) -> str:
    numbers = (left, top, right, top, right, bottom, left, bottom)
    return "".join(f"<|LOC_{number}|>" for number in numbers)


def region(named: str, box: str, turn: str = "up") -> str:
    return f"<|box_start|>{box}<|box_end|><|ref_start|>{named}<|ref_end|><|rotate_{turn}|>"


def test_lines_become_paragraphs_with_the_box_around_their_corners():
    answer = (
        f"A heading{corners(100, 50, 500, 110)}the first line{corners(100, 200, 480, 230)}"
        f"and the second{corners(100, 236, 470, 266)}"
    )
    title, text = line_blocks(answer, PAGE)
    assert (title.kind, title.text, title.box) == ("title", "A heading", (200, 50, 1000, 110))
    assert text.text == "the first line and the second"
    assert text.box == (200, 200, 960, 266)


def test_marks_around_lines_and_their_places_are_no_text():
    whole = f"<|TEXT_START|>one<|TEXT_END|><|LOC_BEGIN|>{corners(10, 10, 90, 60)}<|LOC_END|>"
    assert [block.text for block in line_blocks(whole, PAGE)] == ["one"]


@pytest.mark.parametrize("end", ["<|LOC_1|><|LOC_2|>", "<|LOC_", "", corners(5, 5, 5, 5)])
def test_a_line_without_a_place_is_kept(end):
    found = line_blocks(f"one{corners(10, 10, 90, 60)}cut off{end}", PAGE)
    assert found[0].box == (20, 10, 180, 60)
    assert found[-1].text.startswith("cut off") and found[-1].box is None


def test_regions_are_in_pixels_of_the_page_and_turned_upright():
    answer = "\n".join(
        [
            region("title", "100 50 900 90"),
            region("table", "900 500 100 300", "right"),
            "no region at all <|box_start|>1 2<|box_end|>",
            region("text", "10 10 10 20"),
            region("image", "000 000 1000 999", "left"),
        ]
    )
    found = read_regions(answer, PAGE)
    assert [(each.named, each.box, each.turn) for each in found] == [
        ("title", (200, 50, 1800, 90), 0),
        ("table", (200, 300, 1800, 500), 90),
        ("image", (0, 0, 2000, 999), 270),
    ]


def test_what_a_model_repeats_without_end_is_cut():
    line = corners(10, 10, 90, 60)
    most = "".join(f"n{number}{line}" for number in range(MOST_LINES))
    assert not has_too_many_lines(most) and has_too_many_lines(f"{most}one more{line}")
    said = " ".join(block.text for block in line_blocks(f"{most}one more{line}the end", PAGE))
    assert f"n{MOST_LINES - 1}" in said and "one more" not in said and "the end" not in said
    again = region("text", "10 10 50 20")
    found = read_regions(again * 300 + region("title", "10 10 50 21") + again, PAGE)
    assert [each.named for each in found] == ["text", "title"]


def test_a_region_is_read_as_its_kind():
    title, table, formula, code, picture, text = (
        region_block(read_regions(region(named, "0 0 500 500"), PAGE)[0], said)
        for named, said in (
            ("title", "Part <1>"),
            ("table", "<fcel>a<fcel>b<nl><fcel>1<ecel><nl>"),
            ("equation", "\\[ \\frac{a}{b} \\]"),
            ("code", "if a < b:\n    pass"),
            ("image", ""),
            ("page_number", "7 of \\(n\\)"),
        )
    )
    assert title.kind == "title" and title.markdown == "## Part &lt;1>"
    assert table.markdown.splitlines() == ["| a | b |", "| --- | --- |", "| 1 |  |"]
    assert formula.kind == "formula" and formula.text == "\\frac{a}{b}"
    assert "<mfrac>" in formula.html
    assert "<pre><code>if a &lt; b:\n    pass" in code.html
    assert picture.kind == "figure" and picture.box == (0, 0, 1000, 500)
    assert text.text == "7 of \\(n\\)" and "<math" in text.html


def test_cells_of_otsl_that_belong_together_are_one():
    answer = "<fcel>head<lcel><nl><fcel>left<fcel>up<nl><ucel><fcel>down<nl>"
    assert otsl_table(answer) == (
        '<table><tbody><tr><td colspan="2">head</td></tr>'
        '<tr><td rowspan="2">left</td><td>up</td></tr><tr><td>down</td></tr></tbody></table>'
    )
    assert otsl_table("no table") == ""


def test_nothing_that_a_model_writes_runs():
    wrong = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    blocks = line_blocks(f"{wrong}{corners(1, 1, 90, 60)}", PAGE)
    for named in ("text", "table", "equation", "code", "title", "image"):
        found = read_regions(region(named, "0 0 500 500"), PAGE)[0]
        blocks += [region_block(found, wrong), region_block(found, f"<fcel>{wrong}<nl>")]
        blocks.append(region_block(found, f"<table><tr><td>{wrong}</td></tr></table>"))
    for block in blocks:
        shown = block.html.lower()
        assert "<script" not in shown and "<img" not in shown
        if not block.markdown.startswith("```"):  # lines of code, in which nothing is a tag
            assert "<script" not in block.markdown and "<img" not in block.markdown


def test_noise_in_marks_is_no_error():
    pieces = [
        "<|LOC_7|>",
        "<|box_start|>",
        "1 2 3 4",
        "<|box_end|>",
        "<fcel>",
        "<nl>",
        "<ucel>",
        "x",
    ]
    pick = random.Random(1)
    for _ in range(300):
        answer = "".join(pick.choices([*pieces, "<lcel>", "<|ref_start|>table<|ref_end|>"], k=30))
        line_blocks(answer, PAGE)
        for found in read_regions(answer, PAGE):
            region_block(found, answer)
        otsl_table(answer)
