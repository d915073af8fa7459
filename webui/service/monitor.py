"""Watches the cards and the host: a reading a second into the history, and the newest for whoever
asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from webui.hardware import (
    DeviceReader,
    DeviceReading,
    DiskReading,
    HostReading,
    read_disk,
    read_host,
)
from webui.service.history import History
from webui.storage.config import MemoryPolicy

EVERY_S = 1.0
_FRESH_S = 1.5
"""A reading as young as this is given again, however many ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The machine at one moment."""

    at_s: float
    """`time.monotonic()`."""
    devices: tuple[DeviceReading, ...]
    host: HostReading
    disk: DiskReading


class Monitor:
    """The readings of one machine.

    Args:
        folder: whose disk is read.
        policy: the memory policy as it is now; readings are kept while it says so.
    """

    def __init__(self, folder: Path, policy: Callable[[], MemoryPolicy]) -> None:
        self.history = History()
        self._folder = folder
        self._policy = policy
        self._reader = DeviceReader()
        self._reading = threading.Lock()
        self._latest: Snapshot | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._cpu_s = 0.0
        self._readings = 0

    def start(self) -> None:
        """Begins to keep readings, in the background."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="monitor", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the thread and lets the driver's library go."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(5.0)
        with self._reading:
            self._reader.close()

    def snapshot(self) -> Snapshot:
        """The newest reading; a new one where the sampler has none that is fresh."""
        latest = self._latest
        if latest is not None and time.monotonic() - latest.at_s < _FRESH_S:
            return latest
        with self._reading:
            latest = self._latest  # another thread may have read meanwhile
            if latest is not None and time.monotonic() - latest.at_s < _FRESH_S:
                return latest
            return self._read()

    def sample(self) -> Snapshot:
        """Reads, and keeps the reading in the history."""
        with self._reading:
            snapshot = self._read()
        self.history.add(snapshot.at_s, snapshot.devices, snapshot.host)
        return snapshot

    @property
    def cpu_share(self) -> float:
        """Processor time that sampling takes of a run's time, 0 to 1 of one core."""
        return self._cpu_s / (self._readings * EVERY_S) if self._readings else 0.0

    def _read(self) -> Snapshot:
        self._latest = Snapshot(
            at_s=time.monotonic(),
            devices=tuple(self._reader.read()),
            host=read_host(),
            disk=read_disk(self._folder),
        )
        return self._latest

    def _loop(self) -> None:
        # In the middle of each second of the clock, so that a late reading is still in its own.
        while not self._closing.wait(EVERY_S - (time.monotonic() - EVERY_S / 2) % EVERY_S):
            if not self._policy().enable_monitoring:
                continue
            began = time.thread_time()
            self.sample()
            self._cpu_s += time.thread_time() - began
            self._readings += 1
