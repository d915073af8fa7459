"""Plots as SVG that stretches to its place; the words around them are HTML and keep their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

HEIGHT = 100
"""Units of the drawing from bottom to top."""
HOVERS = 25
"""Columns of a plot that tell their figures when pointed at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a plot over time."""

    kind: str
    """CSS class: its colour."""
    values: NDArray[np.float32]
    """0 to 1 of the plot's height; NaN where there is nothing."""
    filled: bool = False


def render_plot(
    lines: Sequence[Line],
    *,
    spoken: str,
    top: str,
    left: str,
    right: str,
    hovers: Sequence[str] = (),
    mark: float | None = None,
) -> str:
    """Lines over time with both axes.

    Args:
        lines: drawn in order.
        spoken: the plot in words, for who does not see it.
        top: the figure at full height; the foot is 0.
        left: the time at the left end.
        right: at the right end.
        hovers: what evenly wide columns say when pointed at.
        mark: height of a dashed line, 0 to 1.
    """
    width = max((len(line.values) for line in lines), default=1)
    drawn = "".join(_drawn(line, width) for line in lines)
    if mark is not None:
        y = round(HEIGHT * (1 - mark))
        drawn += f'<path class="vs-plot-mark" d="M0 {y}H{width}"/>'
    step = width / max(1, len(hovers))
    drawn += "".join(
        f'<rect class="vs-plot-hover" x="{index * step:.4g}" width="{step:.4g}" height="{HEIGHT}">'
        f"<title>{escape(text)}</title></rect>"
        for index, text in enumerate(hovers)
        if text
    )
    return (
        f'<figure class="vs-plot" role="img" aria-label="{escape(spoken)}">'
        f'<div class="vs-plot-y" aria-hidden="true"><span>{escape(top)}</span><span>0</span></div>'
        f'<svg viewBox="0 0 {width} {HEIGHT}" preserveAspectRatio="none">{drawn}</svg>'
        f'<div class="vs-plot-x" aria-hidden="true"><span>{escape(left)}</span>'
        f"<span>{escape(right)}</span></div></figure>"
    )


def hover_places(count: int) -> list[int]:
    """Of so many samples those that the columns stand for: the middle of each."""
    columns = min(HOVERS, count)
    return [int((index + 0.5) * count / columns) for index in range(columns)]


def _drawn(line: Line, width: int) -> str:
    path, parts = "", _parts(line.values)
    for start, levels in parts:
        points = _corners(levels)
        first = f"M{start} {levels[points[0]]}"
        path += first + "".join(f"L{start + point} {levels[point]}" for point in points[1:])
        if line.filled:
            path += f"V{HEIGHT}H{start}Z"
    if not path:
        return ""
    kind = f"{line.kind} vs-plot-{'area' if line.filled else 'line'}"
    return f'<path class="{kind}" d="{path}"/>'


def _parts(values: NDArray[np.float32]) -> list[tuple[int, list[int]]]:
    """Runs of samples without a gap: where each starts, and its levels from the top."""
    there = ~np.isnan(values)
    levels = np.round(HEIGHT * (1 - np.clip(np.nan_to_num(values), 0, 1))).astype(int).tolist()
    edges = np.flatnonzero(np.diff(np.concatenate(([False], there, [False]))))
    return [
        (int(start), levels[start:end]) for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def _corners(levels: list[int]) -> list[int]:
    """The samples that a line needs: those inside a level stretch are left out."""
    last = len(levels) - 1
    return [
        index
        for index, level in enumerate(levels)
        if index in (0, last) or levels[index - 1] != level or levels[index + 1] != level
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One point of a scatter."""

    x: float
    y: float
    kind: str
    """CSS class: its colour."""
    text: str
    """What it says when pointed at."""


def render_scatter(
    dots: Sequence[Dot],
    *,
    spoken: str,
    ticks: Sequence[tuple[float, str]],
    low: float,
    high: float,
    x_title: str,
    y_title: str,
) -> str:
    """Dots on two equal logarithmic axes, with the line where both are equal.

    Args:
        dots: their figures are between `low` and `high`.
        spoken: the plot in words.
        ticks: figures of both axes with their words.
        low: at the origin; above 0.
        high: at the other ends.
        x_title: what goes to the right.
        y_title: what goes up.
    """
    lowest, span = np.log(low), max(1e-9, float(np.log(high) - np.log(low)))

    def place(value: float) -> float:
        return float(100 * (np.log(value) - lowest) / span)

    grid = "".join(
        f'<path class="vs-plot-grid" d="M{place(value):.1f} 0V100M0 {100 - place(value):.1f}H100"/>'
        for value, _ in ticks
    )
    drawn = "".join(
        f'<path class="vs-dot {dot.kind}" d="M{place(dot.x):.2f} {100 - place(dot.y):.2f}h0">'
        f"<title>{escape(dot.text)}</title></path>"
        for dot in dots
    )
    across = "".join(
        f'<span style="left:{place(value):.1f}%">{escape(text)}</span>' for value, text in ticks
    )
    up = "".join(
        f'<span style="bottom:{place(value):.1f}%">{escape(text)}</span>' for value, text in ticks
    )
    return (
        f'<figure class="vs-scatter" role="img" aria-label="{escape(spoken)}">'
        f'<div class="vs-scatter-up" aria-hidden="true">{up}</div>'
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none">'
        f'{grid}<path class="vs-plot-equal" d="M0 100L100 0"/>{drawn}</svg>'
        f'<div class="vs-scatter-across" aria-hidden="true">{across}</div>'
        f'<figcaption class="vs-fine"><span>{escape(y_title)}</span>'
        f"<span>{escape(x_title)}</span></figcaption></figure>"
    )
