"""Phases that continue each other: each starts with what those before it left, cache included.

Steps of training are such phases. Nothing is moved between them and no cache is emptied, so what
one reserves stays reserved for the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

import numpy as np

from webui.estimator.events import Live, Part, PhaseEvents
from webui.estimator.replay import Replay, replay_spans
from webui.estimator.tape import RELEASE, SCRATCH
from webui.estimator.timeline import Span, Timeline


class ContinuedEvents(PhaseEvents):
    """Events of all phases in a row; `begin` says where each starts.

    A phase that begins again counts from there: its last time is the one that is like all later
    ones.
    """

    def __init__(self, resident: Iterable[Part | np.ndarray]) -> None:
        super().__init__(resident)
        self._begun: list[tuple[str, int]] = []
        self._replays: dict[tuple[bool, int | None], dict[str, Replay]] = {}

    def begin(self, name: str) -> None:
        """From here on events are of this phase."""
        self._begun.append((name, self.events))

    @cached_property
    def spans(self) -> dict[str, Span]:
        """The last time of each phase, in order."""
        ends = [start for _, start in self._begun[1:]] + [self.events]
        last = {
            name: Span(start, end) for (name, start), end in zip(self._begun, ends, strict=True)
        }
        return dict(sorted(last.items(), key=lambda item: item[1].start))

    @property
    def all_events(self) -> Timeline:
        """The timeline, once all events are there."""
        return self.timeline()

    def phase(self, name: str) -> ContinuedPhase:
        """One phase, once all events are there."""
        return ContinuedPhase(self, name)

    def replays(self, expandable: bool, limit_bytes: int | None) -> dict[str, Replay]:
        """What each phase comes to: one replay answers for all."""
        key = (expandable, limit_bytes)
        if key not in self._replays:
            found = replay_spans(
                self.all_events, list(self.spans.values()), expandable, limit_bytes
            )
            self._replays[key] = dict(zip(self.spans, found, strict=True))
        return self._replays[key]


class ContinuedPhase(PhaseEvents):
    """A phase with the events before it as its history.

    Args:
        events: of all phases.
        name: of this one.
    """

    def __init__(self, events: ContinuedEvents, name: str) -> None:
        super().__init__(events.parts)
        self._all = events
        self._name = name
        self._span = events.spans[name]

    @cached_property
    def resident_bytes(self) -> int:
        start = self._span.start
        kept = self._all.all_events.live(with_scratch=False)
        return self._first_bytes + (int(kept[start - 1]) if start else 0)

    def peak_live_bytes(self, with_scratch: bool = True) -> int:
        return max(self.resident_bytes, self._first_bytes + self._peak(with_scratch)[1])

    def live_at_peak(self, with_scratch: bool = True) -> list[Live]:
        peak, live = self._peak(with_scratch)
        if self._first_bytes + live <= self.resident_bytes:
            return []
        indices = self._all.all_events.changed(self._span.start, peak, with_scratch)
        return self._all.described(indices)

    def replay(self, expandable: bool, limit_bytes: int | None) -> Replay:
        return self._all.replays(expandable, limit_bytes)[self._name]

    @property
    def _first_bytes(self) -> int:
        return int(self._all.all_events.resident.sum())

    def _peak(self, with_scratch: bool) -> tuple[int, int]:
        """The event with the most alive in the phase, and how much that is beside the first."""
        live = self._all.all_events.live(with_scratch)[self._span.start : self._span.end]
        if not len(live):
            return self._span.start, 0
        place = int(live.argmax())
        return self._span.start + place, int(live[place])

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What is alive when the phase starts: the first parts, and what came by its name."""
        timeline, start = self._all.all_events, self._span.start
        gone = timeline.keys[:start][timeline.kinds[:start] == RELEASE]
        parts, offset = [], 0
        for part in self._all.parts:
            keys = np.arange(offset, offset + len(part.sizes))
            parts.append(Part(part.name, part.sizes[~np.isin(keys, gone)]))
            offset += len(part.sizes)
        born = ~np.isin(timeline.kinds[:start], (RELEASE, SCRATCH))
        made = np.flatnonzero(born & ~np.isin(timeline.keys[:start], gone))
        named: dict[str, list[int]] = defaultdict(list)
        for item in self._all.described(made.tolist()):
            named[item.source].append(item.size_bytes)
        return (*parts, *(Part(what, np.array(sizes)) for what, sizes in named.items()))
