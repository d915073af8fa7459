"""Lines in reading order: columns, tables, titles, pages that lie askew."""

from __future__ import annotations

import math
import random

from webui.documents.layout import Line, read_lines

WIDTH, HEIGHT = 1000, 1400


def line(text: str, left: float, top: float, width: float, height: float = 20) -> Line:
    right, bottom = left + width, top + height
    return Line(text, ((left, top), (right, top), (right, bottom), (left, bottom)))


def page(turned_degrees: float = 0.0) -> list[Line]:
    """A title, two columns, a line across, and a table."""
    lines = [line("Title", 100, 40, 300, 40)]
    for row in range(8):
        lines.append(line(f"left{row}", 100, 130 + 26 * row, 380))
        lines.append(line(f"right{row}", 530, 130 + 26 * row, 370))
    lines.append(line("across", 100, 420, 800))
    for row in range(4):
        for column in range(3):
            lines.append(line(f"c{row}{column}", 100 + 280 * column, 480 + 32 * row, 60))
    angle = math.radians(turned_degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    turned = [
        Line(
            one.text,
            tuple(
                (
                    500 + (x - 500) * cos - (y - 700) * sin,
                    700 + (x - 500) * sin + (y - 700) * cos,
                )
                for x, y in one.corners
            ),
        )
        for one in lines
    ]
    random.Random(1).shuffle(turned)
    return turned


def test_columns_are_read_one_after_the_other_and_tables_by_rows():
    for degrees in (0, 2, -2):
        blocks = read_lines(page(degrees), WIDTH, HEIGHT)
        assert [block.kind for block in blocks] == ["title", "text", "text", "text", "table"]
        assert blocks[1].text == " ".join(f"left{row}" for row in range(8))
        assert blocks[2].text == " ".join(f"right{row}" for row in range(8))
        assert blocks[4].text.split("\n")[1] == "c10\tc11\tc12"
        assert "<td>c31</td>" in blocks[4].html


def test_a_title_close_to_columns_does_not_join_them():
    near = [line("A title near by", 100, 100, 500, 30)]
    for row in range(6):
        near.append(line(f"a{row}", 100, 140 + 26 * row, 380))
        near.append(line(f"b{row}", 530, 140 + 26 * row, 370))
    near.append(line("and a line below", 100, 300, 800))
    texts = [block.text for block in read_lines(near, WIDTH, HEIGHT)]
    assert texts == [
        "A title near by",
        "a0 a1 a2 a3 a4 a5",
        "b0 b1 b2 b3 b4 b5",
        "and a line below",
    ]


def test_boxes_hold_their_lines():
    title = read_lines(page(), WIDTH, HEIGHT)[0]
    assert title.box == (100, 40, 400, 80)


def test_chinese_lines_are_joined_without_spaces():
    lines = [line("本文档说明", 100, 100, 400), line("如何配置", 100, 126, 300)]
    assert read_lines(lines, WIDTH, HEIGHT)[0].text == "本文档说明如何配置"


def test_a_blank_page_has_no_blocks():
    assert read_lines([], WIDTH, HEIGHT) == []


def test_paragraphs_end_where_the_gap_is_wider_than_usual():
    """The gap is less than a line high, but those within the paragraphs are much smaller."""
    tops = [100, 128, 156, 198, 226, 254]
    lines = [line(f"l{place}", 100, top, 600) for place, top in enumerate(tops)]
    assert [block.text for block in read_lines(lines, WIDTH, HEIGHT)] == ["l0 l1 l2", "l3 l4 l5"]
    even = [line(f"l{place}", 100, 100 + 36 * place, 600) for place in range(6)]
    assert len(read_lines(even, WIDTH, HEIGHT)) == 1
