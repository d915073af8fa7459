"""The frontier of time against memory: the settings that nothing else beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webui.core.model import ModelCard
from webui.core.plan import Estimate
from webui.core.request import Request
from webui.core.settings import Settings
from webui.estimator.estimate import estimate
from webui.estimator.target import Target
from webui.optimizer.candidates import candidates, quality_cost

MOST_POINTS = 12
"""What a page can draw and a person can compare."""
_SAME = 1e-9
"""Relative difference of seconds that is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One choice of settings that no other one beats in memory, time and quality together."""

    peak_device_bytes: int
    seconds: float
    quality_cost: float
    """How far the picture may differ from the authors' settings; 0 for lossless ones."""
    fits: bool
    """Within the target's limit; those beyond it say what more memory would buy."""
    settings: Settings
    chosen: bool = False
    """It is the plan's."""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def find_frontier(
    model: ModelCard,
    request: Request,
    target: Target,
    chosen: Estimate,
    most: int = MOST_POINTS,
) -> tuple[Point, ...]:
    """The Pareto set of peak device bytes, seconds and quality, the least memory first.

    Args:
        model: the request's model.
        request: its fixed settings stay fixed.
        target: the device.
        chosen: the plan's estimate, which is marked where it is among the points.
        most: how many points at most; the ends and the chosen one stay.
    """
    found = [_point(chosen, chosen=True)]
    for settings in candidates(model, request, target):
        if settings != chosen.settings:
            found.append(_point(estimate(model, request, settings, target)))
    best: list[Point] = []
    for point in found:
        if not any(_beats(other, point) for other in found) and not any(
            _same(other, point) for other in best
        ):
            best.append(point)
    best.sort(key=lambda point: (point.peak_device_bytes, point.seconds))
    return _thinned(best, max(most, 3))


def _point(found: Estimate, chosen: bool = False) -> Point:
    return Point(
        peak_device_bytes=found.peak_device_bytes,
        seconds=found.seconds,
        quality_cost=quality_cost(found.settings),
        fits=found.fits,
        settings=found.settings,
        chosen=chosen,
    )


def _beats(one: Point, other: Point) -> bool:
    """At least as good in everything, and better in something."""
    if (
        one.peak_device_bytes > other.peak_device_bytes
        or one.seconds > other.seconds * (1 + _SAME)
        or one.quality_cost > other.quality_cost
    ):
        return False
    return (
        one.peak_device_bytes < other.peak_device_bytes
        or one.seconds < other.seconds * (1 - _SAME)
        or one.quality_cost < other.quality_cost
    )


def _same(one: Point, other: Point) -> bool:
    """Equal in everything: of those the first stays, which is the chosen one if it is there."""
    return (
        one.peak_device_bytes == other.peak_device_bytes
        and abs(one.seconds - other.seconds) <= _SAME * max(one.seconds, other.seconds)
        and one.quality_cost == other.quality_cost
    )


def _thinned(points: list[Point], most: int) -> tuple[Point, ...]:
    """Evenly fewer points; the first, the last and the chosen one stay."""
    if len(points) <= most:
        return tuple(points)
    kept = {round(index * (len(points) - 1) / (most - 2)) for index in range(most - 1)}
    kept |= {index for index, point in enumerate(points) if point.chosen}
    return tuple(points[index] for index in sorted(kept))
