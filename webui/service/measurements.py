"""Measurements of several turns and workers as that of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from webui.core.receipt import Measurement, PhaseMeasurement


def one_after_the_other(parts: Sequence[Measurement]) -> Measurement:
    """A worker's turns as one: the highest peaks, all seconds."""
    phases: dict[str, PhaseMeasurement] = {}
    for phase in (phase for part in parts for phase in part.phases):
        before = phases.get(phase.name)
        phases[phase.name] = phase if before is None else _both(before, phase)
    return replace(
        _highest(parts), phases=tuple(phases.values()), seconds=sum(part.seconds for part in parts)
    )


def side_by_side(parts: Sequence[Measurement]) -> Measurement:
    """Workers as one: the highest peaks of any, and the seconds of the slowest."""
    slowest = max(parts, key=lambda part: part.seconds)
    taken = {phase.name: phase.seconds for phase in slowest.phases}
    phases = {
        phase.name: replace(phase, seconds=taken.get(phase.name, 0.0))
        for phase in one_after_the_other(parts).phases
    }
    return replace(_highest(parts), phases=tuple(phases.values()), seconds=slowest.seconds)


def _highest(parts: Sequence[Measurement]) -> Measurement:
    """The last, with the highest peaks of all."""
    return replace(
        parts[-1],
        peak_allocated_bytes=max(part.peak_allocated_bytes for part in parts),
        peak_reserved_bytes=max(part.peak_reserved_bytes for part in parts),
        peak_device_bytes=max(part.peak_device_bytes for part in parts),
        host_bytes=max(part.host_bytes for part in parts),
        load_seconds=max(part.load_seconds for part in parts),
        others_bytes=max(part.others_bytes for part in parts),
    )


def _both(one: PhaseMeasurement, other: PhaseMeasurement) -> PhaseMeasurement:
    return replace(
        one,
        resident_bytes=max(one.resident_bytes, other.resident_bytes),
        allocated_bytes=max(one.allocated_bytes, other.allocated_bytes),
        reserved_bytes=max(one.reserved_bytes, other.reserved_bytes),
        seconds=one.seconds + other.seconds,
    )
