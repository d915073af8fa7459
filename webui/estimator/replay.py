"""Replays events through the simulated allocator: what is allocated and reserved, and what fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from webui.estimator.allocator import (
    CachingAllocator,
    SimulatedOutOfMemory,
)
from webui.estimator.blocks import SMALL_SEGMENT, SMALL_SIZE
from webui.estimator.tape import RELEASE, SCRATCH


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay came to."""

    allocated_bytes: int
    reserved_bytes: int
    resident_bytes: int
    fits: bool
    retries: int
    """How often the allocator had to release its cache."""
    met_limit: bool = False
    """The limit was met by now, in this span or before: without it all would be otherwise."""
    asked_bytes: int = 0
    """A limit of at least this would not have been met by now."""


@dataclass(frozen=True, slots=True)
class Span:
    """Events from `start` to before `end`: one phase of those that follow each other."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """Storages that are there first (bytes of each), and events: one entry each."""

    resident: np.ndarray
    kinds: np.ndarray
    keys: np.ndarray
    deltas: np.ndarray

    def live(self, with_scratch: bool = True) -> np.ndarray:
        """Bytes alive at each event beside the first ones; scratch counts at its own event."""
        scratch = self.kinds == SCRATCH
        live: np.ndarray = np.cumsum(np.where(scratch, 0, self.deltas))
        return live + np.where(scratch, self.deltas, 0) if with_scratch else live

    def resident_blocks(self, joined: bool) -> Iterator[tuple[int, int]]:
        """Keys and bytes of the large storages that are there first, in order.

        Args:
            joined: neighbours that are never freed are one block, as an expandable segment lays
                them beside each other.
        """
        freed = set(self.keys[self.kinds == RELEASE].tolist()) if joined else set()
        stays: tuple[int, int] | None = None
        for key in np.flatnonzero(self.resident > SMALL_SIZE).tolist():
            size = int(self.resident[key])
            if joined and key not in freed:
                stays = (key, size) if stays is None else (stays[0], stays[1] + size)
                continue
            if stays is not None:
                yield stays
                stays = None
            yield key, size
        if stays is not None:
            yield stays

    def changed(self, start: int, peak: int, with_scratch: bool = True) -> list[int]:
        """Events that made what is alive at `peak` and was not at `start`, and those that freed
        what was."""
        born: dict[int, int] = {}
        freed = []
        for index in range(start, peak + 1):
            kind, key = int(self.kinds[index]), int(self.keys[index])
            if kind == RELEASE:
                if born.pop(key, None) is None:
                    freed.append(index)
            elif kind != SCRATCH:
                born[key] = index
        at_peak = [peak] if self.kinds[peak] == SCRATCH and with_scratch else []
        return [*born.values(), *freed, *at_peak]


def replay_spans(
    timeline: Timeline, spans: Sequence[Span], expandable: bool, limit_bytes: int | None
) -> list[Replay]:
    """Runs events through the simulated allocator once; what each span came to.

    A span starts with all that the events before it left, the allocator's cache included. Only
    blocks of the large pool are simulated one by one. The small pool, half of all events and a
    hundredth of the bytes, packs densely: it is taken as its most live bytes, rounded up to its
    segments.

    Args:
        timeline: the events.
        spans: in order, each after the one before.
        expandable: the allocator's kind of segments.
        limit_bytes: what it may reserve; None for no limit.
    """
    small = np.abs(timeline.deltas) <= SMALL_SIZE
    resident_small = timeline.resident <= SMALL_SIZE
    first = int(timeline.resident.sum())
    first_small = int(timeline.resident[resident_small].sum())
    kept = timeline.live(with_scratch=False)
    beside = first_small + np.cumsum(
        np.where(small & (timeline.kinds != SCRATCH), timeline.deltas, 0)
    )
    most_live = first + timeline.live()
    large = np.flatnonzero(~small)
    limit = None
    if limit_bytes is not None:
        limit = limit_bytes - _whole_segments(max(int(beside.max(initial=0)), first_small))
    run = _Run(CachingAllocator(expandable, limit), timeline, beside)
    run.hold()
    place, found = 0, []
    for span in spans:
        begin, end = np.searchsorted(large, [span.start, span.end]).tolist()
        run.play(large[place:begin])
        retries = run.begin_span()
        run.play(large[begin:end])
        place = end
        resident = first + (int(kept[span.start - 1]) if span.start else 0)
        live = int(most_live[span.start : span.end].max(initial=resident))
        most_small = max(int(beside[: span.end].max(initial=0)), first_small)
        found.append(
            Replay(
                allocated_bytes=max(run.allocator.peak_alive_bytes, live),
                reserved_bytes=run.allocator.peak_reserved_bytes + _whole_segments(most_small),
                resident_bytes=resident,
                fits=run.fits,
                retries=run.allocator.retries - retries,
                met_limit=run.allocator.retries > 0 or not run.fits,
                asked_bytes=run.allocator.most_asked_bytes + _whole_segments(most_small),
            )
        )
    return found


def _whole_segments(size_bytes: int) -> int:
    return -(-size_bytes // SMALL_SEGMENT) * SMALL_SEGMENT


class _Run:
    """An allocator on its way through the events; it stops where the limit is met for good."""

    def __init__(self, allocator: CachingAllocator, timeline: Timeline, beside: np.ndarray) -> None:
        self.allocator = allocator
        self.fits = True
        self._timeline = timeline
        self._beside = beside

    def hold(self) -> None:
        """Takes the large storages that are there first."""
        try:
            for key, size in self._timeline.resident_blocks(self.allocator.expandable):
                self.allocator.allocate(key, size)
        except SimulatedOutOfMemory:
            self.fits = False

    def begin_span(self) -> int:
        """Peaks count from here; how often the cache was released before."""
        self.allocator.reset_peaks()
        return self.allocator.retries

    def play(self, events: np.ndarray) -> None:
        """Plays the events of these numbers."""
        if not self.fits:
            return
        timeline = self._timeline
        try:
            self.allocator.play(
                timeline.kinds[events].tolist(),
                timeline.keys[events].tolist(),
                timeline.deltas[events].tolist(),
                self._beside[events].tolist(),
            )
        except SimulatedOutOfMemory:
            self.fits = False
