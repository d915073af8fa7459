"""Answers in marks of their own: lines with their corners, blocks of a page, tables in OTSL.

Models that see places write them as words of their vocabulary. The forms here are those that their
authors' tools read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from webui.documents.answers import named_block, text_block
from webui.documents.blocks import Block, Box, page_box
from webui.documents.layout import Line, read_lines

MOST_LINES = 1000
"""Of a page: what a model repeats without end is cut here, or putting the lines in order takes
long."""
MOST_REGIONS = 200
"""Of a page: each is asked about on its own."""
_GRID = 1000
"""Places go from 0 to this, across and down (both models' tools)."""
_CORNERS = re.compile(r"((?:<\|LOC_\d{1,4}\|>){8})")
_NUMBER = re.compile(r"LOC_(\d{1,4})")
_LINE_MARKS = re.compile(r"<\|(?:TEXT_START|TEXT_END|LOC_BEGIN|LOC_END|LOC_SEP|LOC_\d{1,4})\|>")
_REGION = re.compile(
    r"<\|box_start\|>\s*(\d{1,4})\s+(\d{1,4})\s+(\d{1,4})\s+(\d{1,4})\s*<\|box_end\|>"
    r"<\|ref_start\|>(\w{1,40})<\|ref_end\|>((?:<\|rotate_\w{1,8}\|>)?)"
)
_TURNS = {"<|rotate_right|>": 90, "<|rotate_down|>": 180, "<|rotate_left|>": 270}
"""Degrees counter-clockwise that bring a block upright (opendatalab/mineru-vl-utils,
mineru_client.py, `ANGLE_MAPPING`)."""
_KINDS = {
    "title": "title",
    "table": "table",
    "image": "figure",
    "equation": "formula",
    "equation_block": "formula",
    "code": "code",
    "algorithm": "code",
}
"""Kinds by MinerU's names (mineru_vl_utils/structs.py); all others are text."""
UNREAD = ("image", "list", "equation_block")
"""Regions that are not read: pictures, and what holds other regions (mineru_client.py,
`prepare_for_extract`)."""
_OTSL = re.compile(r"<(fcel|ecel|lcel|ucel|xcel|ched|rhed|srow|nl)>")
_MOST_CELLS = 20_000
"""Of a table; what a model repeats without end is cut here."""


@dataclass(frozen=True, slots=True)
class Region:
    """A block that a model found on a page, not yet read."""

    named: str
    """What the model calls it, e.g. `table_caption`."""
    box: Box
    """In pixels of the page's picture."""
    turn: int
    """Degrees counter-clockwise that bring it upright."""


def line_blocks(answer: str, page: tuple[int, int]) -> list[Block]:
    """The blocks of a page from its lines, put together as those of OCR are.

    The form of PaddleOCR-VL's question `Spotting:`: a line's text, then x and y of its corners as
    eight words `<|LOC_n|>`, clockwise from the upper left (PaddlePaddle/PaddleX,
    paddleocr_vl/uilts.py, `post_process_for_spotting`; it knows marks around both too, which are
    left out here).

    Args:
        answer: what the model wrote, with its marks; it may be cut off anywhere. Text without a
            place stands at the end. What comes after MOST_LINES is left out.
        page: width and height of the page.
    """
    parts = _CORNERS.split(answer)
    if len(parts) // 2 > MOST_LINES:
        parts = [*parts[: 2 * MOST_LINES], ""]
    lines, rest = [], []
    for text, corners in zip(parts[::2], [*parts[1::2], ""], strict=True):
        said = " ".join(_LINE_MARKS.sub("", text).split())
        places = [int(number) / _GRID for number in _NUMBER.findall(corners)]
        points = [
            (min(x, 1.0) * page[0], min(y, 1.0) * page[1])
            for x, y in zip(places[::2], places[1::2], strict=True)
        ]
        if said and len(set(points)) > 2:
            lines.append(Line(said, (points[0], points[1], points[2], points[3])))
        elif said:
            rest.append(text_block(said))
    return read_lines(lines, *page) + rest


def has_too_many_lines(answer: str) -> bool:
    """Whether more than MOST_LINES have places."""
    return len(_CORNERS.findall(answer)) > MOST_LINES


def read_regions(answer: str, page: tuple[int, int]) -> list[Region]:
    """The blocks of a page in reading order, as MinerU2.5 finds them.

    Its form (opendatalab/mineru-vl-utils, mineru_client.py, `parse_layout_output`): a box, the name
    of a kind, how the block is turned.

    Args:
        answer: what the model wrote, with its marks; what is no block is left out, and so is a
            box that was there before.
        page: width and height of the page.
    """
    found: dict[Box, Region] = {}
    for match in _REGION.finditer(answer):
        left, top, right, bottom = (float(match[index]) for index in range(1, 5))
        box = page_box((left, top, right, bottom), (_GRID, _GRID), page)
        if box is not None:
            found.setdefault(box, Region(match[5].lower(), box, _TURNS.get(match[6], 0)))
    return list(found.values())


def kind_of(region: Region) -> str:
    """One of KINDS, or `code`."""
    return _KINDS.get(region.named, "text")


def region_block(region: Region, answer: str) -> Block:
    """The block of a region, from what the model wrote about it."""
    kind = kind_of(region)
    if kind == "table" and "<table" not in answer:
        answer = otsl_table(answer) or answer
    return named_block(kind, answer, region.box)


def otsl_table(answer: str) -> str:
    """A table in OTSL as HTML; empty where there is none.

    A mark begins each cell: `fcel` a filled one, `ecel` an empty one, `lcel` what belongs to the
    cell on its left, `ucel` to the one above, `xcel` to both; `nl` ends a row (Lysak et al. 2023,
    arXiv 2305.03393). `ched`, `rhed` and `srow` are filled cells too.
    """
    rows = _otsl_rows(answer)
    written = []
    for at, row in enumerate(rows):
        cells = []
        for place, (mark, text) in enumerate(row):
            if mark in ("lcel", "ucel", "xcel"):
                continue
            across, down = _spans(rows, at, place)
            spans = (f' colspan="{across}"' if across > 1 else "") + (
                f' rowspan="{down}"' if down > 1 else ""
            )
            cells.append(f"<td{spans}>{escape(text, quote=False)}</td>")
        written.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><tbody>{''.join(written)}</tbody></table>" if written else ""


def _otsl_rows(answer: str) -> list[list[tuple[str, str]]]:
    """Rows of marks with their texts."""
    parts = _OTSL.split(answer)
    rows: list[list[tuple[str, str]]] = [[]]
    for mark, text in list(zip(parts[1::2], parts[2::2], strict=True))[:_MOST_CELLS]:
        if mark == "nl":
            rows.append([])
        else:
            rows[-1].append((mark, text.strip()))
    return [row for row in rows if row]


def _spans(rows: list[list[tuple[str, str]]], at: int, place: int) -> tuple[int, int]:
    """How many columns and rows a cell covers."""

    def mark(row: int, column: int) -> str:
        inside = row < len(rows) and column < len(rows[row])
        return rows[row][column][0] if inside else ""

    across = down = 1
    while mark(at, place + across) == "lcel":
        across += 1
    while mark(at + down, place) == "ucel":
        down += 1
    return across, down
