"""Lines of text as OCR finds them, as blocks in reading order.

The page is cut where it is empty: across between parts, down between columns (recursive X-Y cut;
Nagy, Seth, Viswanathan 1992). Columns whose entries stand side by side and leave room are a table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from webui.documents.answers import table_block, text_block
from webui.documents.blocks import Block, Box

COLUMN_GAP = 1.0
"""Least empty width between columns, in heights of a line."""
PART_GAP = 1.6
"""Least empty height between parts of a page, in heights of a line."""
PARAGRAPH_GAP = 0.9
"""Empty height between lines from which a paragraph ends, in heights of a line."""
WIDER_GAP = 0.35
"""So much wider than the usual gap of its column does it as well, in heights of a line."""
TITLE_HEIGHT = 1.3
"""A line so much higher than the page's usual ones is a title."""
TABLE_FILL = 0.62
"""Cells of a table fill less of their column than lines of a text, in the middle."""
LEAST_LINES = 3
"""On either side of a gap between columns."""
MOST_ACROSS = 0.3
"""Share of the lines that may go across such a gap: titles, and what stands below the columns."""
MOST_DEPTH = 40
_CJK = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
"""Of scripts that put no spaces between words."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text.

    Attributes:
        text: what it says.
        corners: x and y of its four corners, clockwise from the upper left, in pixels.
    """

    text: str
    corners: tuple[tuple[float, float], ...]

    @property
    def angle(self) -> float:
        """Of its upper and lower edge, in radians."""
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = self.corners
        return math.atan2((by - ay) + (cy - dy), (bx - ax) + (cx - dx))

    @property
    def length(self) -> float:
        (ax, ay), (bx, by) = self.corners[:2]
        return math.hypot(bx - ax, by - ay)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A line where it would be on an upright page."""

    line: Line
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


def read_lines(lines: Sequence[Line], width: int, height: int) -> list[Block]:
    """The blocks of a page, in the order in which people read them.

    Args:
        lines: in any order.
        width: of the page, in pixels.
        height: the same.
    """
    if not lines:
        return []
    # The longest lines tell best how the page lies.
    long = sorted(lines, key=lambda line: -line.length)[: max(1, len(lines) // 2)]
    turned = median(line.angle for line in long)
    placed = [_upright(line, turned) for line in lines]
    usual = median(line.height for line in placed)
    blocks: list[Block] = []
    for part in _cut(placed, usual, MOST_DEPTH):
        rows = _table(part, usual)
        if rows is not None:
            text_rows = [
                [" ".join(line.line.text for line in cell) for cell in row] for row in rows
            ]
            blocks.append(table_block(text_rows, _box(part, width, height)))
        else:
            blocks += [_block(group, usual, width, height) for group in _paragraphs(part, usual)]
    return blocks


def _upright(line: Line, angle: float) -> _Placed:
    cos, sin = math.cos(-angle), math.sin(-angle)
    xs = [x * cos - y * sin for x, y in line.corners]
    ys = sorted(x * sin + y * cos for x, y in line.corners)
    # Of a line that is turned a little otherwise the mean edges count.
    return _Placed(line, min(xs), (ys[0] + ys[1]) / 2, max(xs), (ys[2] + ys[3]) / 2)


def _cut(lines: list[_Placed], usual: float, depth: int) -> list[list[_Placed]]:
    """The parts of a page that belong together, in order."""
    if len(lines) < 2 or not depth:
        return [lines]
    for across in (False, True):
        groups = _groups(lines, usual, across)
        if len(groups) < 2:
            continue
        if not across and _table(lines, usual) is not None:
            return [lines]
        return [part for group in groups for part in _cut(group, usual, depth - 1)]
    zones = _zones(lines, usual)
    if len(zones) < 2:
        return [lines]
    return [part for zone in zones for part in _cut(zone, usual, depth - 1)]


def _zones(lines: list[_Placed], usual: float) -> list[list[_Placed]]:
    """Lines above, in and below columns, where few lines go across the gap between those.

    A title near to its columns leaves no empty stripe that would part them.
    """
    gap = COLUMN_GAP * usual
    best: list[_Placed] | None = None
    for start in {line.right for line in lines}:
        before = sum(line.right <= start for line in lines)
        after = sum(line.left >= start + gap for line in lines)
        if min(before, after) < LEAST_LINES:
            continue
        across = [line for line in lines if line.left < start + gap and line.right > start]
        if len(across) <= MOST_ACROSS * len(lines) and (best is None or len(across) < len(best)):
            best = across
    if not best:
        return [lines]
    wide = {id(line) for line in best}
    zones: list[list[_Placed]] = []
    for line in sorted(lines, key=lambda line: line.middle):
        if not zones or (id(line) in wide) != (id(zones[-1][-1]) in wide):
            zones.append([])
        zones[-1].append(line)
    return zones


def _groups(lines: list[_Placed], usual: float, across: bool) -> list[list[_Placed]]:
    """Lines on either side of empty stripes: across the page, or down."""
    least = (PART_GAP if across else COLUMN_GAP) * usual
    start, end = ("top", "bottom") if across else ("left", "right")
    ordered = sorted(lines, key=lambda line: float(getattr(line, start)))
    groups, reach = [[ordered[0]]], float(getattr(ordered[0], end))
    for line in ordered[1:]:
        if getattr(line, start) - reach >= least:
            groups.append([])
        groups[-1].append(line)
        reach = max(reach, float(getattr(line, end)))
    return groups


def _table(lines: list[_Placed], usual: float) -> list[list[list[_Placed]]] | None:
    """Rows of cells, if the lines are a table: columns whose entries stand in the same rows."""
    columns = _groups(lines, usual, across=False)
    rows = _rows(lines)
    if len(columns) < 2 or len(rows) < 2:
        return None
    full = sum(len(row) == len(columns) for row in rows)
    if full < max(2, 0.6 * len(rows)):
        return None
    starts = [min(line.left for line in column) for column in columns]
    ends = [*starts[1:], max(line.right for line in columns[-1])]
    fills = [
        (line.right - line.left) / max(1.0, end - start)
        for column, start, end in zip(columns[:-1], starts, ends, strict=False)
        for line in column
    ]
    if len(columns) == 2 and median(fills) > TABLE_FILL:
        return None
    if len(columns) > 2 and median(fills) > (1 + TABLE_FILL) / 2:
        return None
    where = {id(line): index for index, column in enumerate(columns) for line in column}
    cells: list[list[list[_Placed]]] = []
    for row in rows:
        cells.append([[] for _ in columns])
        for line in sorted(row, key=lambda line: line.left):
            cells[-1][where[id(line)]].append(line)
    return cells


def _rows(lines: list[_Placed]) -> list[list[_Placed]]:
    """Lines that stand beside each other."""
    rows: list[list[_Placed]] = []
    for line in sorted(lines, key=lambda line: line.middle):
        if rows and abs(line.middle - median(o.middle for o in rows[-1])) < 0.5 * line.height:
            rows[-1].append(line)
        else:
            rows.append([line])
    return rows


def _paragraphs(lines: list[_Placed], usual: float) -> list[list[_Placed]]:
    """Lines of one column, where no wider gap and no other size of letters parts them."""
    ordered = [line for row in _rows(lines) for line in sorted(row, key=lambda line: line.left)]
    groups = [[ordered[0]]]
    gaps = [after.top - before.bottom for before, after in pairwise(ordered)]
    below = [gap for gap in gaps if gap > -0.5 * usual]  # others stand beside each other
    widest = min(PARAGRAPH_GAP * usual, (median(below) if below else 0.0) + WIDER_GAP * usual)
    for line, gap in zip(ordered[1:], gaps, strict=True):
        before = groups[-1][-1]
        larger = max(line.height, before.height) > 1.25 * min(line.height, before.height)
        if gap > widest or (larger and line.top >= before.middle):
            groups.append([])
        groups[-1].append(line)
    return groups


def _block(lines: list[_Placed], usual: float, width: int, height: int) -> Block:
    high = median(line.height for line in lines) >= TITLE_HEIGHT * usual
    kind = "title" if high and len(lines) <= 3 else "text"
    return text_block(_joined(lines), kind, _box(lines, width, height))


def _joined(lines: list[_Placed]) -> str:
    """The lines of a paragraph as one text, without spaces between those of Chinese."""
    text = ""
    for line in lines:
        new = line.line.text.strip()
        if not text or not new or _CJK.match(text[-1]) or _CJK.match(new[0]):
            text += new
        else:
            text += " " + new
    return text


def _box(lines: Sequence[_Placed], width: int, height: int) -> Box:
    xs = [x for line in lines for x, _ in line.line.corners]
    ys = [y for line in lines for _, y in line.line.corners]
    left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
    return left, top, min(width, math.ceil(max(xs))), min(height, math.ceil(max(ys)))
