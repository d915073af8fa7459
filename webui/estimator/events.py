"""The allocations of one phase, put together from tapes, and what they come to.

Two readings: live bytes (numpy, microseconds) and a replay through the simulated allocator
(milliseconds), which also gives what is reserved and whether a limit is met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from webui.estimator.replay import Replay, replay_spans
from webui.estimator.tape import ALLOCATE, NONE, RELEASE, ROUND_BYTES, Tape
from webui.estimator.timeline import Span, Timeline

_GONE = -1


@lru_cache(maxsize=256)
def _of_kind(kind: int, count: int) -> np.ndarray:
    """Kinds of events by hand; not to be written to."""
    return np.full(count, kind, dtype=np.int8)


def _joined(parts: list[np.ndarray], kind: type[np.integer[Any]]) -> np.ndarray:
    return np.concatenate(parts, dtype=kind) if parts else np.empty(0, kind)


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
    """Bytes as a function of the shape of what is played, e.g. `6144*f*h*w`; empty where they have
    none."""


class _Source(NamedTuple):
    """What some events are of."""

    what: str
    tape: Tape | None = None
    offset: int = 0
    """Where in the tape they begin."""
    lasting: str = ""
    """The name of those of the tape's storages that live on, where they have another."""
    first: int = 0
    """Key of the tape's first storage."""

    def of(self, key: int, event: int) -> str:
        """The name of a storage, from the event of the tape that it is in."""
        if self.tape is None:
            return self.what
        if self.lasting and key - self.first in self.tape.surviving:
            return self.lasting
        return self.tape.part_of(event) or self.what


class PhaseEvents:
    """A growing list of events, starting from what is resident."""

    def __init__(self, resident: Iterable[Part | np.ndarray]) -> None:
        named = [part if isinstance(part, Part) else Part("", part) for part in resident]
        parts = [np.asarray(part.sizes, dtype=np.int64) for part in named]
        self._parts = tuple(
            Part(part.name, -(-sizes // ROUND_BYTES) * ROUND_BYTES)
            for part, sizes in zip(named, parts, strict=True)
        )
        sizes = np.concatenate(parts) if parts else np.empty(0, np.int64)
        self._resident = -(-sizes // ROUND_BYTES) * ROUND_BYTES
        self._kinds: list[np.ndarray] = []
        self._keys: list[np.ndarray] = []
        self._deltas: list[np.ndarray] = []
        self._sources: list[_Source] = []
        self._sizes = self._resident.copy()
        """Bytes of each key's storage; below zero where there is none. Longer than the keys are."""
        self._next_key = len(sizes)
        self._timeline: Timeline | None = None
        self._due: tuple[tuple[int, ...], str] | None = None
        """Storages that come with the first product, and what they are."""
        self._settled: tuple[int, ...] = ()
        self.unseen_bytes = 0
        """What is reserved because of events that were left out."""
        self.stands_for: tuple[PhaseEvents, ...] = ()
        """Others, whose peaks are no higher, but which may reserve more."""
        self._beyond: dict[bool, int] = {}

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is resident, in whole blocks."""
        return self._parts

    @property
    def resident_bytes(self) -> int:
        return int(self._resident.sum())

    def sizes_of(self, keys: Sequence[int] | np.ndarray) -> np.ndarray:
        """Bytes of storages, in whole blocks; below zero of those that are not alive."""
        sizes: np.ndarray = self._sizes[np.asarray(keys, dtype=np.int64)]
        return sizes

    def allocate(self, size_bytes: float, what: str = "") -> int:
        """One storage by hand; returns its key. `what` it is, is for explanations."""
        size = rounded(size_bytes)
        key = self._new_keys(np.array([size]))
        self._append(_of_kind(ALLOCATE, 1), np.array([key]), np.array([size]), _Source(what))
        return key

    def allocate_all(
        self, sizes_bytes: Sequence[float] | np.ndarray, what: str = ""
    ) -> tuple[int, ...]:
        """Storages by hand, one after the other; returns their keys."""
        sizes = -(-np.asarray(sizes_bytes).astype(np.int64) // ROUND_BYTES) * ROUND_BYTES
        first = self._new_keys(sizes)
        keys = range(first, self._next_key)
        if len(sizes):
            self._append(
                _of_kind(ALLOCATE, len(sizes)),
                np.arange(first, self._next_key),
                sizes,
                _Source(what),
            )
        return tuple(keys)

    def allocate_at_product(self, sizes_bytes: Sequence[int], what: str) -> None:
        """Storages that come with the first matrix product of what is played from here on; with the
        next tape, where nobody knows whether it has one."""
        assert self._due is None and not self._settled, "they come once"
        self._due = tuple(sizes_bytes), what

    def _settle(self) -> None:
        if self._due is not None:
            due, self._due = self._due, None
            self._settled = self.allocate_all(*due)

    def size_of(self, key: int) -> int:
        """Bytes of a storage that is alive."""
        return int(self._sizes[key])

    def release(self, *keys: int) -> None:
        self.release_all(np.array(keys, dtype=np.int64))

    def release_all(self, keys: np.ndarray) -> None:
        """As `release`, of many."""
        if not len(keys):
            return
        sizes = self._taken(keys)
        assert (sizes >= 0).all(), "what is released is there"
        self._append(_of_kind(RELEASE, len(keys)), keys, -sizes, _Source(""))

    def release_made(self) -> None:
        """Frees what was made and still lives; what is resident stays, and so does what came with
        the first product."""
        made = np.arange(len(self._resident), self._next_key)
        alive = self._sizes[len(self._resident) : self._next_key] >= 0
        self.release_all(made[alive & ~np.isin(made, self._settled)])

    def _new_keys(self, sizes: np.ndarray) -> int:
        """Keys for storages; returns the first of them. Sizes below zero are of no storage."""
        first = self._next_key
        self._next_key += len(sizes)
        if self._next_key > len(self._sizes):
            longer = np.full(2 * self._next_key, _GONE)
            longer[:first] = self._sizes[:first]
            self._sizes = longer
        self._sizes[first : self._next_key] = sizes
        return first

    def _taken(self, keys: np.ndarray) -> np.ndarray:
        """Bytes of storages that are there no more from now on."""
        sizes: np.ndarray = self._sizes[keys]
        self._sizes[keys] = _GONE
        return sizes

    def play(
        self,
        tape: Tape,
        shape: Mapping[str, float],
        outside: tuple[int, ...] = (),
        what: str = "",
        on_call: Callable[[int], None] | None = None,
        lasting: str = "",
    ) -> dict[int, int]:
        """Appends a tape at a shape.

        Args:
            tape: the events.
            shape: value of each of the tape's variables.
            outside: keys of the storages that the tape's negative slots -1, -2, ... free.
            what: name of the tape, for explanations.
            on_call: appends what belongs at each of the tape's CALLs; gets its count.
            lasting: what its storages are that live on, where they have another name.

        Returns:
            Keys of the storages that live on, by their slot.
        """
        freed = np.array(outside, dtype=np.int64)
        first = self.play_all(tape, shape, freed, what, on_call, lasting)
        return {slot: first + slot for slot in tape.survivors.tolist()}

    def play_all(
        self,
        tape: Tape,
        shape: Mapping[str, float],
        outside: np.ndarray,
        what: str = "",
        on_call: Callable[[int], None] | None = None,
        lasting: str = "",
    ) -> int:
        """As `play`, of tapes that leave many storages.

        Returns:
            Key of the tape's slot 0; those of the other slots follow it.
        """
        if tape.first_product is None:
            self._settle()
        sized = tape.sized(shape)
        taken = self._taken(outside)
        first = self._new_keys(sized.left)
        keys, deltas = tape.slot + first, sized.deltas
        if len(outside):
            freed = tape.frees_outside
            # Slot -1 is the first of `outside`.
            which = -1 - tape.slot[freed]
            keys[freed] = outside[which]
            deltas = deltas.copy()
            deltas[freed] = -np.maximum(taken, 0)[which]
        begin = 0

        def append(end: int) -> None:
            part = slice(begin, end)
            source = _Source(what, tape, begin, lasting, first)
            self._append(tape.kind[part], keys[part], deltas[part], source)

        for index, called in self._stops(tape, shape):
            append(index if called is not None else index + 1)
            begin = index + 1
            if called is None:
                self._settle()
            elif on_call is not None:
                on_call(called)
        append(len(keys))
        return first

    def _stops(self, tape: Tape, shape: Mapping[str, float]) -> list[tuple[int, int | None]]:
        """The tape's CALLs with what they are about, and None at the product that is waited for."""
        calls = tape.calls
        stops: list[tuple[int, int | None]] = []
        if calls:
            stops += zip(calls, tape.counts(shape), strict=True)
        if self._due is not None and tape.first_product is not None and tape.first_product != NONE:
            stops = sorted([*stops, (tape.first_product, None)], key=itemgetter(0))
        return stops

    def _append(
        self, kinds: np.ndarray, keys: np.ndarray, deltas: np.ndarray, source: _Source
    ) -> None:
        self._timeline = None
        self._sources.append(source)
        self._kinds.append(kinds)
        self._keys.append(keys)
        self._deltas.append(deltas)

    def timeline(self) -> Timeline:
        """All events in order."""
        if self._timeline is None:
            self._timeline = Timeline(
                resident=self._resident,
                kinds=_joined(self._kinds, np.int8),
                keys=_joined(self._keys, np.int32),
                deltas=_joined(self._deltas, np.int64),
            )
        return self._timeline

    @property
    def events(self) -> int:
        """How many there are so far."""
        return sum(len(part) for part in self._kinds)

    def peak_live_bytes(self, with_scratch: bool = True) -> int:
        """Most bytes alive at once, the resident ones included.

        Args:
            with_scratch: count the scratch of single operations (a GPU has it).
        """
        if not self.events:
            return self.resident_bytes
        return self.resident_bytes + max(0, self.timeline().most_live(with_scratch))

    def live_at_peak(self, with_scratch: bool = True) -> list[Live]:
        """What is alive beside the resident storages when most bytes are; the largest first.

        With the resident bytes they add up to `peak_live_bytes`: a resident storage that was
        freed before the peak is there with its bytes below zero.
        """
        if self.peak_live_bytes(with_scratch) <= self.resident_bytes:
            return []
        timeline = self.timeline()
        peak = int(timeline.live(with_scratch).argmax())
        return self.described(timeline.changed(0, peak, with_scratch))

    def described(self, indices: Iterable[int]) -> list[Live]:
        """Events with what they are of, the largest first."""
        starts = np.cumsum([0, *(len(part) for part in self._kinds)])
        found = []
        for index in indices:
            chunk = int(np.searchsorted(starts, index, side="right")) - 1
            source, place = self._sources[chunk], index - int(starts[chunk])
            event = place + source.offset
            name = source.of(int(self._keys[chunk][place]), event)
            formula = source.tape.formula(event) if source.tape else ""
            kind, delta = self._kinds[chunk][place], self._deltas[chunk][place]
            found.append(Live(name, int(kind), int(delta), formula))
        return sorted(found, key=lambda item: -item.size_bytes)

    def replay(self, expandable: bool, limit_bytes: int | None) -> Replay:
        """Runs the events through the simulated allocator."""
        whole = Span(0, self.events)
        found = replay_spans(self.timeline(), [whole], expandable, limit_bytes)[0]
        unseen = self.unseen_bytes + self._reserved_beyond(expandable)
        reserved = found.reserved_bytes + unseen
        if limit_bytes is not None:
            reserved = min(reserved, limit_bytes)
        asked = found.asked_bytes + unseen
        return replace(found, reserved_bytes=reserved, asked_bytes=asked)

    def _reserved_beyond(self, expandable: bool) -> int:
        """How much more than these one of those that they stand for reserves, without a limit."""
        if self.stands_for and expandable not in self._beyond:
            own, *others = (
                replay_spans(
                    events.timeline(), [Span(0, events.events)], expandable, limit_bytes=None
                )[0].reserved_bytes
                for events in (self, *self.stands_for)
            )
            self._beyond[expandable] = max(0, max(others) - own)
        return self._beyond.get(expandable, 0)
