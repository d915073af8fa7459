"""A tape: the allocations of one run as functions of its shape, evaluated with numpy."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations
from math import prod
from operator import itemgetter

import numpy as np

ALLOCATE, RELEASE, SCRATCH, LOAD, CALL = range(5)
"""Kinds of events. SCRATCH lives inside one operation; LOAD is weights on the copy stream; at a
CALL another recording belongs (a loop whose length depends on the request), and its size is a
count."""
ROUND_BYTES = 512
"""The allocator's blocks are multiples of this (c10/core/AllocatorConfig.h, `kMinBlockSize`)."""

NONE = -1
"""No event."""
_NEWEST = 4
"""Shapes at which a tape is kept: those of the tiles of one clip."""

Terms = tuple[tuple[str, ...], ...]
"""Products of variables, by the names in each; the empty product is 1."""

COSTS = ("matmul", "conv", "attention", "bytes", "kernels")
"""Operations of matrix products, convolutions and attention; bytes that the rest moves; number
of operations that are launched."""


@lru_cache
def monomial_names(variables: tuple[str, ...]) -> Terms:
    """All products of distinct variables, the constant first, the product of all last."""
    return tuple(
        names for count in range(len(variables) + 1) for names in combinations(variables, count)
    )


def monomials(shape: Mapping[str, float], variables: tuple[str, ...]) -> np.ndarray:
    """Values of the monomials at a shape."""
    return term_values(shape, monomial_names(variables))


def term_values(shape: Mapping[str, float], terms: Terms) -> np.ndarray:
    """Values of products of variables at a shape; a name may stand in one twice, for a square."""
    return np.array([prod(float(shape[name]) for name in names) for names in terms])


def cost_monomials(shape: Mapping[str, float], variables: tuple[str, ...]) -> np.ndarray:
    """The monomials, and the square of the last: attention grows with the square of the tokens."""
    base = monomials(shape, variables)
    return np.append(base, base[-1] ** 2)


def axial_cost_monomials(shape: Mapping[str, int], variables: tuple[str, ...]) -> np.ndarray:
    """The monomials, and those of attention over space, f(hw)^2, and over time, f^2hw."""
    f, area = float(shape["f"]), float(shape["h"] * shape["w"])
    return np.append(monomials(shape, variables), [f * area**2, f**2 * area])


@dataclass(frozen=True, slots=True)
class Sized:
    """A tape at one shape."""

    by_slot: np.ndarray
    """Bytes of each storage that it makes."""
    left: np.ndarray
    """The same of those that it does not free; below zero of the others."""
    deltas: np.ndarray
    """Bytes of each event, below zero for releases; 0 where something from before is freed."""


@dataclass(frozen=True)
class Tape:
    """Events of a run.

    `kind` and `slot` have one entry an event (N), `coefficients` are N x M over `terms`, the
    monomials of `variables` if left out, and give bytes before rounding. A RELEASE of a negative
    slot frees something that lived before the tape began.
    """

    variables: tuple[str, ...]
    kind: np.ndarray
    slot: np.ndarray
    coefficients: np.ndarray
    terms: Terms = ()
    places: np.ndarray | None = None
    """Of a run with weights in blocks: in which the weight is that an event is about (N)."""
    clips: np.ndarray | None = None
    """Of a loop that may make several clips: whether an event's bytes are in proportion to their
    number, but for the kernels' copies in a SCRATCH (N)."""
    first_product: int | None = None
    """The event that makes the result of its first matrix product, or NONE; None: nobody knows."""
    steps: tuple[int, ...] = ()
    """Of a loop: how many events there are up to the end of each of its steps."""
    parts: tuple[tuple[int, str], ...] = ()
    """Of one that was put together: where its parts begin, and their names; not in files."""

    def part_of(self, event: int) -> str:
        """The name of the part that an event is in; empty where it has none."""
        place = bisect_right(self.parts, event, key=itemgetter(0))
        return self.parts[place - 1][1] if place else ""

    def of_steps(self, count: int) -> Tape:
        """The loop with its first steps only; itself where it has no more, or they are unknown."""
        if count >= len(self.steps):
            return self
        end = self.steps[count - 1]
        product = self.first_product
        return replace(
            self,
            kind=self.kind[:end],
            slot=self.slot[:end],
            coefficients=self.coefficients[:end],
            places=None if self.places is None else self.places[:end],
            clips=None if self.clips is None else self.clips[:end],
            first_product=NONE if product is not None and product >= end else product,
            steps=self.steps[:count],
        )

    def of_clips(self, count: int) -> Tape:
        """The tape of a loop over so many clips.

        Raises:
            ValueError: several, and nothing is known of them.
        """
        if count == 1:
            return self
        factors = self.clip_factors(count)
        return replace(self, coefficients=self.coefficients * factors, clips=None)

    def clip_factors(self, count: int) -> np.ndarray:
        """Factors of the coefficients (N x M) for so many clips.

        The constant part of a SCRATCH stays: those are copies of a convolution's kernels.

        Raises:
            ValueError: nothing is known of several clips.
        """
        if self.clips is None:
            raise ValueError("the tape is of one clip")
        constant = np.array([not names for names in self.products])
        fixed = (self.kind == SCRATCH)[:, None] & constant
        factors: np.ndarray = np.where(self.clips[:, None] & ~fixed, count, 1)
        return factors

    @cached_property
    def products(self) -> Terms:
        """What the columns of the coefficients belong to."""
        return self.terms or monomial_names(self.variables)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The variables that it depends on."""
        return tuple(dict.fromkeys(name for names in self.products for name in names))

    @cached_property
    def slots(self) -> int:
        """How many storages it makes."""
        return int(self.slot.max(initial=-1)) + 1

    @cached_property
    def survivors(self) -> np.ndarray:
        """Slots of the storages that it makes and does not free."""
        alive = np.zeros(self.slots, dtype=bool)
        alive[self.slot[self._born]] = True
        alive[self.slot[(self.kind == RELEASE) & (self.slot >= 0)]] = False
        return np.flatnonzero(alive)

    @cached_property
    def surviving(self) -> frozenset[int]:
        """The same, to look for one."""
        return frozenset(self.survivors.tolist())

    @cached_property
    def frees_outside(self) -> np.ndarray:
        """Events that free something that lived before."""
        return np.flatnonzero((self.kind == RELEASE) & (self.slot < 0))

    @cached_property
    def calls(self) -> list[int]:
        """Events at which another recording belongs."""
        return np.flatnonzero(self.kind == CALL).tolist()

    @cached_property
    def _frees_own(self) -> np.ndarray:
        return np.flatnonzero((self.kind == RELEASE) & (self.slot >= 0))

    @cached_property
    def _born(self) -> np.ndarray:
        return np.flatnonzero((self.kind == ALLOCATE) | (self.kind == LOAD))

    def sized(self, shape: Mapping[str, float]) -> Sized:
        """The tape at a shape; not to be written to. The newest are kept: loops play them again."""
        key = tuple([shape[name] for name in self.names])
        if (known := self._newest.get(key)) is not None:
            return known
        sizes = self.sizes(shape)
        by_slot = np.zeros(self.slots, dtype=np.int64)
        by_slot[self.slot[self._born]] = sizes[self._born]
        own = self._frees_own
        deltas = sizes.copy()
        deltas[self.frees_outside] = 0
        deltas[own] = -by_slot[self.slot[own]]
        left = np.full(self.slots, -1)
        left[self.survivors] = by_slot[self.survivors]
        found = Sized(by_slot, left, deltas)
        if len(self._newest) >= _NEWEST:
            self._newest.clear()
        self._newest[key] = found
        return found

    @cached_property
    def _newest(self) -> dict[tuple[float, ...], Sized]:
        return {}

    def sizes(self, shape: Mapping[str, float]) -> np.ndarray:
        """Bytes of each event (N), in whole blocks of the allocator; 0 for releases."""
        raw = self._values(shape)
        rounded: np.ndarray = -(-raw // ROUND_BYTES) * ROUND_BYTES
        return rounded

    def counts(self, shape: Mapping[str, float]) -> list[int]:
        """What each CALL is about (frames), in order."""
        return [int(value) for value in self._values(shape)[self.calls].tolist()]

    def _values(self, shape: Mapping[str, float]) -> np.ndarray:
        values: np.ndarray = np.rint(self.coefficients @ term_values(shape, self.products))
        return values.astype(np.int64)

    def formula(self, event: int) -> str:
        """Bytes of one event as a function of the shape, for people: `6144*f*h*w + 64*h`."""
        names = self.products
        terms = [
            "*".join([f"{value:.10g}", *names[index]])
            for index, value in reversed(list(enumerate(self.coefficients[event].tolist())))
            if abs(value) > 1e-6
        ]
        return " + ".join(terms).replace("+ -", "- ") or "0"

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays for one `.npz` file; `from_arrays` takes them back."""
        rows, index = np.unique(self.coefficients, axis=0, return_inverse=True)
        arrays = {
            f"{prefix}.variables": np.array(self.variables),
            f"{prefix}.kind": self.kind,
            f"{prefix}.slot": self.slot,
            f"{prefix}.rows": rows,
            f"{prefix}.index": index.reshape(-1).astype(np.int32),
        }
        if self.places is not None:
            arrays[f"{prefix}.places"] = self.places
        if self.clips is not None:
            arrays[f"{prefix}.clips"] = self.clips
        if self.steps:
            arrays[f"{prefix}.steps"] = np.array(self.steps)
        if self.first_product is not None:
            arrays[f"{prefix}.product"] = np.array(self.first_product)
        if self.terms:
            arrays[f"{prefix}.terms"] = np.array(["*".join(names) for names in self.terms])
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> Tape:
        product = arrays.get(f"{prefix}.product")
        return cls(
            variables=tuple(str(name) for name in arrays[f"{prefix}.variables"]),
            kind=arrays[f"{prefix}.kind"],
            slot=arrays[f"{prefix}.slot"],
            coefficients=arrays[f"{prefix}.rows"][arrays[f"{prefix}.index"]],
            terms=read_terms(arrays[f"{prefix}.terms"]) if f"{prefix}.terms" in arrays else (),
            places=arrays.get(f"{prefix}.places"),
            clips=arrays.get(f"{prefix}.clips"),
            first_product=None if product is None else int(product),
            steps=tuple(np.ravel(arrays.get(f"{prefix}.steps", ())).astype(int).tolist()),
        )


def read_terms(written: np.ndarray) -> Terms:
    """Terms from their names as a template has them: `b*s*s`, empty for the constant."""
    return tuple(tuple(name for name in str(term).split("*") if name) for term in written)
