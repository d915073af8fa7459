"""Builds tapes from tapes: of layers in a row, or of a loop whose length is known.

What is one tape numpy sizes in one go.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from webui.estimator.tape import ALLOCATE, NONE, RELEASE, SCRATCH, Tape, Terms

Size = Mapping[tuple[str, ...], float]
"""Bytes as coefficients of products of variables: `{("h", "w"): 6, (): 512}` is 6*h*w + 512."""


def renumbered(tape: Tape, own: range, outside: np.ndarray) -> np.ndarray:
    """The slots of a tape's events (N) where it is a part of another.

    Args:
        tape: the part.
        own: where its slots go.
        outside: what its slots -1, -2, ... are.
    """
    assert len(own) == tape.slots and len(outside) == len(tape.frees_outside)
    # Laid out backwards, numpy's negative index finds the first outside storage at -1.
    numbers = np.concatenate([np.arange(own.start, own.stop), outside[::-1]])
    # What lives inside an operation has a slot of any number.
    inside = tape.kind == SCRATCH
    return np.where(inside, 0, numbers[np.where(inside, 0, tape.slot)])


class TapeParts:
    """Events in parts, each with coefficients over terms of its own."""

    def __init__(self) -> None:
        self._kinds: list[np.ndarray] = []
        self._slots: list[np.ndarray] = []
        self._columns: list[tuple[Terms, np.ndarray]] = []
        self._names: list[tuple[int, str]] = []
        self._events = 0
        self._product: int | None = NONE

    def append(
        self,
        kinds: np.ndarray,
        slots: np.ndarray,
        terms: Terms,
        rows: np.ndarray,
        what: str = "",
        *,
        product: int | None,
    ) -> None:
        """Appends events: kinds and slots (N), N rows over the terms, their name, and the first
        that makes a product's result: NONE, or None where that is not known."""
        if what:
            self._names.append((self._events, what))
        if self._product == NONE:
            self._product = product
            if product is not None and product != NONE:
                self._product = self._events + product
        self._events += len(kinds)
        self._kinds.append(kinds)
        self._slots.append(slots)
        self._columns.append((terms, rows))

    def build(self) -> Tape:
        """The tape so far."""
        terms = tuple(dict.fromkeys(term for names, _ in self._columns for term in names))
        column = {term: index for index, term in enumerate(terms)}
        coefficients = np.zeros((self._events, len(terms)))
        row = 0
        for names, part in self._columns:
            coefficients[row : row + len(part), [column[name] for name in names]] = part
            row += len(part)
        return Tape(
            variables=tuple(dict.fromkeys(name for term in terms for name in term)),
            kind=np.concatenate(self._kinds),
            slot=np.concatenate(self._slots),
            coefficients=coefficients,
            terms=terms,
            first_product=self._product,
            parts=tuple(self._names),
        )


class TapeBuilder:
    """A growing tape. A negative slot is a storage that lived before: -1 the first, and so on."""

    def __init__(self) -> None:
        self._parts = TapeParts()
        self._alive = np.zeros(0, dtype=bool)
        self._freed_outside: set[int] = set()

    def play(self, tape: Tape, outside: np.ndarray, what: str) -> int:
        """Appends a tape.

        Args:
            tape: the events.
            outside: slots of the storages that the tape's negative slots -1, -2, ... free.
            what: name of the events, for explanations.

        Returns:
            Where the tape's own slots begin.
        """
        own = range(len(self._alive), len(self._alive) + tape.slots)
        born = np.zeros(tape.slots, dtype=bool)
        born[tape.survivors] = True
        self._alive = np.append(self._alive, born)
        self._end(outside)
        slots = renumbered(tape, own, outside)
        parts = (tape.kind, slots, tape.products, tape.coefficients, what)
        self._parts.append(*parts, product=tape.first_product)
        return own.start

    def allocate(self, size: Size, what: str) -> int:
        """One storage by hand; returns its slot."""
        slot = len(self._alive)
        self._alive = np.append(self._alive, True)
        rows = np.array([[*size.values()]], dtype=float)
        kinds = np.array([ALLOCATE], dtype=np.int8)
        self._parts.append(kinds, np.array([slot]), tuple(size), rows, what, product=NONE)
        return slot

    def release(self, *slots: int) -> None:
        """Frees storages."""
        self.release_all(np.array(slots, dtype=np.int64))

    def release_all(self, slots: np.ndarray) -> None:
        """As `release`, of many."""
        self._end(slots)
        kinds = np.full(len(slots), RELEASE, dtype=np.int8)
        self._parts.append(kinds, slots, (), np.empty((len(slots), 0)), product=NONE)

    def living(self, slots: np.ndarray) -> np.ndarray:
        """Those of some slots whose storages are there."""
        alive: np.ndarray = slots[self._alive[slots]]
        return alive

    def build(self) -> Tape:
        """The tape so far."""
        return self._parts.build()

    def _end(self, slots: np.ndarray) -> None:
        own, before = slots[slots >= 0], set(slots[slots < 0].tolist())
        assert self._alive[own].all(), "what is released is there"
        assert not before & self._freed_outside, "what is released is there"
        assert len(set(slots.tolist())) == len(slots), "what is released is there"
        self._alive[own] = False
        self._freed_outside |= before
