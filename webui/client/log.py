"""The worker's log: a file that cannot grow without end, and its newest lines in memory."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path

MAX_BYTES = 2 * 2**20
KEPT_LINES = 40


class LimitedLog:
    """Appends lines; when the file is full it becomes `NAME.1` and a new one begins.

    Logging never fails a run: a disk that cannot be written costs the lines, not the job.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._lock = threading.Lock()
        self._file = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError:
            pass

    def __enter__(self) -> LimitedLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, line: bytes) -> None:
        with self._lock:
            self._lines.append(line.decode("utf-8", "replace").rstrip())
        if self._file is None:
            return
        try:
            if self._file.tell() + len(line) > self._max_bytes:
                self._file.close()
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self._file = self._path.open("ab", buffering=0)
            self._file.write(line)
        except (OSError, ValueError):
            pass

    def last_lines(self) -> list[str]:
        with self._lock:
            return list(self._lines)
