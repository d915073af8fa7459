"""What a running job showed of its memory and time so far, from its worker's events."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_SAMPLES = 512
"""Then two become one: a long job is told as coarsely as a plot can show it."""


@dataclass(slots=True)
class PhaseSoFar:
    """One phase that has begun; it may go on, or come again."""

    seconds: float = 0.0
    allocated_bytes: int = 0
    """Its peak; 0 where nothing was told."""
    reserved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemorySample:
    """The allocator at one moment, or the highest of several."""

    at_s: float
    """Since the job began."""
    allocated_bytes: int
    reserved_bytes: int


class Trace:
    """Phases with their peaks, and the allocator over time. One thread writes, any may read."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._phase = ""
        self._phase_began = self._began
        self._done: dict[str, PhaseSoFar] = {}
        self._samples: list[MemorySample] = []

    def hear(self, event: Mapping[str, Any]) -> None:
        """Takes in one event of the worker; its `memory` is that of the phase that runs."""
        memory = event.get("memory")
        if memory:
            self._remember(memory)
        if event["event"] == "phase":
            self._end()
            self._phase, self._phase_began = str(event["name"]), time.monotonic()
            self._done.setdefault(self._phase, PhaseSoFar())

    @property
    def phase(self) -> str:
        """The one that runs; empty before the first."""
        return self._phase

    def phases(self) -> dict[str, PhaseSoFar]:
        """Those that have begun, in order; the running one with its time until now."""
        found = dict(self._done)
        if self._phase in found:
            done = found[self._phase]
            seconds = done.seconds + time.monotonic() - self._phase_began
            found[self._phase] = PhaseSoFar(seconds, done.allocated_bytes, done.reserved_bytes)
        return found

    def samples(self) -> tuple[MemorySample, ...]:
        """The allocator over time, the oldest first."""
        return tuple(self._samples)

    def _end(self) -> None:
        if self._phase:
            self._done[self._phase].seconds += time.monotonic() - self._phase_began

    def _remember(self, memory: Mapping[str, int]) -> None:
        done = self._done.get(self._phase)
        if done is not None:
            done.allocated_bytes = max(done.allocated_bytes, memory["peak_allocated_bytes"])
            done.reserved_bytes = max(done.reserved_bytes, memory["peak_reserved_bytes"])
        at_s = time.monotonic() - self._began
        sample = MemorySample(at_s, memory["allocated_bytes"], memory["reserved_bytes"])
        samples = [*self._samples, sample]
        if len(samples) > MOST_SAMPLES:
            pairs = zip(samples[::2], samples[1::2], strict=False)
            samples = [_highest(*pair) for pair in pairs] + samples[len(samples) // 2 * 2 :]
        self._samples = samples


def _highest(one: MemorySample, other: MemorySample) -> MemorySample:
    return MemorySample(
        other.at_s,
        max(one.allocated_bytes, other.allocated_bytes),
        max(one.reserved_bytes, other.reserved_bytes),
    )
