"""Notes who does what while the pieces of a job are worked on (`webui.core.work`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from webui.core.text import Text
from webui.core.work import WorkerRecord, WorkRecord

Clock = Callable[[], float]


@dataclass(slots=True)
class _Tally:
    """One worker's figures of the turns that are over, and how the running one stands."""

    device: str = ""
    pieces: int = 0
    units: int = 0
    work_s: float = 0.0
    load_s: float = 0.0
    lost: int = 0
    lost_s: float = 0.0
    lost_units: int = 0
    reading_s: float = 0.0
    writing_s: float = 0.0
    began: float | None = None
    """When the turn that runs began; None between turns."""
    loaded: float | None = None
    """When its first phase after loading began."""
    made: int = 0
    """Units of it so far."""
    finished: int = 0
    """Pieces of it so far, where a worker tells of each."""

    def record(self, now: float) -> WorkerRecord:
        """As it stands; what a running turn has made counts, though it may yet be lost."""
        names = ("device", "lost", "lost_s", "lost_units", "reading_s", "writing_s")
        loading = working = 0.0
        if self.began is not None:
            loaded = now if self.loaded is None else self.loaded
            loading, working = loaded - self.began, now - loaded
        return WorkerRecord(
            **{name: getattr(self, name) for name in names},
            pieces=self.pieces + self.finished,
            units=self.units + self.made,
            work_s=self.work_s + working,
            load_s=self.load_s + loading,
        )


class WorkLog:
    """The record of one job. Each worker is known by its number; safe from several threads.

    Args:
        unit: what pieces are counted in, `frames` or `pages`.
        workers: how many there are.
        clock: tells the seconds.
        notes: what the user should know of what is worked on.
        whole: units of the whole job.
    """

    def __init__(
        self,
        unit: str,
        workers: int,
        clock: Clock = time.monotonic,
        notes: Sequence[Text] = (),
        whole: int = 0,
    ) -> None:
        self._unit, self._clock = unit, clock
        self._notes, self._whole = tuple(notes), whole
        self._tallies = [_Tally() for _ in range(workers)]
        self._lock = threading.Lock()
        self._began = clock()
        self._elapsed_s: float | None = None
        self._joining_s = 0.0

    def turn(self, worker: int) -> None:
        """A worker is asked for its next pieces; it may have to be started first."""
        with self._lock:
            tally = self._tallies[worker]
            tally.began, tally.loaded = self._clock(), None

    def hear(self, worker: int, event: Mapping[str, Any], units: int) -> None:
        """A worker tells something; `units` more are made."""
        with self._lock:
            tally = self._tallies[worker]
            starts = event["event"] == "phase" and event["name"] != "loading"
            if tally.loaded is None and (starts or units):
                tally.loaded = self._clock()
            tally.made += units
            tally.finished += event["event"] == "piece"

    def over(
        self, worker: int, pieces: int, units: int, end: Mapping[str, Any] | None, lost: bool
    ) -> None:
        """A worker's turn is over.

        Args:
            worker: whose.
            pieces: that are kept of it.
            units: the same, in frames or pages.
            end: its last event; None where there was none.
            lost: its process ended during the turn.
        """
        with self._lock:
            tally, now = self._tallies[worker], self._clock()
            began = now if tally.began is None else tally.began
            whole = now - began
            measured = (end or {}).get("measurement")
            if measured:
                working = min(whole, float(measured["seconds"]))
            else:
                working = 0.0 if tally.loaded is None else now - tally.loaded
            if end is not None:
                tally.device = str(end.get("device") or tally.device)
                waits = end.get("waits") or {}
                tally.reading_s += float(waits.get("reading", 0.0))
                tally.writing_s += float(waits.get("writing", 0.0))
            loading = whole - working
            if lost:
                in_vain = max(0, tally.made - units)
                lost_s = working * (in_vain / tally.made if tally.made else not pieces)
                tally.lost += 1
                tally.lost_units += in_vain
                tally.lost_s += lost_s
                working -= lost_s
            tally.work_s += working
            tally.load_s += loading
            tally.pieces += pieces
            tally.units += units
            tally.began = tally.loaded = None
            tally.made = tally.finished = 0

    def free(self) -> None:
        """The last worker is free: from here on the pieces are put together."""
        with self._lock:
            self._elapsed_s = self._clock() - self._began

    def joined(self) -> None:
        """The pieces are put together."""
        with self._lock:
            self._joining_s = self._clock() - self._began - (self._elapsed_s or 0.0)

    def record(self) -> WorkRecord:
        """As things stand."""
        with self._lock:
            now = self._clock()
            elapsed = now - self._began if self._elapsed_s is None else self._elapsed_s
            return WorkRecord(
                unit=self._unit,
                elapsed_s=elapsed,
                joining_s=self._joining_s,
                workers=tuple(tally.record(now) for tally in self._tallies),
                notes=self._notes,
                whole=self._whole,
            )
