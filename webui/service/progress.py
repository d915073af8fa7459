"""Follows a job by its worker's events: phase, step, share done, time left."""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from webui.core.text import EMPTY, Text
from webui.core.work import WorkRecord
from webui.service.trace import Trace

SAVE_S = 0.5
"""Writing the clip, about."""
EVEN_GAPS = 2
"""The newest pieces tell the pace when they span so many of the longest gaps."""


class Progress:
    """How far the running job is, in predicted time.

    Args:
        phase_seconds: predicted seconds of each phase, in order, loading first.
    """

    def __init__(self, phase_seconds: Mapping[str, float]) -> None:
        self._seconds = {**phase_seconds, "save": SAVE_S}
        self._order = list(self._seconds)
        self.phase = "starting"
        self.step = 0
        self.steps = 0
        self.preview: bytes | None = None
        self.trace = Trace()
        self.attempt = self.attempts = 1
        """Which run of the job it is, and how many there may be after running out of memory."""
        self.changed = self.told = EMPTY
        """What this run does otherwise than the one before."""
        self._phase_began = time.monotonic()
        self._shown = 0.0
        self.pieces: tuple[int, int] | None = None
        """Of pages or frames: how many are made, and of how many."""
        self.work: WorkRecord | None = None
        """Who did what so far, of work in pieces."""
        self._paces: deque[tuple[float, int]] = deque(maxlen=20)
        """When the newest pieces came, and how many were done then."""
        self._work_began: float | None = None
        """The first phase after loading."""
        self._done_before = 0
        """Pieces of an earlier run, which this one goes on with."""
        self._longest_gap = 0.0
        """Without a piece."""

    def hear(self, event: Mapping[str, Any]) -> None:
        """Takes in one event of the worker."""
        self.trace.hear(event)
        kind = event["event"]
        if kind == "phase":
            self.phase = str(event["name"])
            self.step, self.steps = self.pieces or (0, 0)
            self._phase_began = time.monotonic()
            if self._work_began is None and self.phase != "loading":
                self._work_began = self._phase_began
        elif kind == "step":
            if event["phase"] != self.phase or self.pieces is not None:
                return
            self.step, self.steps = int(event["step"]), int(event["steps"])
        elif "of" in event:  # work in pieces
            if self.pieces is None:
                # A guess by time gives way to what is counted; on a slow machine it was far ahead.
                self._shown = 0.0
                self._done_before = int(event["done"]) - int(event.get("count", 1))
            now = time.monotonic()
            if int(event["done"]) < self.step:  # lost with a worker: its pace counts no more
                self._paces.clear()
                self._longest_gap, self._work_began = 0.0, now
                self._done_before = int(event["done"])
            self.pieces = int(event["done"]), int(event["of"])
            self.step, self.steps = self.pieces
            last = self._paces[-1][0] if self._paces else self._work_began or now
            self._longest_gap = max(self._longest_gap, now - last)
            self._paces.append((now, self.step))
        elif kind == "told":
            self.told = Text.from_json(event["text"])
        elif kind == "work":
            self.work = WorkRecord.from_json(event["work"])
        elif kind == "preview":
            self.preview = base64.b64decode(event["jpeg"])

    def shown(self) -> dict[str, Any]:
        """The fields of a job's view that it decides."""
        names = ("phase", "step", "steps", "fraction", "pieces", "seconds_left", "preview",
                 "attempt", "attempts", "changed", "told", "rate", "work")  # fmt: skip
        return {name: getattr(self, name) for name in names}

    @property
    def fraction(self) -> float:
        """Done of the whole job, by predicted time, or by pieces; below 1 until it is over.

        It goes back only once, when the first piece is counted.
        """
        if self.pieces is not None:
            made, pieces = self.pieces
            self._shown = max(self._shown, min(0.99, made / max(1, pieces)))
            return self._shown
        total = sum(self._seconds.values()) or 1.0
        done = sum(self._seconds[name] for name in self._before())
        done += self._seconds.get(self.phase, 0.0) * self._share()
        self._shown = max(self._shown, min(0.99, done / total))
        return self._shown

    @property
    def seconds_left(self) -> float:
        """Prediction for what is to come; the current phase by its own pace."""
        if self.pieces is not None and len(self._paces) > 1:
            done, pieces = self.pieces
            pace = 1 / self.rate if self.rate else 0.0
            return max(0.0, (pieces - done) * pace - (time.monotonic() - self._paces[-1][0]))
        expected = self._seconds.get(self.phase, 0.0)
        elapsed = time.monotonic() - self._phase_began
        share = self._share()
        if self.step and share > 0:
            here = elapsed / share * (1 - share)
        else:
            here = max(0.0, expected - elapsed)
        position = self._order.index(self.phase) + 1 if self.phase in self._order else 0
        return here + sum(self._seconds[name] for name in self._order[position:])

    @property
    def rate(self) -> float | None:
        """Pieces a second; None where the work has none, or only began.

        Of the newest where they come evenly. Where many come at once and then none for long (a
        segment in tiles), of all since the work began.
        """
        if len(self._paces) < 2:
            return None
        (began, before), (ended, now) = self._paces[0], self._paces[-1]
        if self._work_began is not None and ended - began < EVEN_GAPS * self._longest_gap:
            began, before = self._work_began, self._done_before
        return (now - before) / (ended - began) if ended > began and now > before else None

    def _before(self) -> list[str]:
        return self._order[: self._order.index(self.phase)] if self.phase in self._order else []

    def _share(self) -> float:
        """Done of the current phase: by steps, else by time."""
        if self.steps:
            return min(1.0, self.step / self.steps)
        expected = self._seconds.get(self.phase, 0.0)
        if expected <= 0:
            return 0.0
        return min(0.95, (time.monotonic() - self._phase_began) / expected)
