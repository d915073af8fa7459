"""The worker's end of the line to the app: commands in, events out, one JSON object a line."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any, BinaryIO

from webui.core.errors import Cancelled

_LOOK_S = 0.1
"""How often one that waits for an answer looks whether its job is cancelled."""
GRACE_S = 5.0
"""How long a run may take to notice that the app is gone, before the process ends itself."""


class Channel:
    """Reads commands on a thread, so that `cancel` is seen while a job runs.

    Standard output belongs to the protocol; what libraries print goes to standard error.
    """

    def __init__(self, commands: BinaryIO, events: BinaryIO) -> None:
        self._commands = commands
        self._events = events
        self._write_lock = threading.Lock()
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._cancelled: set[str] = set()
        self._claims = count()
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._stopping = threading.Event()
        self._parent = os.getppid()

    @classmethod
    def on_standard_streams(cls) -> Channel:
        """Takes standard output for the events and points descriptor 1 at standard error."""
        events = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        return cls(sys.stdin.buffer, events)

    def start(self) -> None:
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        if os.name == "posix":
            threading.Thread(target=self._watch_parent, name="parent", daemon=True).start()

    def emit(self, event: str, **values: Any) -> None:
        """Sends one event; when nobody listens any more, the process ends."""
        line = json.dumps({"event": event, **values}).encode() + b"\n"
        try:
            with self._write_lock:
                self._events.write(line)
        except (BrokenPipeError, ValueError, OSError):
            os._exit(0)

    def commands(self) -> Iterator[dict[str, Any]]:
        """Commands in order, without those to the running job; ends with `exit` or the end of
        the input."""
        while (command := self._queue.get()) is not None:
            yield command

    def check_cancel(self, job_id: str) -> None:
        """Raises Cancelled when the job, or the worker, is to stop."""
        if job_id in self._cancelled or self._stopping.is_set():
            raise Cancelled()

    def claim(self, job_id: str) -> list[int]:
        """Asks for more pieces of the job, and waits for the answer: their numbers, none where
        none are left. For one thread at a time.

        Raises:
            Cancelled: the job, or the worker, is to stop.
        """
        claim = next(self._claims)
        self.emit("claim", id=job_id, claim=claim)
        while True:
            self.check_cancel(job_id)
            try:
                answer = self._answers.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if answer.get("claim") == claim:  # else to one that was cancelled meanwhile
                return [int(number) for number in answer["pieces"]]

    def forget(self, job_id: str) -> None:
        """The job is over; a late cancel of it means nothing."""
        self._cancelled.discard(job_id)

    def _read(self) -> None:
        for line in self._commands:
            try:
                command = json.loads(line)
                op = command["op"]
            except (ValueError, TypeError, KeyError):
                self.emit("log", text=f"not a command: {line[:200]!r}")
                continue
            if op == "cancel":
                self._cancelled.add(str(command.get("id")))
            elif op == "claimed":
                self._answers.put(command)
            elif op == "exit":
                break
            else:
                self._queue.put(command)
        self._stop()

    def _watch_parent(self) -> None:
        """Another process may hold our input open; a new parent means that the app died."""
        while not self._stopping.wait(1.0):
            if os.getppid() != self._parent:
                self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._queue.put(None)
        threading.Thread(target=_end_later, name="end", daemon=True).start()


def _end_later() -> None:
    time.sleep(GRACE_S)
    os._exit(0)
