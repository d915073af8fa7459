"""The replay of large blocks, compiled: what `CachingAllocator.play` does, over arrays of integers.

numba makes machine code of it, about thirty times as fast. `allocator.py` has the rules and their
sources, and answers where this is not loaded (`simulator.py`); a test compares the two. Only large
blocks come here: of the main stream, and of the one that streamed weights are copied on.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from webui.estimator.allocator import MIN_LARGE_SEGMENT, ROUND_LARGE
from webui.estimator.blocks import LARGE_SEGMENT, SMALL_SIZE
from webui.estimator.simulator import SPAN_FIGURES
from webui.estimator.tape import ALLOCATE, LOAD, RELEASE, ROUND_BYTES

Array = np.ndarray

# Columns of `blocks`, a row each.
_ADDRESS, _SIZE, _BEFORE, _AFTER, _STATE, _STREAM = range(6)
_USED, _FREE, _HOLE = range(3)
"""States: a hole is free and not mapped."""
_NONE = -1
_STREAMS = 2
# Entries of `books`; free blocks and holes have one for each stream.
(
    _ALLOCATED, _RESERVED, _PEAK_RESERVED, _PEAK_ALIVE, _MOST_ASKED, _RETRIES, _NEXT_ADDRESS,
    _NEXT_ROW, _SPARE, _LIMIT, _EXPANDABLE, _FREE_COUNT, _HOLE_COUNT,
) = (*range(12), 13)  # fmt: skip
_ENTRIES = 15
_SPACE = LARGE_SEGMENT << 26
"""Addresses of an expandable segment: more than any card, and whole units."""


@njit
def _allocate(
    blocks: Array, free: Array, holes: Array, books: Array, stream: int, size: int
) -> int:
    """The row of a block; _NONE where it does not fit even after a release of the cache."""
    place = _best_fit(blocks, free, books, stream, size)
    if place != _NONE:
        row = free[stream, place]
        _take(free, books, stream, place)
    else:
        row = _new_block(blocks, free, holes, books, stream, size)
        if row == _NONE:
            books[_RETRIES] += 1
            _empty_cache(blocks, free, holes, books)
            row = _new_block(blocks, free, holes, books, stream, size)
            if row == _NONE:
                return _NONE
    smallest_rest = ROUND_BYTES if books[_EXPANDABLE] else SMALL_SIZE + 1
    if blocks[row, _SIZE] - size >= smallest_rest:
        rest = _split(blocks, books, row, size)
        blocks[rest, _STATE] = _FREE
        _add(blocks, free, books, rest)
    blocks[row, _STATE] = _USED
    books[_ALLOCATED] += blocks[row, _SIZE]
    return row


@njit
def _release(blocks: Array, free: Array, books: Array, row: int) -> None:
    """Takes a block back into the cache, merged with its free neighbours."""
    books[_ALLOCATED] -= blocks[row, _SIZE]
    after = blocks[row, _AFTER]
    if after != _NONE and blocks[after, _STATE] == _FREE:
        _remove(blocks, free, books, after)
        _absorb_next(blocks, books, row)
    before = blocks[row, _BEFORE]
    if before != _NONE and blocks[before, _STATE] == _FREE:
        _remove(blocks, free, books, before)
        _absorb_next(blocks, books, before)
        row = before
    blocks[row, _STATE] = _FREE
    _add(blocks, free, books, row)


# Rows


@njit
def _new_row(blocks: Array, books: Array, address: int, size: int, stream: int) -> int:
    """A row for a block that is next to no other; its state is still to be said."""
    row = books[_SPARE]
    if row == _NONE:
        row = books[_NEXT_ROW]
        books[_NEXT_ROW] += 1
    else:
        books[_SPARE] = blocks[row, _AFTER]
    blocks[row, _ADDRESS] = address
    blocks[row, _SIZE] = size
    blocks[row, _BEFORE] = _NONE
    blocks[row, _AFTER] = _NONE
    blocks[row, _STREAM] = stream
    return row


@njit
def _give_back(blocks: Array, books: Array, row: int) -> None:
    """A row that is no block any more; the spare ones are a chain."""
    blocks[row, _AFTER] = books[_SPARE]
    books[_SPARE] = row


@njit
def _split(blocks: Array, books: Array, row: int, size: int) -> int:
    """Keeps the first `size` bytes; returns the row of the rest, in the same state."""
    rest = _new_row(
        blocks, books, blocks[row, _ADDRESS] + size, blocks[row, _SIZE] - size,
        blocks[row, _STREAM],
    )  # fmt: skip
    blocks[rest, _STATE] = blocks[row, _STATE]
    after = blocks[row, _AFTER]
    blocks[rest, _BEFORE] = row
    blocks[rest, _AFTER] = after
    if after != _NONE:
        blocks[after, _BEFORE] = rest
    blocks[row, _AFTER] = rest
    blocks[row, _SIZE] = size
    return rest


@njit
def _absorb_next(blocks: Array, books: Array, row: int) -> None:
    other = blocks[row, _AFTER]
    after = blocks[other, _AFTER]
    blocks[row, _SIZE] += blocks[other, _SIZE]
    blocks[row, _AFTER] = after
    if after != _NONE:
        blocks[after, _BEFORE] = row
    _give_back(blocks, books, other)


# Free blocks, by size and then by address


@njit
def _place(blocks: Array, free: Array, books: Array, stream: int, size: int, address: int) -> int:
    """Where the first free block is that is not before this size and address."""
    low, high = 0, books[_FREE_COUNT + stream]
    while low < high:
        middle = (low + high) // 2
        row = free[stream, middle]
        if blocks[row, _SIZE] < size or (
            blocks[row, _SIZE] == size and blocks[row, _ADDRESS] < address
        ):
            low = middle + 1
        else:
            high = middle
    return low


@njit
def _add(blocks: Array, free: Array, books: Array, row: int) -> None:
    stream = blocks[row, _STREAM]
    place = _place(blocks, free, books, stream, blocks[row, _SIZE], blocks[row, _ADDRESS])
    for index in range(books[_FREE_COUNT + stream], place, -1):
        free[stream, index] = free[stream, index - 1]
    free[stream, place] = row
    books[_FREE_COUNT + stream] += 1


@njit
def _remove(blocks: Array, free: Array, books: Array, row: int) -> None:
    stream = blocks[row, _STREAM]
    place = _place(blocks, free, books, stream, blocks[row, _SIZE], blocks[row, _ADDRESS])
    _take(free, books, stream, place)


@njit
def _take(free: Array, books: Array, stream: int, place: int) -> None:
    books[_FREE_COUNT + stream] -= 1
    for index in range(place, books[_FREE_COUNT + stream]):
        free[stream, index] = free[stream, index + 1]


@njit
def _room(blocks: Array, row: int) -> int:
    """A block that can grow into unmapped space counts with that space."""
    after = blocks[row, _AFTER]
    if after != _NONE and blocks[after, _STATE] == _HOLE:
        return blocks[row, _SIZE] + blocks[after, _SIZE]
    return blocks[row, _SIZE]


@njit
def _best_fit(blocks: Array, free: Array, books: Array, stream: int, size: int) -> int:
    count = books[_FREE_COUNT + stream]
    place = _place(blocks, free, books, stream, size, np.int64(0))
    if place == count:
        return _NONE
    room = _room(blocks, free[stream, place])
    if room > blocks[free[stream, place], _SIZE]:
        for following in range(place + 1, count):
            other = _room(blocks, free[stream, following])
            if other >= room:
                break
            room = other
            place += 1
    return place


# New memory


@njit
def _reserve(books: Array, size: int) -> None:
    books[_RESERVED] += size
    if books[_RESERVED] > books[_PEAK_RESERVED]:
        books[_PEAK_RESERVED] = books[_RESERVED]


@njit
def _new_block(
    blocks: Array, free: Array, holes: Array, books: Array, stream: int, size: int
) -> int:
    segment = LARGE_SEGMENT
    if size >= MIN_LARGE_SEGMENT:
        segment = (size + ROUND_LARGE - 1) // ROUND_LARGE * ROUND_LARGE
    asked = books[_RESERVED] + segment
    if asked > books[_LIMIT]:
        return _NONE
    if asked > books[_MOST_ASKED]:
        books[_MOST_ASKED] = asked
    if books[_EXPANDABLE]:
        return _expand(blocks, free, holes, books, stream, size)
    _reserve(books, segment)
    row = _new_row(blocks, books, books[_NEXT_ADDRESS], segment, stream)
    blocks[row, _STATE] = _FREE
    # Only their order counts: segments have no neighbours.
    books[_NEXT_ADDRESS] += segment
    return row


@njit
def _expand(blocks: Array, free: Array, holes: Array, books: Array, stream: int, size: int) -> int:
    row = _stretch_to_grow(blocks, holes, books, stream, size)
    if blocks[row, _STATE] == _HOLE:
        _map(blocks, holes, books, row, min(blocks[row, _SIZE], size))
    else:
        _remove(blocks, free, books, row)
    while blocks[row, _SIZE] < size:
        following = blocks[row, _AFTER]
        if blocks[following, _STATE] == _HOLE:
            missing = size - blocks[row, _SIZE]
            _map(blocks, holes, books, following, min(blocks[following, _SIZE], missing))
        else:
            _remove(blocks, free, books, following)
        _absorb_next(blocks, books, row)
    return row


@njit
def _stretch_to_grow(blocks: Array, holes: Array, books: Array, stream: int, size: int) -> int:
    for index in range(books[_HOLE_COUNT + stream]):
        start = holes[stream, index]
        before = blocks[start, _BEFORE]
        if before != _NONE and blocks[before, _STATE] == _FREE:
            start = before
        room, row = 0, start
        while room < size and row != _NONE and blocks[row, _STATE] != _USED:
            room += blocks[row, _SIZE]
            row = blocks[row, _AFTER]
        if room >= size:
            return start
    address = books[_NEXT_ADDRESS] + _SPACE
    books[_NEXT_ADDRESS] = address + _SPACE
    hole = _new_row(blocks, books, address, np.int64(_SPACE), stream)
    blocks[hole, _STATE] = _HOLE
    holes[stream, books[_HOLE_COUNT + stream]] = hole
    books[_HOLE_COUNT + stream] += 1
    return hole


@njit
def _map(blocks: Array, holes: Array, books: Array, hole: int, size: int) -> None:
    size = min(blocks[hole, _SIZE], (size + LARGE_SEGMENT - 1) // LARGE_SEGMENT * LARGE_SEGMENT)
    _reserve(books, size)
    stream = blocks[hole, _STREAM]
    if size < blocks[hole, _SIZE]:
        holes[stream, _hole_place(holes, books, stream, hole)] = _split(blocks, books, hole, size)
    else:
        _forget_hole(holes, books, stream, hole)
    blocks[hole, _STATE] = _FREE


@njit
def _hole_place(holes: Array, books: Array, stream: int, hole: int) -> int:
    place = 0
    while holes[stream, place] != hole:
        place += 1
    return place


@njit
def _forget_hole(holes: Array, books: Array, stream: int, hole: int) -> None:
    books[_HOLE_COUNT + stream] -= 1
    place = _hole_place(holes, books, stream, hole)
    for index in range(place, books[_HOLE_COUNT + stream]):
        holes[stream, index] = holes[stream, index + 1]


# Memory given back


@njit
def _empty_cache(blocks: Array, free: Array, holes: Array, books: Array) -> None:
    for stream in range(_STREAMS):
        for row in free[stream, : books[_FREE_COUNT + stream]].copy():
            if books[_EXPANDABLE]:
                _unmap(blocks, free, holes, books, row)
            elif blocks[row, _BEFORE] == _NONE and blocks[row, _AFTER] == _NONE:
                _remove(blocks, free, books, row)
                books[_RESERVED] -= blocks[row, _SIZE]
                _give_back(blocks, books, row)


@njit
def _unmap(blocks: Array, free: Array, holes: Array, books: Array, row: int) -> None:
    address, end = blocks[row, _ADDRESS], blocks[row, _ADDRESS] + blocks[row, _SIZE]
    low = (address + LARGE_SEGMENT - 1) // LARGE_SEGMENT * LARGE_SEGMENT
    high = end // LARGE_SEGMENT * LARGE_SEGMENT
    if high <= low:
        return
    stream = blocks[row, _STREAM]
    _remove(blocks, free, books, row)
    books[_RESERVED] -= high - low
    if end > high:
        _add(blocks, free, books, _split(blocks, books, row, high - address))
    hole = row
    if low > address:
        hole = _split(blocks, books, row, low - address)
        _add(blocks, free, books, row)
    blocks[hole, _STATE] = _HOLE
    after = blocks[hole, _AFTER]
    if after != _NONE and blocks[after, _STATE] == _HOLE:
        _forget_hole(holes, books, stream, after)
        _absorb_next(blocks, books, hole)
    before = blocks[hole, _BEFORE]
    if before != _NONE and blocks[before, _STATE] == _HOLE:
        _forget_hole(holes, books, stream, before)
        _absorb_next(blocks, books, before)
        hole = before
    place = books[_HOLE_COUNT + stream]
    while place > 0 and blocks[holes[stream, place - 1], _ADDRESS] > blocks[hole, _ADDRESS]:
        holes[stream, place] = holes[stream, place - 1]
        place -= 1
    holes[stream, place] = hole
    books[_HOLE_COUNT + stream] += 1


# The whole


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
    """As `Simulator.play`, with the arrays of `LargeBlocks` one by one.

    `limit` is NO_LIMIT for any.
    """
    rows = 4 * (len(resident) + len(kinds)) + 16
    blocks = np.empty((rows, 6), np.int64)
    free = np.empty((_STREAMS, rows), np.int64)
    holes = np.empty((_STREAMS, rows), np.int64)
    most_key = -1
    for key in resident_keys:
        most_key = max(most_key, key)
    for key in keys:
        most_key = max(most_key, key)
    live = np.empty(most_key + 1, np.int64)
    books = np.zeros(_ENTRIES, np.int64)
    books[_NEXT_ADDRESS] = _SPACE
    books[_SPARE] = _NONE
    books[_LIMIT] = limit
    books[_EXPANDABLE] = expandable
    found = np.zeros((len(bounds), SPAN_FIGURES), np.int64)

    fits, retries = True, 0
    for index in range(len(resident)):
        row = _allocate(blocks, free, holes, books, np.int64(0), resident[index])
        if row == _NONE:
            fits = False
            break
        live[resident_keys[index]] = row
    event = 0
    for span in range(len(bounds)):
        for end in range(2):
            if end == 1:
                retries = books[_RETRIES]
                books[_PEAK_ALIVE] = 0
                books[_PEAK_RESERVED] = books[_RESERVED]
            while fits and event < bounds[span, end]:
                kind, size = kinds[event], sizes[event]
                if kind == RELEASE:
                    _release(blocks, free, books, live[keys[event]])
                    event += 1
                    continue
                stream = np.int64(kind == LOAD)
                row = _allocate(blocks, free, holes, books, stream, size)
                if row == _NONE:
                    fits = False
                    break
                alive = books[_ALLOCATED] + beside[event]
                if alive > books[_PEAK_ALIVE]:
                    books[_PEAK_ALIVE] = alive
                if kind == ALLOCATE or kind == LOAD:
                    live[keys[event]] = row
                else:
                    _release(blocks, free, books, row)
                event += 1
        found[span, 0] = books[_PEAK_ALIVE]
        found[span, 1] = books[_PEAK_RESERVED]
        found[span, 2] = books[_MOST_ASKED]
        found[span, 3] = books[_RETRIES] - retries
        found[span, 4] = books[_RETRIES]
        found[span, 5] = fits
    return found
