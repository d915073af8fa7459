"""What workers tell in their turns: passed on with how much of the whole is done, and by whom."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from webui.core.text import Text
from webui.service.pieces import OnEvent, Pieces
from webui.service.work_log import WorkLog

_AGAIN = {
    "frames": Text(
        "A worker process was lost. Another one starts; frames to be made again: {units}.",
        "工作进程意外结束，正在启动新的进程；需要重做 {units} 帧。",
    ),
    "pages": Text(
        "A worker process was lost. Another one starts; pages to be read again: {units}.",
        "工作进程意外结束，正在启动新的进程；需要重读 {units} 页。",
    ),
}


class Turn:
    """Hears what a worker tells during one turn.

    Args:
        told: passes it on.
        numbers: of the turn's pieces; those that are claimed later are added.
        worker: whose.
    """

    def __init__(self, told: Told, numbers: list[int], worker: int) -> None:
        self._told = told
        self.worker = worker
        self.numbers = numbers
        self.units = 0

    def claimed(self, numbers: Sequence[int]) -> None:
        self._told.claimed(self, numbers)

    def __call__(self, event: Mapping[str, Any]) -> None:
        self._told.hear(self, event)


class Told:
    """Passes the workers' events on, with how much of the whole is done, and who did it."""

    def __init__(self, on_event: OnEvent | None, pieces: Pieces, log: WorkLog, job: str) -> None:
        self._on_event, self._pieces = on_event, pieces
        self._log, self._job = log, job
        self._lock = threading.Lock()
        self._turns: list[Turn] = []
        self._kept = 0
        self._count_kept()

    def turn(self, numbers: list[int], worker: int) -> Turn:
        """What hears a worker's turn on these pieces."""
        turn = Turn(self, numbers, worker)
        with self._lock:
            self._turns.append(turn)
            self._count_kept()
        return turn

    def claimed(self, turn: Turn, numbers: Sequence[int]) -> None:
        """A worker has taken more pieces in its turn."""
        with self._lock:
            turn.numbers += numbers

    def over(self, turn: Turn, lost: bool = False) -> None:
        """A turn has ended: of it counts what is kept. Told at once: a worker that was lost may
        be long in coming back."""
        with self._lock:
            before = self._made()
            self._turns.remove(turn)
            self._count_kept()
            if lost:
                self._tell_lost(before - self._made())
            self._tell_work()

    def hear(self, turn: Turn, event: Mapping[str, Any]) -> None:
        if event["event"] in ("result", "failed"):
            return
        counts = event["event"] == self._pieces.event
        units = int(event.get("count", 1)) if counts else 0
        self._log.hear(turn.worker, event, units)
        if self._on_event is None:
            return
        with self._lock:
            if counts:
                turn.units += units
                event = {**event, "done": self._made(), "of": self._pieces.units}
            self._on_event(event)
            if counts or event["event"] == "phase":
                self._tell_work()

    def _made(self) -> int:
        """Units that are kept, or being made."""
        return min(self._kept + sum(turn.units for turn in self._turns), self._pieces.units)

    def _tell_lost(self, units: int) -> None:
        """A worker was lost, with so many units that are to be made again."""
        if self._on_event is None:
            return
        again = _AGAIN[self._pieces.unit]
        text = Text(again.en.format(units=units), again.zh.format(units=units))
        self._on_event({"event": "told", "id": self._job, "text": text.to_json()})
        made = {"done": self._made(), "of": self._pieces.units}
        self._on_event({"event": "kept", "id": self._job, **made})

    def _tell_work(self) -> None:
        if self._on_event is not None:
            work = self._log.record().to_json()
            self._on_event({"event": "work", "id": self._job, "work": work})

    def _count_kept(self) -> None:
        """Pieces that are there, without those that a worker is at."""
        at_work = {number for turn in self._turns for number in turn.numbers}
        kept = self._pieces.done() - at_work
        self._kept = sum(self._pieces.units_of(number) for number in kept)
