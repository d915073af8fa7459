"""The allocator of `allocator.py` over arrays of integers, of which numba makes machine code.

`allocator.py` has the rules and their sources; a test compares the two. Only large blocks come
here: of the main stream, and of the one that streamed weights are copied on.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from webui.estimator.allocator import MIN_LARGE_SEGMENT, ROUND_LARGE
from webui.estimator.blocks import LARGE_SEGMENT, SMALL_SIZE
from webui.estimator.tape import ROUND_BYTES

Array = np.ndarray

# Columns of `blocks`, a row each.
_ADDRESS, _SIZE, _BEFORE, _AFTER, _STATE, _STREAM, _PLACE = range(7)
COLUMNS = 7
_USED, _FREE, _HOLE = range(3)
"""States: a hole is free and not mapped."""
NONE = -1
STREAMS = 2
_NOTHING = np.int64(2**62)
"""More than any size or address."""
# Entries of `books`; free blocks and holes have one for each stream.
(
    ALLOCATED, RESERVED, PEAK_RESERVED, PEAK_ALIVE, MOST_ASKED, RETRIES, _NEXT_ADDRESS,
    _NEXT_ROW, _SPARE, _LIMIT, _EXPANDABLE, _FREE_COUNT, _HOLE_COUNT,
) = (*range(12), 13)  # fmt: skip
_ENTRIES = 15
_SPACE = LARGE_SEGMENT << 26
"""Addresses of an expandable segment: more than any card, and whole units."""


@njit
def open_books(expandable: bool, limit: int) -> Array:
    """The books of an allocator that has nothing yet."""
    books = np.zeros(_ENTRIES, np.int64)
    books[_NEXT_ADDRESS] = _SPACE
    books[_SPARE] = NONE
    books[_LIMIT] = limit
    books[_EXPANDABLE] = expandable
    return books


@njit
def allocate(blocks: Array, free: Array, holes: Array, books: Array, stream: int, size: int) -> int:
    """The row of a block; NONE where it does not fit even after a release of the cache."""
    row = _best_fit(blocks, free, books, stream, size)
    if row != NONE:
        _remove(blocks, free, books, row)
    else:
        row = _new_block(blocks, free, holes, books, stream, size)
        if row == NONE:
            books[RETRIES] += 1
            _empty_cache(blocks, free, holes, books)
            row = _new_block(blocks, free, holes, books, stream, size)
            if row == NONE:
                return NONE
    smallest_rest = ROUND_BYTES if books[_EXPANDABLE] else SMALL_SIZE + 1
    if blocks[row, _SIZE] - size >= smallest_rest:
        rest = _split(blocks, books, row, size)
        blocks[rest, _STATE] = _FREE
        _add(blocks, free, books, rest)
    blocks[row, _STATE] = _USED
    books[ALLOCATED] += blocks[row, _SIZE]
    return row


@njit
def release(blocks: Array, free: Array, books: Array, row: int) -> None:
    """Takes a block back into the cache, merged with its free neighbours."""
    books[ALLOCATED] -= blocks[row, _SIZE]
    after = blocks[row, _AFTER]
    if after != NONE and blocks[after, _STATE] == _FREE:
        _remove(blocks, free, books, after)
        _absorb_next(blocks, books, row)
    before = blocks[row, _BEFORE]
    if before != NONE and blocks[before, _STATE] == _FREE:
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
    if row == NONE:
        row = books[_NEXT_ROW]
        books[_NEXT_ROW] += 1
    else:
        books[_SPARE] = blocks[row, _AFTER]
    blocks[row, _ADDRESS] = address
    blocks[row, _SIZE] = size
    blocks[row, _BEFORE] = NONE
    blocks[row, _AFTER] = NONE
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
    if after != NONE:
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
    if after != NONE:
        blocks[after, _BEFORE] = row
    _give_back(blocks, books, other)


# Free blocks in no order: rows in `free[stream]`, and their sizes side by side in
# `free[STREAMS + stream]`


@njit
def _add(blocks: Array, free: Array, books: Array, row: int) -> None:
    stream = blocks[row, _STREAM]
    place = books[_FREE_COUNT + stream]
    free[stream, place], free[STREAMS + stream, place] = row, blocks[row, _SIZE]
    blocks[row, _PLACE] = place
    books[_FREE_COUNT + stream] = place + 1


@njit
def _remove(blocks: Array, free: Array, books: Array, row: int) -> None:
    """The last one takes its place."""
    stream, place = blocks[row, _STREAM], blocks[row, _PLACE]
    last = books[_FREE_COUNT + stream] - 1
    moved = free[stream, last]
    free[stream, place], free[STREAMS + stream, place] = moved, free[STREAMS + stream, last]
    blocks[moved, _PLACE] = place
    books[_FREE_COUNT + stream] = last


@njit
def _room(blocks: Array, row: int) -> int:
    """A block that can grow into unmapped space counts with that space."""
    after = blocks[row, _AFTER]
    if after != NONE and blocks[after, _STATE] == _HOLE:
        return blocks[row, _SIZE] + blocks[after, _SIZE]
    return blocks[row, _SIZE]


@njit
def _smallest(blocks: Array, free: Array, books: Array, stream: int, size: int) -> int:
    """The row of the smallest free block of at least a size, the lowest of equals; NONE without
    one."""
    count, rows, sizes = books[_FREE_COUNT + stream], free[stream], free[STREAMS + stream]
    # Two passes: the first has no branch to guess.
    least = _NOTHING
    for place in range(count):
        least = min(least, sizes[place] if sizes[place] >= size else _NOTHING)
    found, lowest = NONE, _NOTHING
    if least != _NOTHING:
        for place in range(count):
            if sizes[place] == least and blocks[rows[place], _ADDRESS] < lowest:
                found = rows[place]
                lowest = blocks[found, _ADDRESS]
    return found


@njit
def _following(blocks: Array, free: Array, books: Array, row: int) -> int:
    """The row of the free block that is next by size and then by address; NONE without one."""
    stream, size, address = blocks[row, _STREAM], blocks[row, _SIZE], blocks[row, _ADDRESS]
    found, lowest = NONE, _NOTHING
    for place in range(books[_FREE_COUNT + stream]):
        other = free[stream, place]
        start = blocks[other, _ADDRESS]
        if blocks[other, _SIZE] == size and address < start < lowest:
            found, lowest = other, start
    if found == NONE:
        found = _smallest(blocks, free, books, stream, size + 1)
    return found


@njit
def _best_fit(blocks: Array, free: Array, books: Array, stream: int, size: int) -> int:
    """The row of the free block to take; NONE without one."""
    row = _smallest(blocks, free, books, stream, size)
    if row == NONE:
        return NONE
    room = _room(blocks, row)
    while room > blocks[row, _SIZE]:
        following = _following(blocks, free, books, row)
        if following == NONE or _room(blocks, following) >= room:
            break
        row = following
        room = _room(blocks, row)
    return row


# New memory


@njit
def _reserve(books: Array, size: int) -> None:
    books[RESERVED] += size
    if books[RESERVED] > books[PEAK_RESERVED]:
        books[PEAK_RESERVED] = books[RESERVED]


@njit
def _new_block(
    blocks: Array, free: Array, holes: Array, books: Array, stream: int, size: int
) -> int:
    segment = LARGE_SEGMENT
    if size >= MIN_LARGE_SEGMENT:
        segment = (size + ROUND_LARGE - 1) // ROUND_LARGE * ROUND_LARGE
    asked = books[RESERVED] + segment
    if asked > books[_LIMIT]:
        return NONE
    if asked > books[MOST_ASKED]:
        books[MOST_ASKED] = asked
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
        row = _map(blocks, free, holes, books, row, min(blocks[row, _SIZE], size))
    while blocks[row, _SIZE] < size:
        hole = blocks[row, _AFTER]
        missing = size - blocks[row, _SIZE]
        row = _map(blocks, free, holes, books, hole, min(blocks[hole, _SIZE], missing))
    _remove(blocks, free, books, row)
    return row


@njit
def _stretch_to_grow(blocks: Array, holes: Array, books: Array, stream: int, size: int) -> int:
    """The lowest run of free blocks and holes with `size` bytes of addresses."""
    found, lowest = NONE, 0
    for index in range(books[_HOLE_COUNT + stream]):
        start = holes[stream, index]
        before = blocks[start, _BEFORE]
        if before != NONE and blocks[before, _STATE] == _FREE:
            start = before
        room, row = 0, start
        while room < size and row != NONE and blocks[row, _STATE] != _USED:
            room += blocks[row, _SIZE]
            row = blocks[row, _AFTER]
        if room >= size and (found == NONE or blocks[start, _ADDRESS] < lowest):
            found, lowest = start, blocks[start, _ADDRESS]
    if found == NONE:
        address = books[_NEXT_ADDRESS] + _SPACE
        books[_NEXT_ADDRESS] = address + _SPACE
        found = _new_row(blocks, books, address, np.int64(_SPACE), stream)
        _add_hole(blocks, holes, books, found)
    return found


@njit
def _map(blocks: Array, free: Array, holes: Array, books: Array, hole: int, size: int) -> int:
    """Maps the first `size` bytes of a hole, rounded up to whole units; the row of the free block
    that they are now, with the free neighbours."""
    size = min(blocks[hole, _SIZE], (size + LARGE_SEGMENT - 1) // LARGE_SEGMENT * LARGE_SEGMENT)
    _reserve(books, size)
    _forget_hole(blocks, holes, books, hole)
    blocks[hole, _STATE] = _FREE
    if size < blocks[hole, _SIZE]:
        _add_hole(blocks, holes, books, _split(blocks, books, hole, size))
    row = hole
    before, after = blocks[hole, _BEFORE], blocks[hole, _AFTER]
    if before != NONE and blocks[before, _STATE] == _FREE:
        _remove(blocks, free, books, before)
        _absorb_next(blocks, books, before)
        row = before
    if after != NONE and blocks[after, _STATE] == _FREE:
        _remove(blocks, free, books, after)
        _absorb_next(blocks, books, row)
    _add(blocks, free, books, row)
    return row


@njit
def _add_hole(blocks: Array, holes: Array, books: Array, row: int) -> None:
    blocks[row, _STATE] = _HOLE
    place = _HOLE_COUNT + blocks[row, _STREAM]
    holes[blocks[row, _STREAM], books[place]] = row
    books[place] += 1


@njit
def _forget_hole(blocks: Array, holes: Array, books: Array, row: int) -> None:
    """The last hole takes its place: they have no order."""
    known = holes[blocks[row, _STREAM]]
    place = _HOLE_COUNT + blocks[row, _STREAM]
    books[place] -= 1
    for index in range(books[place]):
        if known[index] == row:
            known[index] = known[books[place]]
            break


# Memory given back


@njit
def _empty_cache(blocks: Array, free: Array, holes: Array, books: Array) -> None:
    for stream in range(STREAMS):
        for row in free[stream, : books[_FREE_COUNT + stream]].copy():
            if books[_EXPANDABLE]:
                _unmap(blocks, free, holes, books, row)
            elif blocks[row, _BEFORE] == NONE and blocks[row, _AFTER] == NONE:
                _remove(blocks, free, books, row)
                books[RESERVED] -= blocks[row, _SIZE]
                _give_back(blocks, books, row)


@njit
def _unmap(blocks: Array, free: Array, holes: Array, books: Array, row: int) -> None:
    address, end = blocks[row, _ADDRESS], blocks[row, _ADDRESS] + blocks[row, _SIZE]
    low = (address + LARGE_SEGMENT - 1) // LARGE_SEGMENT * LARGE_SEGMENT
    high = end // LARGE_SEGMENT * LARGE_SEGMENT
    if high <= low:
        return
    _remove(blocks, free, books, row)
    books[RESERVED] -= high - low
    if end > high:
        _add(blocks, free, books, _split(blocks, books, row, high - address))
    hole = row
    if low > address:
        hole = _split(blocks, books, row, low - address)
        _add(blocks, free, books, row)
    after, before = blocks[hole, _AFTER], blocks[hole, _BEFORE]
    if after != NONE and blocks[after, _STATE] == _HOLE:
        _forget_hole(blocks, holes, books, after)
        _absorb_next(blocks, books, hole)
    if before != NONE and blocks[before, _STATE] == _HOLE:
        _absorb_next(blocks, books, before)
    else:
        _add_hole(blocks, holes, books, hole)
