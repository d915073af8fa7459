"""Knows whether the replay is there as machine code; without it Python does the same.

numba, which makes it, takes half a second to load, and at the very first time ten to compile (then
it is kept on disk). So nothing waits for it: it is loaded beside the answers once Python has done
some work, which for one question of a command line it rarely has.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from threading import Lock, Thread

import numpy as np

PATIENCE_EVENTS = 200_000
"""Events that are played in Python before the machine code is loaded: about 0.2 s."""


class Simulator:
    """Loads the machine code. One serves a process (`simulator`)."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._played = 0
        self._loading: Thread | None = None
        self._compiled: Callable[..., np.ndarray] | None = None

    @property
    def is_compiled(self) -> bool:
        """Whether the machine code is there."""
        return self._compiled is not None

    def compiled(self, events: int) -> Callable[..., np.ndarray] | None:
        """The function to play events with; None where Python is to play them.

        Args:
            events: how many are played now.
        """
        if self._compiled is None:
            self._count(events)
        return self._compiled

    def load(self) -> bool:
        """Loads the machine code now; whether it is there."""
        if self._compiled is None:
            log = logging.getLogger(__name__)
            try:
                module = importlib.import_module("webui.estimator.compiled")
                self._compiled = module.build_replay()
            except ImportError:
                log.info("numba is not installed: plans take longer")
            except Exception:
                # Of a processor that it does not know, or a folder for its files that is nowhere.
                log.warning("numba does not work here: plans take longer", exc_info=True)
        return self.is_compiled

    def wait(self) -> None:
        """Until what is being loaded is there."""
        if self._loading is not None:
            self._loading.join()

    def _count(self, events: int) -> None:
        with self._lock:
            self._played += events
            if self._loading is None and self._played > PATIENCE_EVENTS:
                # Not a daemon: a process that ended within the compiler would crash.
                self._loading = Thread(target=self.load, name="load the compiled replay")
                self._loading.start()


_simulator = Simulator()


def simulator() -> Simulator:
    """The process's own."""
    return _simulator
