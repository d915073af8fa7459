"""The replay as machine code: some twenty times as fast as in Python.

Loaded by `simulator.py`. `plain_replay.py` does the same and says more; a test compares the two.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit

from webui.estimator.blocks import SMALL_SEGMENT, SMALL_SIZE
from webui.estimator.compiled_blocks import (
    ALLOCATED,
    COLUMNS,
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
from webui.estimator.replay import NO_LIMIT
from webui.estimator.tape import LOAD, RELEASE, SCRATCH

_SOURCES = ("compiled", "compiled_blocks", "allocator", "blocks", "replay", "tape")
"""Modules whose code or constants are in the machine code."""
_FIGURES = 7


def build_replay() -> Callable[..., Array]:
    """The compiled function.

    It takes a timeline's arrays, the bounds of spans (S x 2), the kind of segments and the limit,
    and gives what `play_in_python` gives (S x 7).

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
        "i8[:,::1](i8[::1], i1[::1], i4[::1], i8[::1], i8[:,::1], b1, i8)", cache=True, nogil=True
    )
    def replay(
        resident: Array,
        kinds: Array,
        keys: Array,
        deltas: Array,
        bounds: Array,
        expandable: bool,
        limit: int,
    ) -> Array:
        source  # noqa: B018
        first, first_small, most_key = 0, 0, len(resident) - 1
        for size in resident:
            first += size
            if size <= SMALL_SIZE:
                first_small += size
        freed = np.zeros(len(resident), np.bool_)
        small = most_small = first_small
        for event in range(len(kinds)):
            key = keys[event]
            if key > most_key:
                most_key = key
            if kinds[event] == RELEASE and key < len(resident):
                freed[key] = True
            if kinds[event] != SCRATCH and abs(deltas[event]) <= SMALL_SIZE:
                small += deltas[event]
                most_small = max(most_small, small)
        if limit != NO_LIMIT:
            limit -= _whole_segments(most_small)

        rows = 4 * (len(resident) + len(kinds)) + 16
        blocks = np.empty((rows, COLUMNS), np.int64)
        free = np.empty((2 * STREAMS, rows), np.int64)
        holes = np.empty((STREAMS, rows), np.int64)
        live = np.full(most_key + 1, NONE, np.int64)
        books = open_books(expandable, limit)
        fits = _hold(blocks, free, holes, books, resident, freed, expandable, live)

        found = np.zeros((len(bounds), _FIGURES), np.int64)
        kept, small, most_small, retries, event = first, first_small, first_small, 0, 0
        for span in range(len(bounds)):
            most_live = kept
            for part in range(2):
                if part == 1:
                    found[span, 2] = most_live = kept
                    retries = books[RETRIES]
                    books[PEAK_ALIVE] = 0
                    books[PEAK_RESERVED] = books[RESERVED]
                while event < bounds[span, part]:
                    kind, key, delta = kinds[event], keys[event], deltas[event]
                    event += 1
                    if kind != SCRATCH:
                        kept += delta
                        most_live = max(most_live, kept)
                    else:
                        most_live = max(most_live, kept + delta)
                    if abs(delta) <= SMALL_SIZE:
                        if kind != SCRATCH:
                            small += delta
                            most_small = max(most_small, small)
                        continue
                    if not fits:
                        continue
                    if kind == RELEASE:
                        if live[key] == NONE:
                            raise ValueError("what is released is there")
                        release(blocks, free, books, live[key])
                        live[key] = NONE
                        continue
                    row = allocate(blocks, free, holes, books, np.int64(kind == LOAD), delta)
                    if row == NONE:
                        fits = False
                        continue
                    books[PEAK_ALIVE] = max(books[PEAK_ALIVE], books[ALLOCATED] + small)
                    if kind == SCRATCH:
                        release(blocks, free, books, row)
                    else:
                        live[key] = row
            found[span, 0] = max(books[PEAK_ALIVE], most_live)
            found[span, 1] = books[PEAK_RESERVED] + _whole_segments(most_small)
            found[span, 3] = books[MOST_ASKED] + _whole_segments(most_small)
            found[span, 4] = books[RETRIES] - retries
            found[span, 5] = books[RETRIES]
            found[span, 6] = fits
        return found

    compiled: Callable[..., Array] = replay
    return compiled


@njit
def _hold(
    blocks: Array,
    free: Array,
    holes: Array,
    books: Array,
    resident: Array,
    freed: Array,
    joined: bool,
    live: Array,
) -> bool:
    """Takes the large storages that are there first (`plain_replay.resident_blocks`); whether they
    fit."""
    stays, size = NONE, 0
    for key in range(len(resident) + 1):
        if key < len(resident):
            if resident[key] <= SMALL_SIZE:
                continue
            if joined and not freed[key]:
                stays, size = key if stays == NONE else stays, size + resident[key]
                continue
        if stays != NONE:
            live[stays] = allocate(blocks, free, holes, books, np.int64(0), size)
            if live[stays] == NONE:
                return False
            stays, size = NONE, 0
        if key < len(resident):
            live[key] = allocate(blocks, free, holes, books, np.int64(0), resident[key])
            if live[key] == NONE:
                return False
    return True


@njit
def _whole_segments(size: int) -> int:
    return (size + SMALL_SEGMENT - 1) // SMALL_SEGMENT * SMALL_SEGMENT
