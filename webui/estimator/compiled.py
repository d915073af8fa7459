"""The replay of large blocks as machine code: about twenty times as fast as in Python.

Loaded by `simulator.py`, which also says what goes in and comes out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit

from webui.estimator.compiled_blocks import (
    ALLOCATED,
    MOST_ASKED,
    NONE,
    PEAK_ALIVE,
    PEAK_RESERVED,
    RESERVED,
    RETRIES,
    STREAMS,
    Array,
    allocate,
    open_books,
    release,
)
from webui.estimator.simulator import SPAN_FIGURES
from webui.estimator.tape import ALLOCATE, LOAD, RELEASE

_SOURCES = ("compiled", "compiled_blocks", "allocator", "blocks", "simulator", "tape")
"""Modules whose code or constants are in the machine code."""


def build_replay() -> Callable[..., Array]:
    """The compiled function: as `Simulator.play`, with the arrays of `LargeBlocks` one by one.

    Made at the first time, and kept on disk beside this module or in the user's cache.

    Raises:
        RuntimeError: there is no folder to keep it in.
    """
    folder = Path(__file__).parent
    texts = b"".join((folder / f"{name}.py").read_bytes() for name in _SOURCES)
    return _build_replay(zlib.crc32(texts))


def _build_replay(source: int) -> Callable[..., Array]:
    """numba keeps machine code by what a function closes over too, so that this is made anew when
    one of the sources has changed: by itself it would only look at this file."""

    @njit(
        "i8[:,::1](i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[:,::1], b1, i8)",
        cache=True,
        nogil=True,
    )
    def replay(
        resident: Array,
        resident_keys: Array,
        kinds: Array,
        keys: Array,
        sizes: Array,
        beside: Array,
        bounds: Array,
        expandable: bool,
        limit: int,
    ) -> Array:
        source  # noqa: B018
        rows = 4 * (len(resident) + len(kinds)) + 16
        blocks = np.empty((rows, 6), np.int64)
        free = np.empty((STREAMS, rows), np.int64)
        holes = np.empty((STREAMS, rows), np.int64)
        most_key = -1
        for key in resident_keys:
            most_key = max(most_key, key)
        for key in keys:
            most_key = max(most_key, key)
        live = np.empty(most_key + 1, np.int64)
        books = open_books(expandable, limit)
        found = np.zeros((len(bounds), SPAN_FIGURES), np.int64)

        fits, retries = True, 0
        for index in range(len(resident)):
            row = allocate(blocks, free, holes, books, np.int64(0), resident[index])
            if row == NONE:
                fits = False
                break
            live[resident_keys[index]] = row
        event = 0
        for span in range(len(bounds)):
            for end in range(2):
                if end == 1:
                    retries = books[RETRIES]
                    books[PEAK_ALIVE] = 0
                    books[PEAK_RESERVED] = books[RESERVED]
                while fits and event < bounds[span, end]:
                    kind, size = kinds[event], sizes[event]
                    if kind == RELEASE:
                        release(blocks, free, books, live[keys[event]])
                        event += 1
                        continue
                    stream = np.int64(kind == LOAD)
                    row = allocate(blocks, free, holes, books, stream, size)
                    if row == NONE:
                        fits = False
                        break
                    alive = books[ALLOCATED] + beside[event]
                    if alive > books[PEAK_ALIVE]:
                        books[PEAK_ALIVE] = alive
                    if kind in (ALLOCATE, LOAD):
                        live[keys[event]] = row
                    else:
                        release(blocks, free, books, row)
                    event += 1
            found[span, 0] = books[PEAK_ALIVE]
            found[span, 1] = books[PEAK_RESERVED]
            found[span, 2] = books[MOST_ASKED]
            found[span, 3] = books[RETRIES] - retries
            found[span, 4] = books[RETRIES]
            found[span, 5] = fits
        return found

    compiled: Callable[..., Array] = replay
    return compiled
