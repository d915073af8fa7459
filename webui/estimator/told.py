"""Seconds that remember how they were made, so that an explanation need not repeat the model.

Planning works on plain floats. Inside `noting_terms` the time model's results are `Told`: the
same numbers, with the expression that gave them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SecondsTerm:
    """One result of the time model, with what it was made from."""

    kind: str
    """`compute`, `transfer` (weights on their way to the card), `start`; by the processor `prepare`
    (pages), `enlarge`, `encode` and `join` (frames)."""
    card: str
    amounts: dict[str, float]
    """Operations, bytes and kernels of a computation; bytes of a transfer; pixels of pages and
    frames."""
    rates: dict[str, float]
    """What each amount is divided by (of kernels and streamed tensors: multiplied by)."""
    seconds: float
    reached: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Where a rate is a part of the card's: that rate, and the part that is reached."""


class Told(float):
    """Seconds with the expression that they came from, e.g. `100 x max(compute, transfer)`.

    Sums and multiples keep it; anything else gives a plain float.
    """

    __slots__ = ("_base", "_factor", "_is_sum")
    _base: str
    _factor: float
    _is_sum: bool

    def __new__(cls, value: float, base: str, factor: float = 1.0, is_sum: bool = False) -> Told:
        told = super().__new__(cls, value)
        told._base, told._factor, told._is_sum = base, factor, is_sum
        return told

    @property
    def how(self) -> str:
        """The expression."""
        if self._factor == 1:
            return self._base
        base = f"({self._base})" if self._is_sum else self._base
        return f"{self._factor:.6g} x {base}"

    def __add__(self, other: float) -> Told:
        total = float(self) + float(other)
        if not other:
            return Told(total, self._base, self._factor, self._is_sum)
        return Told(total, f"{self.how} + {how_of(other)}", is_sum=True)

    def __radd__(self, other: float) -> Told:
        total = float(other) + float(self)
        if not other:
            return Told(total, self._base, self._factor, self._is_sum)
        return Told(total, f"{how_of(other)} + {self.how}", is_sum=True)

    def __sub__(self, other: float) -> Told:
        return Told(float(self) - float(other), f"{self.how} - {how_of(other)}", is_sum=True)

    def __mul__(self, factor: float) -> Told:
        return Told(float(self) * factor, self._base, self._factor * factor, self._is_sum)

    __rmul__ = __mul__


def how_of(seconds: float) -> str:
    """The expression of told seconds; the figure of others."""
    return seconds.how if isinstance(seconds, Told) else f"{seconds:.4g}"


def longest(*seconds: float) -> float:
    """The maximum: work that goes on at the same time."""
    found = max(seconds)
    told = [one for one in seconds if one]
    if len(told) < 2 or not any(isinstance(one, Told) for one in told):
        return found
    return Told(found, f"max({', '.join(map(how_of, told))})")


_noted: ContextVar[list[SecondsTerm] | None] = ContextVar("noted", default=None)


@contextmanager
def noting_terms() -> Iterator[list[SecondsTerm]]:
    """Collects what the time model computes inside the block, for explanations."""
    terms: list[SecondsTerm] = []
    token = _noted.set(terms)
    try:
        yield terms
    finally:
        _noted.reset(token)


def note(term: SecondsTerm) -> float:
    """The term's seconds; told ones, named by kind and number, where terms are collected."""
    terms = _noted.get()
    if terms is None:
        return term.seconds
    terms.append(term)
    return Told(term.seconds, f"{term.kind} {sum(other.kind == term.kind for other in terms)}")
