"""The allocations of one phase, put together from tapes, and what they come to.

Two readings: live bytes (numpy, microseconds) and a replay through the simulated allocator
(milliseconds), which also gives what is reserved and whether a limit is met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from webui.estimator.allocator import (
    ROUND_BYTES,
    SMALL_SEGMENT,
    SMALL_SIZE,
    CachingAllocator,
    SimulatedOutOfMemory,
)
from webui.estimator.tape import ALLOCATE, CALL, LOAD, RELEASE, SCRATCH, Tape

COPY_STREAM = 1
"""Streamed weights are copied, and allocated, on a stream of their own."""


def rounded(size_bytes: float) -> int:
    return -(-int(size_bytes) // ROUND_BYTES) * ROUND_BYTES


@dataclass(frozen=True, slots=True)
class Part:
    """Storages that are there when a phase starts, by the name of what they are."""

    name: str
    """A component whose weights they are, or `embeddings`, `latents`, ..."""
    sizes: np.ndarray
    """Bytes of each storage."""


@dataclass(frozen=True, slots=True)
class Live:
    """One storage that is alive at a phase's peak."""

    source: str
    """The tape, or what was allocated by hand."""
    kind: int
    """ALLOCATE, SCRATCH or LOAD; RELEASE for a resident storage that is gone by then."""
    size_bytes: int
    formula: str
    """Bytes as a function of the shape, e.g. `6144*f*h*w`; empty for what came by hand."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay came to."""

    allocated_bytes: int
    reserved_bytes: int
    resident_bytes: int
    fits: bool
    retries: int
    """How often the allocator had to release its cache."""


class PhaseEvents:
    """A growing list of events, starting from what is resident."""

    def __init__(self, resident: Iterable[Part | np.ndarray]) -> None:
        named = [part if isinstance(part, Part) else Part("", part) for part in resident]
        parts = [np.asarray(part.sizes, dtype=np.int64) for part in named]
        self.parts = tuple(
            Part(part.name, -(-sizes // ROUND_BYTES) * ROUND_BYTES)
            for part, sizes in zip(named, parts, strict=True)
        )
        """What is resident, in whole blocks."""
        sizes = np.concatenate(parts) if parts else np.empty(0, np.int64)
        self._resident = -(-sizes // ROUND_BYTES) * ROUND_BYTES
        self._kinds: list[np.ndarray] = []
        self._keys: list[np.ndarray] = []
        self._deltas: list[np.ndarray] = []
        self._sources: list[tuple[str, Tape | None, int]] = []
        self._size_of: dict[int, int] = dict(enumerate(self._resident.tolist()))
        self._next_key = len(sizes)
        self.unseen_bytes = 0
        """What is reserved because of events that were left out."""

    @property
    def resident_bytes(self) -> int:
        return int(self._resident.sum())

    def sizes_of(self, keys: Iterable[int]) -> np.ndarray:
        """Bytes of storages that are alive, in whole blocks."""
        return np.array([self._size_of[key] for key in keys], dtype=np.int64)

    def allocate(self, size_bytes: float, what: str = "") -> int:
        """One storage by hand; returns its key. `what` it is, is for explanations."""
        key, size = self._next_key, rounded(size_bytes)
        self._next_key += 1
        self._size_of[key] = size
        self._append(np.array([ALLOCATE]), np.array([key]), np.array([size]), what)
        return key

    def size_of(self, key: int) -> int:
        """Bytes of a storage that is alive."""
        return self._size_of[key]

    def release(self, *keys: int) -> None:
        if not keys:
            return
        sizes = [-self._size_of.pop(key) for key in keys]
        self._append(np.full(len(keys), RELEASE), np.array(keys), np.array(sizes))

    def play(
        self,
        tape: Tape,
        shape: Mapping[str, float],
        outside: tuple[int, ...] = (),
        what: str = "",
        on_call: Callable[[int], None] | None = None,
    ) -> dict[int, int]:
        """Appends a tape at a shape.

        Args:
            tape: the events.
            shape: value of each of the tape's variables.
            outside: keys of the storages that the tape's negative slots -1, -2, ... free.
            what: name of the tape, for explanations.
            on_call: appends what belongs at each of the tape's CALLs; gets its count.

        Returns:
            Keys of the storages that live on, by their slot.
        """
        sizes = tape.sizes(shape)
        slot = tape.slot
        count = int(slot.max(initial=-1)) + 1
        by_slot = np.zeros(count + len(outside), dtype=np.int64)
        keys_by_slot = np.concatenate(
            [np.arange(count) + self._next_key, np.array(outside[::-1], dtype=np.int64)]
        )
        # Slot -1 is the first of `outside`: laid out backwards, numpy's negative index finds it.
        for index, key in enumerate(outside):
            by_slot[-1 - index] = self._size_of.pop(key, 0)
        born = (tape.kind == ALLOCATE) | (tape.kind == LOAD)
        by_slot[slot[born]] = sizes[born]
        gone = tape.kind == RELEASE
        deltas = np.where(gone, -by_slot[slot], sizes)
        self._next_key += count
        keys = keys_by_slot[slot]
        begin = 0
        for index, called in zip(
            np.flatnonzero(tape.kind == CALL).tolist(), tape.counts(shape), strict=True
        ):
            part = slice(begin, index)
            self._append(tape.kind[part], keys[part], deltas[part], what, tape, begin)
            if on_call is not None:
                on_call(called)
            begin = index + 1
        self._append(tape.kind[begin:], keys[begin:], deltas[begin:], what, tape, begin)
        alive = np.zeros(len(by_slot), dtype=bool)
        alive[slot[born]] = True
        alive[slot[gone]] = False
        survivors = {index: int(keys_by_slot[index]) for index in np.flatnonzero(alive).tolist()}
        for index, key in survivors.items():
            self._size_of[key] = int(by_slot[index])
        return survivors

    def _append(
        self,
        kinds: np.ndarray,
        keys: np.ndarray,
        deltas: np.ndarray,
        what: str = "",
        tape: Tape | None = None,
        offset: int = 0,
    ) -> None:
        self._sources.append((what, tape, offset))
        self._kinds.append(kinds)
        self._keys.append(keys)
        self._deltas.append(deltas)

    def peak_live_bytes(self, with_scratch: bool = True) -> int:
        """Most bytes alive at once, the resident ones included.

        Args:
            with_scratch: count the convolution library's scratch (a GPU has it).
        """
        if not self._kinds:
            return self.resident_bytes
        kinds, deltas = np.concatenate(self._kinds), np.concatenate(self._deltas)
        scratch = kinds == SCRATCH
        live = np.cumsum(np.where(scratch, 0, deltas))
        if with_scratch:
            live = live + np.where(scratch, deltas, 0)
        return self.resident_bytes + max(0, int(live.max()))

    def live_at_peak(self, with_scratch: bool = True) -> list[Live]:
        """What is alive beside the resident storages when most bytes are; the largest first.

        With the resident bytes they add up to `peak_live_bytes`: a resident storage that was
        freed before the peak is there with its bytes below zero.
        """
        if self.peak_live_bytes(with_scratch) <= self.resident_bytes:
            return []
        kinds, deltas = np.concatenate(self._kinds), np.concatenate(self._deltas)
        keys = np.concatenate(self._keys)
        scratch = kinds == SCRATCH
        live = np.cumsum(np.where(scratch, 0, deltas))
        if with_scratch:
            live = live + np.where(scratch, deltas, 0)
        peak = int(live.argmax())
        born: dict[int, int] = {}
        freed = []
        for index in range(peak + 1):
            if kinds[index] == RELEASE:
                if born.pop(int(keys[index]), None) is None:
                    freed.append(index)
            elif not scratch[index]:
                born[int(keys[index])] = index
        indices = [*born.values(), *freed, *([peak] if scratch[peak] and with_scratch else [])]
        starts = np.cumsum([0, *(len(part) for part in self._kinds)])
        found = []
        for index in indices:
            chunk = int(np.searchsorted(starts, index, side="right")) - 1
            what, tape, offset = self._sources[chunk]
            event = index - int(starts[chunk]) + offset
            formula = tape.formula(event) if tape is not None else ""
            found.append(Live(what, int(kinds[index]), int(deltas[index]), formula))
        return sorted(found, key=lambda item: -item.size_bytes)

    def _resident_blocks(self, released: set[int] | None) -> Iterator[tuple[int, int]]:
        """Keys and bytes of the large resident storages, in order.

        Args:
            released: keys of what is freed later; neighbours that stay are then one block, as an
                expandable segment lays them beside each other. None where each has its segment.
        """
        stays: tuple[int, int] | None = None
        for key in np.flatnonzero(self._resident > SMALL_SIZE).tolist():
            size = int(self._resident[key])
            if released is not None and key not in released:
                stays = (key, size) if stays is None else (stays[0], stays[1] + size)
                continue
            if stays is not None:
                yield stays
                stays = None
            yield key, size
        if stays is not None:
            yield stays

    def replay(self, expandable: bool, limit_bytes: int | None) -> Replay:
        """Runs the events through the simulated allocator.

        Only blocks of the large pool are simulated one by one. The small pool, half of all
        events and a hundredth of the bytes, packs densely: it is taken as its most live bytes,
        rounded up to its segments.
        """
        none = np.empty(0, np.int64)
        kinds = np.concatenate(self._kinds) if self._kinds else none
        keys = np.concatenate(self._keys) if self._keys else none
        deltas = np.concatenate(self._deltas) if self._deltas else none
        small = np.abs(deltas) <= SMALL_SIZE
        resident_small = self._resident <= SMALL_SIZE
        small_live = int(self._resident[resident_small].sum()) + np.cumsum(
            np.where(small & (kinds != SCRATCH), deltas, 0)
        )
        most_small = int(max(small_live.max(initial=0), self._resident[resident_small].sum()))
        small_reserved = -(-most_small // SMALL_SEGMENT) * SMALL_SEGMENT
        large_limit = None if limit_bytes is None else limit_bytes - small_reserved
        allocator = CachingAllocator(expandable, large_limit)
        large = np.flatnonzero(~small)
        fits = True
        most_allocated = self.resident_bytes
        released = set(keys[kinds == RELEASE].tolist()) if expandable else None
        try:
            for key, size in self._resident_blocks(released):
                allocator.allocate(key, size)
            for kind, key, delta, beside in zip(
                kinds[large].tolist(),
                keys[large].tolist(),
                deltas[large].tolist(),
                small_live[large].tolist(),
                strict=True,
            ):
                if kind == RELEASE:
                    allocator.release(key)
                    continue
                if kind == SCRATCH:
                    live = allocator.allocated_bytes + allocator.pass_through(delta)
                else:
                    allocator.allocate(key, delta, COPY_STREAM if kind == LOAD else 0)
                    live = allocator.allocated_bytes
                if live + beside > most_allocated:
                    most_allocated = live + beside
        except SimulatedOutOfMemory:
            fits = False
        reserved = allocator.peak_reserved_bytes + small_reserved + self.unseen_bytes
        return Replay(
            allocated_bytes=max(most_allocated, self.peak_live_bytes()),
            reserved_bytes=reserved if limit_bytes is None else min(reserved, limit_bytes),
            resident_bytes=self.resident_bytes,
            fits=fits,
            retries=allocator.retries,
        )
