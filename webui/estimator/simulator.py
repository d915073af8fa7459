"""Plays large blocks through the simulated allocator: as machine code where that is loaded.

Both ways give the same figures. numba, which makes it, takes half a second to load, and at the very
first time ten to compile (then it is kept on disk). So nothing waits for it: it is loaded beside
the answers once Python has done some work, which for one question of a command line it rarely has.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread

import numpy as np

from webui.estimator.allocator import CachingAllocator, SimulatedOutOfMemory

SPAN_FIGURES = 6
"""Of each span: peak of allocated and of reserved bytes, most asked by now, retries in it and by
now, and whether all went well."""
PATIENCE_EVENTS = 200_000
"""Events that are played in Python before the compiled way is loaded: about 0.3 s."""
NO_LIMIT = 2**62
_MOST_BYTES = 2**50
"""Events of more bytes in all are left to Python, whose integers have no end."""


@dataclass(frozen=True, slots=True, eq=False)
class LargeBlocks:
    """What is played: integers of 64 bits."""

    resident: np.ndarray
    """Bytes of the blocks that are there first (R)."""
    resident_keys: np.ndarray
    """Their keys (R)."""
    kinds: np.ndarray
    """ALLOCATE, RELEASE, SCRATCH or LOAD (N)."""
    keys: np.ndarray
    """Of the storages (N)."""
    sizes: np.ndarray
    """Bytes, in whole blocks; of releases they are not read (N)."""
    beside: np.ndarray
    """Bytes that are alive beside those in the allocator's books (N)."""


class Simulator:
    """Knows which way is there. One serves a process (`play_spans`)."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._played = 0
        self._loading: Thread | None = None
        self._compiled: Callable[..., np.ndarray] | None = None

    @property
    def is_compiled(self) -> bool:
        """Whether answers come from the compiled way."""
        return self._compiled is not None

    def play(
        self, blocks: LargeBlocks, bounds: np.ndarray, expandable: bool, limit_bytes: int | None
    ) -> np.ndarray:
        """Plays events through an allocator once.

        Args:
            blocks: what is played.
            bounds: of each span its first event and the one after its last, in order (S x 2).
            expandable: the kind of segments.
            limit_bytes: what the allocator may reserve; None for any.

        Returns:
            What came of each span (S x SPAN_FIGURES). It starts with all that the events before it
            left; where the limit is met for good, all stops.
        """
        compiled = self._compiled
        if compiled is None:
            self._count(len(blocks.kinds))
            return play_in_python(blocks, bounds, expandable, limit_bytes)
        total = blocks.resident.sum(dtype=float) + np.abs(blocks.sizes).sum(dtype=float)
        if total > _MOST_BYTES:
            return play_in_python(blocks, bounds, expandable, limit_bytes)
        limit = NO_LIMIT if limit_bytes is None else limit_bytes
        return compiled(
            blocks.resident, blocks.resident_keys, blocks.kinds, blocks.keys, blocks.sizes,
            blocks.beside, bounds, expandable, limit,
        )  # fmt: skip

    def load(self) -> bool:
        """Loads the compiled way now; whether it is there."""
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


def play_in_python(
    blocks: LargeBlocks, bounds: np.ndarray, expandable: bool, limit_bytes: int | None
) -> np.ndarray:
    """As `Simulator.play`."""
    run = _Run(CachingAllocator(expandable, limit_bytes), blocks)
    run.hold()
    place, found = 0, []
    for begin, end in bounds.tolist():
        run.play(place, begin)
        run.allocator.reset_peaks()
        retries = run.allocator.retries
        run.play(begin, end)
        place = end
        books = run.allocator
        found.append(
            (
                books.peak_alive_bytes,
                books.peak_reserved_bytes,
                books.most_asked_bytes,
                books.retries - retries,
                books.retries,
                int(run.fits),
            )
        )
    return np.array(found, dtype=object).reshape(-1, SPAN_FIGURES)


class _Run:
    """An allocator on its way through the events; it stops where the limit is met for good."""

    def __init__(self, allocator: CachingAllocator, blocks: LargeBlocks) -> None:
        self.allocator = allocator
        self.fits = True
        self._blocks = blocks

    def hold(self) -> None:
        """Takes the blocks that are there first."""
        blocks = self._blocks
        try:
            for key, size in zip(
                blocks.resident_keys.tolist(), blocks.resident.tolist(), strict=True
            ):
                self.allocator.allocate(key, size)
        except SimulatedOutOfMemory:
            self.fits = False

    def play(self, start: int, end: int) -> None:
        """Plays events from `start` to before `end`."""
        if not self.fits:
            return
        some, blocks = slice(start, end), self._blocks
        try:
            self.allocator.play(
                blocks.kinds[some].tolist(),
                blocks.keys[some].tolist(),
                blocks.sizes[some].tolist(),
                blocks.beside[some].tolist(),
            )
        except SimulatedOutOfMemory:
            self.fits = False
