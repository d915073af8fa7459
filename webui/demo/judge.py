"""Reads a clip back: which colour, shape and motion it shows, by classical image analysis.

Knows nothing about the model and shares no code with the drawing: numpy only. Steps: fit the
smooth background, separate the one object, then compare its colour with the palette, its outline
with polygons of the shapes, and its path, area and turning with simple thresholds.

Shape legend: T frames, H height, W width, A angles of an outline.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from webui.demo.vocabulary import COLOURS, INVISIBLE, SHAPES, names

Array = NDArray[np.float64]

ANGLES = 180
"""Directions in which an outline is measured: 2 degrees apart."""

SYMMETRY = {"circle": 1, "square": 4, "triangle": 3, "star": 5, "heart": 1, "cross": 4}
"""A shape looks the same after turning by a full turn over this number."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the judge saw; None where it saw no object, or no motion because of one frame."""

    colour: str | None
    shape: str | None
    motion: str | None
    details: dict[str, float]


def judge(clip: NDArray[np.uint8]) -> Finding:
    """Read one clip.

    Args:
        clip: T H W 3, 0 to 255; one frame gives no motion.

    Returns:
        The names of `vocabulary` that fit best.
    """
    pixels = clip.astype(np.float64) / 255
    residual = pixels - _fit_background(pixels)
    strength = np.sqrt((residual**2).sum(-1))
    top = float(np.quantile(strength, 0.995))
    if top < 0.15:
        return Finding(None, None, None, {"contrast": top})
    colour = _name_colour(pixels[strength > 0.8 * top])
    cover = _keep_object(np.clip(strength / (0.85 * top), 0, 1))
    area = cover.sum((1, 2))  # T, square pixels
    seen = area > 12
    if not seen.any():
        return Finding(colour, None, None, {"contrast": top})
    centre = _centres(cover, area)
    outlines = np.stack([_outline(cover[t], centre[t]) for t in np.flatnonzero(seen)])
    shape = _name_shape(outlines)
    if len(clip) == 1:
        return Finding(colour, shape, None, {"contrast": top})
    motion, details = _name_motion(shape, centre[seen], area[seen], outlines, clip.shape[1:3])
    return Finding(colour, shape, motion, {"contrast": top, **details})


def _fit_background(pixels: Array) -> Array:
    """The smooth static background: per colour a plane over the picture, fitted robustly, H W 3."""
    height, width = pixels.shape[1:3]
    median = np.median(pixels, axis=0)  # H W 3; an object that moves on is gone here already
    rows, columns = np.mgrid[0:height, 0:width]
    rows, columns = rows / height - 0.5, columns / width - 0.5
    basis = np.stack([np.ones_like(rows), rows, columns, rows**2], -1).reshape(-1, 4)
    values = median.reshape(-1, 3)
    edge = max(2, round(0.06 * min(height, width)))
    border = np.ones((height, width), bool)
    border[edge:-edge, edge:-edge] = False
    chosen = border.reshape(-1)
    fit = np.zeros_like(values)
    for limit in (0.15, 0.10, 0.06, 0.06):
        weights, *_ = np.linalg.lstsq(basis[chosen], values[chosen], rcond=None)
        fit = basis @ weights
        chosen = np.abs(fit - values).max(-1) < limit
        if chosen.sum() < 0.1 * len(chosen):
            break
    return fit.reshape(height, width, 3)


def _name_colour(pixels: Array) -> str:
    """The palette colour nearest to the object's middle tone, mostly by hue.

    Args:
        pixels: N 3, the object's pixels, 0 to 1.
    """
    tone = np.median(pixels, axis=0)
    palette = np.array([word.rgb for word in COLOURS]) / 255

    def spread(rgb: Array) -> Array:  # colour differences count fully, brightness a third
        mean = rgb.mean(-1, keepdims=True)
        return np.concatenate([rgb - mean, mean / 3], -1)

    distance = ((spread(palette) - spread(tone[None])) ** 2).sum(-1)
    return COLOURS[int(distance.argmin())].name


def _keep_object(cover: Array) -> Array:
    """Drop the faint rest of the fit, and specks far from the object in each frame."""
    cover = np.where(cover > 0.35, cover, 0)
    rows, columns = np.mgrid[0 : cover.shape[1], 0 : cover.shape[2]]
    for frame in cover:
        solid = frame > 0.6
        if solid.sum() < 8:
            continue
        y, x = np.median(rows[solid]), np.median(columns[solid])
        distance = np.hypot(rows - y, columns - x)
        frame[distance > 2.2 * np.sqrt(solid.sum() / np.pi) + 3] = 0
    return cover


def _centres(cover: Array, area: Array) -> Array:
    """Centroids in pixels, T 2 (row, column)."""
    rows, columns = np.arange(cover.shape[1]), np.arange(cover.shape[2])
    safe = np.maximum(area, 1e-6)
    return np.stack([cover.sum(2) @ rows / safe, cover.sum(1) @ columns / safe], -1)


def _outline(cover: Array, centre: Array) -> Array:
    """Distance from the centre to the outline in each direction, by its mean; A values.

    Sums the cover along rays, read between the pixels, so that edges count to a part of a pixel.
    """
    height, width = cover.shape
    reach = 2.2 * np.sqrt(cover.sum() / np.pi) + 2
    steps = np.linspace(0, reach, max(24, int(2 * reach)))
    turn = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    y = centre[0] - np.outer(np.cos(turn), steps)
    x = centre[1] + np.outer(np.sin(turn), steps)
    inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    y0 = np.clip(np.floor(y).astype(int), 0, height - 2)
    x0 = np.clip(np.floor(x).astype(int), 0, width - 2)
    fy, fx = y - y0, x - x0
    value = (
        cover[y0, x0] * (1 - fy) * (1 - fx)
        + cover[y0, x0 + 1] * (1 - fy) * fx
        + cover[y0 + 1, x0] * fy * (1 - fx)
        + cover[y0 + 1, x0 + 1] * fy * fx
    )
    outline = (value * inside).sum(1)
    return outline / max(float(outline.mean()), 1e-6)


def _polygon(name: str) -> Array:
    """Corners of a shape around its centroid, N 2 (x right, y up); any scale."""
    if name == "circle":
        turn: Any = np.linspace(0, 2 * np.pi, 90, endpoint=False)
        return np.stack([np.sin(turn), np.cos(turn)], -1)
    if name in ("square", "triangle"):
        count = 4 if name == "square" else 3
        turn = np.arange(count) * (2 * np.pi / count) + (np.pi / 4 if name == "square" else 0)
        return np.stack([np.sin(turn), np.cos(turn)], -1)
    if name == "star":
        turn = np.arange(10) * (np.pi / 5)
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.43)
        return np.stack([radius * np.sin(turn), radius * np.cos(turn)], -1)
    if name == "cross":
        arm = 0.34
        quarter = np.array([(arm, 1.0), (arm, arm), (1.0, arm)])
        turned = [quarter]
        for _ in range(3):
            turned.append(np.stack([turned[-1][:, 1], -turned[-1][:, 0]], -1))
        return np.concatenate(turned)
    turn = np.linspace(-np.pi / 4, 3 * np.pi / 4, 30)  # heart: the right lobe, then mirrored
    lobe = np.stack([0.25 + 0.3536 * np.cos(turn), 0.75 + 0.3536 * np.sin(turn)], -1)
    mirrored = lobe[::-1] * np.array([-1, 1])
    corners = np.concatenate([[(0.0, 0.0)], lobe, mirrored])
    return corners - np.array([0.0, 0.60])


def _template(name: str) -> Array:
    """The outline of a drawn shape as `_outline` would measure it; A values."""
    corners = _polygon(name)
    turn = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    ray = np.stack([np.sin(turn), np.cos(turn)], -1)
    outline = np.zeros(ANGLES)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        side = end - start
        # centre + r * ray = start + s * side
        cross = ray[:, 0] * side[1] - ray[:, 1] * side[0]
        safe = np.where(np.abs(cross) < 1e-12, 1e-12, cross)
        r = (start[0] * side[1] - start[1] * side[0]) / safe
        s = (start[0] * ray[:, 1] - start[1] * ray[:, 0]) / safe
        hit = (np.abs(cross) > 1e-12) & (s >= -1e-9) & (s <= 1 + 1e-9) & (r > 0)
        outline = np.where(hit, np.maximum(outline, r), outline)
    return outline / outline.mean()


def _alignment(a: Array, b: Array) -> Array:
    """Mean squared difference of two outlines at every turn of the second, ... A."""
    product = np.fft.irfft(np.fft.rfft(a) * np.conj(np.fft.rfft(b)), n=ANGLES)
    return ((a**2).mean(-1, keepdims=True) + (b**2).mean(-1, keepdims=True)) - 2 * product / ANGLES


def _name_shape(outlines: Array) -> str:
    """The shape whose outline, freely turned, fits best over all frames.

    Args:
        outlines: T A.
    """
    fits = {
        name: float(np.median(_alignment(outlines, _template(name)).min(-1)))
        for name in names(SHAPES)
    }
    return min(fits, key=lambda name: fits[name])


def _turning(shape: str, outlines: Array) -> float:
    """How far the object turned in all, in degrees, followed from frame to frame."""
    if (shape, "rotate") in INVISIBLE:
        return 0.0
    reach = min(40, ANGLES // (2 * SYMMETRY[shape]) - 1)
    shifts = np.arange(-reach, reach + 1)
    total = 0.0
    for before, after in pairwise(outlines):
        misfit = _alignment(after, before)[shifts % ANGLES]
        best = int(misfit.argmin())
        step = float(shifts[best])
        if 0 < best < len(shifts) - 1:  # a parabola through the best three gives parts of a step
            left, middle, right = misfit[best - 1 : best + 2]
            bend = left - 2 * middle + right
            step += 0.5 * (left - right) / bend if bend > 1e-12 else 0.0
        total += step
    return total * 360 / ANGLES


def _name_motion(
    shape: str, centre: Array, area: Array, outlines: Array, picture: tuple[int, ...]
) -> tuple[str, dict[str, float]]:
    """The motion, from the path of the centre, the areas and the turning.

    Args:
        shape: the shape's name.
        centre: T 2 in pixels.
        area: T in square pixels.
        outlines: T A.
        picture: height and width in pixels.
    """
    place = centre / np.array(picture)
    ends = max(1, len(place) // 8)
    dy, dx = place[-ends:].mean(0) - place[:ends].mean(0)
    path_y = float(np.abs(np.diff(place[:, 0])).sum())
    span_y = float(np.ptp(place[:, 0]))
    growth = float(np.log(area[-ends:].mean() / area[:ends].mean()) / 2)  # of the radius
    turn = _turning(shape, outlines)
    details = {"dx": dx, "dy": dy, "path_y": path_y, "growth": growth, "turn": turn}
    if span_y > 0.15 and path_y > 1.6 * abs(dy) and path_y > 0.3:
        return "bounce", details
    if abs(growth) > 0.3 and max(abs(dx), abs(dy)) < 0.25:
        return ("grow" if growth > 0 else "shrink"), details
    if max(abs(dx), abs(dy)) > 0.15:
        if abs(dx) > abs(dy):
            return ("right" if dx > 0 else "left"), details
        return ("down" if dy > 0 else "up"), details
    if abs(turn) > 45:
        return "rotate", details
    return "still", details
