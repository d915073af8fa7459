"""Segments: tapes of single layers, joined into the tape of a whole pass for any number of layers.

A segment frees storages of other ones. It names them by the layer's distance, where the layers
repeat, or as those of a tower's first or last layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from webui.estimator.tape import ALLOCATE, LOAD, RELEASE, Tape
from webui.estimator.tape_builder import TapeParts, renumbered

DIRECTIONS = ("forward", "backward")
TOWERS = ("", "vision", "text")
"""The empty one is what comes before all layers."""
PLACES = ("first", "middle", "last")
RELATIVE, FIRST, LAST, ONLY = range(4)
"""How a reference names the layer of a tower."""


class Reference(NamedTuple):
    """A storage of another segment: `direction`, `tower` and `how` by number."""

    direction: int
    tower: int
    how: int
    distance: int
    """Layers from the segment's own, where `how` is RELATIVE."""
    slot: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One layer's part of a pass."""

    tape: Tape
    outside: tuple[Reference, ...]
    """For each negative slot of the tape: what it frees."""


def pack(segments: Mapping[str, Segment], prefix: str) -> dict[str, np.ndarray]:
    """A few arrays for one `.npz` file, whatever the number of segments; `unpack` takes them back.

    Args:
        segments: by name; their tapes have the same terms.
        prefix: of the arrays' names.
    """
    tapes = [segment.tape for segment in segments.values()]
    coefficients = np.concatenate([tape.coefficients for tape in tapes])
    rows, index = np.unique(coefficients, axis=0, return_inverse=True)
    outside = [reference for segment in segments.values() for reference in segment.outside]
    return {
        f"{prefix}.names": np.array(list(segments)),
        f"{prefix}.terms": np.array(["*".join(names) for names in tapes[0].products]),
        f"{prefix}.events": np.array([len(tape.kind) for tape in tapes], dtype=np.int32),
        f"{prefix}.kind": np.concatenate([tape.kind for tape in tapes]).astype(np.int8),
        f"{prefix}.slot": np.concatenate([tape.slot for tape in tapes]).astype(np.int16),
        f"{prefix}.rows": rows,
        f"{prefix}.index": index.reshape(-1).astype(np.int16),
        f"{prefix}.references": np.array(
            [len(segment.outside) for segment in segments.values()], dtype=np.int32
        ),
        f"{prefix}.outside": np.array(outside, dtype=np.int16).reshape(-1, len(Reference._fields)),
    }


def unpack(array: Callable[[str], np.ndarray], prefix: str) -> dict[str, Segment]:
    """The segments that `pack` wrote.

    Args:
        array: gives an array by its name.
        prefix: of the arrays' names.
    """
    products = [str(names) for names in array(f"{prefix}.terms")]
    terms = tuple(tuple(names.split("*")) if names else () for names in products)
    kind, slot = array(f"{prefix}.kind"), array(f"{prefix}.slot").astype(np.int32)
    coefficients = array(f"{prefix}.rows")[array(f"{prefix}.index")]
    outside = [Reference(*row) for row in array(f"{prefix}.outside").tolist()]
    ends = np.cumsum(array(f"{prefix}.events")).tolist()
    last = np.cumsum(array(f"{prefix}.references")).tolist()
    segments = {}
    for index, name in enumerate(array(f"{prefix}.names").tolist()):
        part = slice(ends[index - 1] if index else 0, ends[index])
        own = slice(last[index - 1] if index else 0, last[index])
        tape = Tape(
            variables=tuple(dict.fromkeys(name for term in terms for name in term)),
            kind=kind[part],
            slot=slot[part],
            coefficients=coefficients[part],
            terms=terms,
        )
        segments[str(name)] = Segment(tape, tuple(outside[own]))
    return segments


@dataclass(frozen=True, slots=True)
class Place:
    """Where a segment stands in a pass."""

    direction: str
    tower: str
    layer: int

    def segment(self, counts: Mapping[str, int]) -> str:
        """The name of the segment that is played there."""
        if not self.tower:
            return self.direction
        last = counts[self.tower] - 1
        place = "first" if self.layer == 0 else "last" if self.layer == last else "middle"
        return f"{self.direction}.{self.tower}.{place}"


def places_of(direction: str, counts: Mapping[str, int]) -> Iterator[Place]:
    """The segments of one direction in order: vision before text, and the way back.

    Args:
        direction: `forward` or `backward`.
        counts: layers of each tower that takes part.
    """
    yield Place(direction, "", 0)
    towers = [tower for tower in TOWERS if counts.get(tower)]
    if direction == DIRECTIONS[0]:
        for tower in towers:
            yield from (Place(direction, tower, layer) for layer in range(counts[tower]))
    else:
        for tower in reversed(towers):
            yield from (Place(direction, tower, layer) for layer in reversed(range(counts[tower])))


@dataclass(frozen=True, slots=True)
class Joined:
    """A tape of many layers."""

    tape: Tape
    outside: np.ndarray
    """For each negative slot: the slot that it is in the other direction's joined tape."""
    slots: Mapping[Place, range]
    """Where each segment's own slots went."""


def join(
    segments: Mapping[str, Segment],
    places: Sequence[Place],
    counts: Mapping[str, int],
    other: Joined | None = None,
    exact: Callable[[Place], bool] = lambda place: True,
    renamed: Callable[[Place], Mapping[str, str]] = lambda place: {},
) -> Joined:
    """One tape of segments in a row.

    Args:
        segments: by name.
        places: in order, all of one direction.
        counts: layers of each tower.
        other: the joined tape of the direction before, which this one frees storages of.
        exact: places whose every event is kept; of the others only what outlives the segment, or
            is freed for others. What a layer takes for itself is the same in all of them, so the
            first and the last ones show the most that is alive.
        renamed: variables that have another name at a place.
    """
    builder = _Builder(counts, other)
    for place in places:
        builder.add(place, segments[place.segment(counts)], exact(place), renamed(place))
    return builder.build()


class _Builder:
    """Collects segments; slots are numbered anew."""

    def __init__(self, counts: Mapping[str, int], other: Joined | None) -> None:
        self._counts = counts
        self._other = other
        self._slots: dict[Place, range] = {}
        self._count = 0
        self._outside: list[int] = []
        self._tape = TapeParts()

    def add(self, place: Place, segment: Segment, exact: bool, renamed: Mapping[str, str]) -> None:
        tape = segment.tape
        own = self._slots[place] = range(self._count, self._count + tape.slots)
        self._count = own.stop
        targets = [self._target(place, reference) for reference in segment.outside]
        kept = slice(None) if exact else _outliving(tape)
        slots = renumbered(tape, own, np.array(targets, dtype=np.int64))
        terms = tuple(tuple(renamed.get(name, name) for name in term) for term in tape.products)
        parts = (tape.kind[kept], slots[kept], terms, tape.coefficients[kept])
        # Packed segments have none, and here events are left out.
        self._tape.append(*parts, product=None)

    def _target(self, place: Place, reference: Reference) -> int:
        """The slot that a reference is: of this tape, or a negative one for the other's."""
        direction, tower = DIRECTIONS[reference.direction], TOWERS[reference.tower]
        layer = {
            RELATIVE: place.layer + reference.distance,
            FIRST: 0,
            LAST: self._counts.get(tower, 1) - 1,
            ONLY: 0,
        }[reference.how]
        named = Place(direction, tower, layer)
        if named in self._slots:
            return self._slots[named][reference.slot]
        assert self._other is not None
        self._outside.append(self._other.slots[named][reference.slot])
        return -len(self._outside)

    def build(self) -> Joined:
        outside = np.array(self._outside, dtype=np.int64)
        return Joined(self._tape.build(), outside, self._slots)


def _outliving(tape: Tape) -> np.ndarray:
    """The events of storages that outlive the tape, or that were there before it."""
    freed = np.zeros(tape.slots + 1, dtype=bool)
    inside = (tape.kind == RELEASE) & (tape.slot >= 0)
    freed[tape.slot[inside]] = True
    born = (tape.kind == ALLOCATE) | (tape.kind == LOAD)
    outlives = born & ~freed[tape.slot]
    return np.asarray(outlives | ((tape.kind == RELEASE) & (tape.slot < 0)))
