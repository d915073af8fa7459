"""Work that comes in pieces, handed to one or several workers: pages of a document, segments of a
video.

What one worker is to the flow, one or several are here: each takes pieces from the same list, and
the pieces of a worker that is lost go back to it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from webui.core.errors import Cancelled, RunFailed, StudioError, WorkerLost
from webui.core.host import usable_cores
from webui.core.receipt import Measurement
from webui.core.text import Text
from webui.service.measurements import one_after_the_other, side_by_side
from webui.service.pieces import OnEvent, Pieces, Worker
from webui.service.turns import Told, Turn
from webui.service.unexpected import as_studio_error
from webui.service.work_log import WorkLog

MOST_LOSSES = 2
"""A piece during which a worker was lost so often is taken to be the cause, and left out."""

_End = Mapping[str, Any] | StudioError
"""How a worker's turn ended: its last event, or what was raised."""


class PieceWork:
    """Runs a job over pieces, as a worker would (`webui.service.flow.Runs`).

    Args:
        pieces: of the job.
        workers: makes each worker, or makes it anew when it was lost.
        closing: set when the studio ends: nothing is put together then.
        again_after_shortage: what ran out of memory is tried again, and put together after that.
    """

    def __init__(
        self,
        pieces: Pieces,
        workers: Sequence[Callable[[], Worker]],
        closing: threading.Event | None = None,
        again_after_shortage: bool = False,
    ) -> None:
        self._pieces = pieces
        self._workers = workers
        self._closing = closing or threading.Event()
        self._again_after_shortage = again_after_shortage
        self._log = WorkLog(pieces.unit, len(workers), notes=pieces.notes, whole=pieces.units)
        self._changed = threading.Condition()
        done = pieces.done()
        self._waiting = [number for number in pieces.numbers if number not in done]
        self._partial = len(self._waiting) < len(pieces.numbers)
        self._losses: Counter[int] = Counter()
        self._at_work = 0
        self._stopped = False

    def run(self, job: Mapping[str, Any], on_event: OnEvent | None = None) -> Mapping[str, Any]:
        """Runs to the end; the last event is that of the worker which ended last.

        Raises:
            StudioError: pieces are left, and no worker said why: none could be had any more, or
                the job was cancelled.
        """
        told = Told(on_event, self._pieces, self._log, str(job["id"]))
        ends: list[list[_End]] = [[] for _ in self._workers]
        cores = max(1, int(usable_cores() / len(self._workers)))
        shared = {**job, "cores": cores, "claims": self._pieces.claims}
        threads = [
            threading.Thread(target=self._serve, args=(number, shared, told, own), daemon=True)
            for number, own in enumerate(ends)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._log.free()
        return self._ended(job, ends, on_event)

    def _serve(
        self,
        number: int,
        job: Mapping[str, Any],
        told: Told,
        ends: list[_End],
    ) -> None:
        """One worker's turn after turn, until no piece is left or no worker is to be had. A turn's
        pieces are one list, to which it adds what is claimed."""
        while numbers := self._take(job):
            goes_on, stop = False, True
            try:
                own = {**job, self._pieces.key: list(numbers)}
                goes_on, stop = self._turn(number, numbers, own, told, ends)
            except Exception as error:  # what is kept could not be read, say
                ends.append(as_studio_error(error))
            finally:  # or the other workers would wait for these pieces for ever
                self._over(numbers, stop, ends)
            if not goes_on:
                return

    def _turn(
        self,
        number: int,
        numbers: list[int],
        job: Mapping[str, Any],
        told: Told,
        ends: list[_End],
    ) -> tuple[bool, bool]:
        """One turn: whether the worker is to have another, and whether it is the end of all."""
        turn = None
        self._log.turn(number)
        try:
            worker = self._workers[number]()
            turn = told.turn(numbers, number)
            end = worker.run(job, partial(self._hear, worker, turn, job))
        except Exception as error:
            raised = as_studio_error(error)
            # One that never started has lost nothing.
            lost = turn is not None and isinstance(raised, WorkerLost)
            if not lost:
                ends.append(raised)
            self._note(number, numbers, None, lost)
            goes_on = lost and self._lost(numbers, raised, ends)
            if goes_on and turn is not None:
                told.over(turn, lost=True)
            # One that cannot be had leaves its pieces to the others; any other error ends all.
            return goes_on, turn is not None and not goes_on
        ends.append(end)
        self._note(number, numbers, end, lost=False)
        failed = end["event"] == "failed"
        if not failed:
            told.over(turn)
        return not failed, failed

    def _hear(
        self, worker: Worker, turn: Turn, job: Mapping[str, Any], event: Mapping[str, Any]
    ) -> None:
        """A worker tells something during its turn."""
        if event["event"] != "claim":
            turn(event)
            return
        more = self._more(job, turn.numbers)
        turn.claimed(more)
        worker.send({"op": "claimed", "claim": event["claim"], "pieces": more})

    def _note(
        self, worker: int, numbers: Sequence[int], end: Mapping[str, Any] | None, lost: bool
    ) -> None:
        """A worker's turn is over, whatever comes of it."""
        kept: list[int] = []
        try:
            done = self._pieces.done()
            kept = [number for number in numbers if number in done]
        finally:
            self._log.over(worker, len(kept), sum(map(self._pieces.units_of, kept)), end, lost)

    def _take(self, job: Mapping[str, Any]) -> list[int]:
        """The next pieces for a worker; waits while those of another may come back."""
        with self._changed:
            while not self._waiting and self._at_work and not self._stopped:
                self._changed.wait()
            taken = self._next(job)
            self._at_work += bool(taken)
            return taken

    def _more(self, job: Mapping[str, Any], taken: Sequence[int]) -> list[int]:
        """The next pieces for a worker that has taken some in this turn, without waiting for any.

        A piece during which a worker was lost has a turn of its own: the next one is begun before
        one is made, and it may be the next one that did it.
        """
        with self._changed:
            if any(self._losses[number] for number in (*taken, *self._waiting[:1])):
                return []
            return self._next(job)

    def _next(self, job: Mapping[str, Any]) -> list[int]:
        if self._stopped or not self._waiting:
            return []
        settings = job.get("settings", {})
        count = self._pieces.most(len(self._waiting), len(self._workers), settings)
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def _over(self, numbers: Sequence[int], stop: bool, ends: list[_End]) -> None:
        """A turn is over: pieces that were given out and are not there are to be done again.

        Args:
            numbers: of the turn.
            stop: what failed in one is the end of all.
            ends: takes why it cannot be told which are there, which is the end of all too.
        """
        with self._changed:
            self._at_work -= 1
            self._stopped = self._stopped or stop
            self._changed.notify_all()
            try:
                done = self._pieces.done()
            except Exception as error:  # the disk
                self._stopped = True
                ends.append(as_studio_error(error))
                return
            self._waiting = sorted({*self._waiting, *(n for n in numbers if n not in done)})

    def _lost(self, numbers: list[int], lost: StudioError, ends: list[_End]) -> bool:
        """Notes during which piece a worker was lost; whether the work goes on."""
        done = self._pieces.done()
        number = next((number for number in numbers if number not in done), None)
        if number is None:
            return True
        self._losses[number] += 1
        if self._losses[number] >= MOST_LOSSES and isinstance(lost, WorkerLost):
            try:
                self._pieces.give_up(number, lost)
            except Exception as error:  # the disk is full, say
                ends.append(as_studio_error(error))
                return False
        return True

    def _ended(
        self, job: Mapping[str, Any], workers: list[list[_End]], on_event: OnEvent | None
    ) -> Mapping[str, Any]:
        """The end of the whole: the first that failed, else the last; with the files."""
        ends = [end for own in workers for end in own]
        raised = sorted(
            (end for end in ends if isinstance(end, StudioError)),
            key=lambda error: not isinstance(error, Cancelled),
        )
        told = [end for end in ends if isinstance(end, Mapping)]
        failed = next((end for end in told if end["event"] == "failed"), None)
        outputs: list[str] = []
        error: StudioError | None = None
        if not self._is_repeated(failed):
            try:
                outputs = self._put_together(job, on_event)
            except Exception as unjoined:
                error = as_studio_error(unjoined)
        if failed is None:
            left = set(self._pieces.numbers)
            try:
                left -= self._pieces.done()
            except Exception as unread:  # then none counts as made
                error = error or as_studio_error(unread)
            if left:
                error = next(iter(raised), error) or _left(len(left), len(self._pieces.numbers))
            else:
                error = error or self._pieces.failed()
            if error is not None and not told:
                if outputs:
                    return {"event": "failed", "id": job["id"], "measurement": None,
                            "error": error.to_json(), "outputs": outputs,
                            "work": self._log.record().to_json()}  # fmt: skip
                raise error
        last = failed or (told[-1] if told else {})
        last = {"event": "result", "id": job["id"], "measurement": None, **last}
        measured = [
            one_after_the_other(turns)
            for own in workers
            if (turns := [_measured(end) for end in own if _has_measurement(end)])
        ]
        last |= {"measurement": side_by_side(measured).to_json() if measured else None}
        # What took another time than was planned teaches nothing.
        last |= {"work": self._log.record().to_json()}
        last |= {"partial": self._partial or len(told) != 1 or len(self._workers) > 1}
        if error is not None and failed is None:
            last |= {"event": "failed", "error": error.to_json()}
        return {**last, "outputs": outputs}

    def _is_repeated(self, failed: Mapping[str, Any] | None) -> bool:
        """Whether the same job runs again with other settings."""
        return bool(failed and failed.get("shortage")) and self._again_after_shortage

    def _put_together(self, job: Mapping[str, Any], on_event: OnEvent | None) -> list[str]:
        if self._closing.is_set():
            return []
        if on_event is not None:
            on_event({"event": "phase", "id": job["id"], "name": "save"})
        try:
            return self._pieces.put_together()
        finally:
            self._log.joined()


def _left(left: int, of: int) -> RunFailed:
    return RunFailed(
        Text(f"{left} of {of} parts are not made yet.", f"{of} 部分中还有 {left} 部分未完成。"),
        Text("Resume the run: what is made stays.", "请继续任务：已完成的部分会保留。"),
    )


def _has_measurement(end: _End) -> bool:
    return isinstance(end, Mapping) and bool(end.get("measurement"))


def _measured(end: _End) -> Measurement:
    assert isinstance(end, Mapping)
    return Measurement.from_json(end["measurement"])
