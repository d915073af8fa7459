"""Replays events through the simulated allocator: what is allocated and reserved, and what fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from webui.estimator.blocks import SMALL_SEGMENT, SMALL_SIZE
from webui.estimator.simulator import LargeBlocks, simulator
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


@dataclass(frozen=True, eq=False)
class Timeline:
    """Storages that are there first (bytes of each), and events: one entry each."""

    resident: np.ndarray
    kinds: np.ndarray
    keys: np.ndarray
    deltas: np.ndarray

    def live(self, with_scratch: bool = True) -> np.ndarray:
        """Bytes alive at each event beside the first ones; scratch counts at its own event."""
        return self._with_scratch if with_scratch else self._kept

    @cached_property
    def _scratch(self) -> np.ndarray:
        return np.flatnonzero(self.kinds == SCRATCH)

    @cached_property
    def _kept(self) -> np.ndarray:
        kept = self.deltas.copy()
        kept[self._scratch] = 0
        return kept.cumsum(out=kept)

    @cached_property
    def _with_scratch(self) -> np.ndarray:
        if not len(self._scratch):
            return self._kept
        live = self._kept.copy()
        live[self._scratch] += self.deltas[self._scratch]
        return live

    @cached_property
    def _blocks(self) -> dict[bool, LargeBlocks]:
        return {}

    def large_blocks(self, joined: bool) -> LargeBlocks:
        """What of it goes to the large pool.

        Args:
            joined: neighbours that are there first and are never freed are one block, as an
                expandable segment lays them beside each other.
        """
        if joined in self._blocks:
            return self._blocks[joined]
        events = self.large
        keys = np.flatnonzero(self.resident > SMALL_SIZE)
        sizes = self.resident[keys]
        if joined and len(keys):
            released = self.keys[self.kinds == RELEASE]
            is_freed = np.zeros(len(self.resident), dtype=bool)
            is_freed[released[released < len(self.resident)]] = True
            freed = is_freed[keys]
            starts = freed.copy()
            starts[0] = True
            starts[1:] |= freed[:-1]
            first = np.flatnonzero(starts)
            keys, sizes = keys[first], np.add.reduceat(sizes, first)
        found = self._blocks[joined] = LargeBlocks(
            resident=sizes.astype(np.int64, copy=False),
            resident_keys=keys.astype(np.int64, copy=False),
            kinds=self.kinds[events].astype(np.int64, copy=False),
            keys=self.keys[events].astype(np.int64, copy=False),
            sizes=self.deltas[events].astype(np.int64, copy=False),
            beside=self.beside[events].astype(np.int64, copy=False),
        )
        return found

    @cached_property
    def large(self) -> np.ndarray:
        """Events of the large pool."""
        return np.flatnonzero(np.abs(self.deltas) > SMALL_SIZE)

    @cached_property
    def beside(self) -> np.ndarray:
        """Bytes alive in the small pool at each event; scratch does not count."""
        first = int(self.resident[self.resident <= SMALL_SIZE].sum())
        beside = self.deltas.copy()
        beside[self.large] = 0
        beside[self._scratch] = 0
        beside.cumsum(out=beside)
        beside += first
        return beside

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
    first = int(timeline.resident.sum())
    first_small = int(timeline.resident[timeline.resident <= SMALL_SIZE].sum())
    kept = timeline.live(with_scratch=False)
    most_live = first + timeline.live()
    beside = timeline.beside
    limit = None
    if limit_bytes is not None:
        limit = limit_bytes - _whole_segments(max(int(beside.max(initial=0)), first_small))
    bounds = np.searchsorted(timeline.large, [[span.start, span.end] for span in spans])
    played = simulator().play(timeline.large_blocks(expandable), bounds, expandable, limit)
    found = []
    for span, figures in zip(spans, played.tolist(), strict=True):
        alive, reserved, asked, retries, retried, fits = figures
        resident = first + (int(kept[span.start - 1]) if span.start else 0)
        live = int(most_live[span.start : span.end].max(initial=resident))
        most_small = max(int(beside[: span.end].max(initial=0)), first_small)
        found.append(
            Replay(
                allocated_bytes=max(alive, live),
                reserved_bytes=reserved + _whole_segments(most_small),
                resident_bytes=resident,
                fits=bool(fits),
                retries=retries,
                met_limit=retried > 0 or not fits,
                asked_bytes=asked + _whole_segments(most_small),
            )
        )
    return found


def _whole_segments(size_bytes: int) -> int:
    return -(-size_bytes // SMALL_SEGMENT) * SMALL_SEGMENT
