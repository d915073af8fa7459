"""What is said of a claim, from its figures alone."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from webui.catalogue.claims import GB_BYTES, Range
from webui.core.text import Text

HOLDS_WITHIN = 0.10
ROUGHLY_WITHIN = 0.25
"""Of the nearer bound of what is claimed: for bytes and seconds, which the guides give roundly."""
HOLDS_POINTS = 2.0
ROUGHLY_POINTS = 10.0
"""Percentage points beyond what is claimed, but never more than the shares below of it: 2 points
are much where 5 % are claimed."""
HOLDS_SHARE = 0.2
ROUGHLY_SHARE = 0.5


class Verdict(StrEnum):
    HOLDS = "holds"
    ROUGHLY = "roughly"
    WRONG = "wrong"
    DEPENDS = "depends"
    UNTOLD = "untold"
    UNCHECKED = "unchecked"

    @property
    def stands(self) -> bool:
        """Holds, or holds roughly."""
        return self in (Verdict.HOLDS, Verdict.ROUGHLY)


VERDICTS = {
    Verdict.HOLDS: Text("holds", "成立"),
    Verdict.ROUGHLY: Text("holds roughly", "大致成立"),
    Verdict.WRONG: Text("wrong", "不成立"),
    Verdict.DEPENDS: Text("depends", "视情况而定"),
    Verdict.UNTOLD: Text("random weights cannot tell", "随机权重无法判断"),
    Verdict.UNCHECKED: Text("not checked here", "此处未检验"),
}


def beyond(value: float, bounds: Range) -> float:
    """How far a value lies outside of bounds, in its own unit; 0 within them."""
    low, high = bounds
    if low is not None and value < low:
        return low - value
    if high is not None and value > high:
        return value - high
    return 0.0


def judge_amount(value: float, bounds: Range) -> Verdict:
    """Bytes or seconds against what is claimed."""
    off = beyond(value, bounds)
    share = off / _nearer(value, bounds) if off else 0.0
    return _grade(share, HOLDS_WITHIN, ROUGHLY_WITHIN)


def judge_percent(value: float, bounds: Range) -> Verdict:
    """A change in percent against what is claimed."""
    near = abs(_nearer(value, bounds))
    return _grade(
        beyond(value, bounds),
        min(HOLDS_POINTS, HOLDS_SHARE * near),
        min(ROUGHLY_POINTS, ROUGHLY_SHARE * near),
    )


def judge_span(values: Sequence[float], bounds: Range) -> Verdict:
    """Values of several cards: it is enough if what is claimed meets the span between them."""
    low, high = bounds
    if low is not None and max(values) < low:
        return judge_amount(max(values), bounds)
    if high is not None and min(values) > high:
        return judge_amount(min(values), bounds)
    return Verdict.HOLDS


def bytes_of(gb: Range) -> Range:
    """The bytes that the guides' GB may mean: from 1000^3 to 1024^3 each."""
    low, high = gb
    return None if low is None else low * GB_BYTES[0], None if high is None else high * GB_BYTES[1]


def better(one: Verdict, other: Verdict) -> Verdict:
    """Of two ways to read the same figure, the one that does the guide more justice."""
    order = (Verdict.HOLDS, Verdict.ROUGHLY, Verdict.DEPENDS, Verdict.WRONG)
    return min(one, other, key=order.index)


def judge_fit(says: str, found: str) -> Verdict:
    """What a guide says of a card against what was found.

    Args:
        says: `yes` (all at the same time), `one` (one at a time) or `no`.
        found: the same, or `planned`: only with settings that save memory.
    """
    if says == "no":
        return {"no": Verdict.HOLDS, "planned": Verdict.DEPENDS}.get(found, Verdict.WRONG)
    if found == "no":
        return Verdict.WRONG
    if found == "yes" or (found == "one" and says == "one"):
        return Verdict.HOLDS
    return Verdict.DEPENDS


def _nearer(value: float, bounds: Range) -> float:
    """The bound that the value is beyond of, or the one that it is nearest to."""
    given = [bound for bound in bounds if bound is not None]
    return min(given, key=lambda bound: abs(value - bound))


def _grade(off: float, holds: float, roughly: float) -> Verdict:
    if off <= holds:
        return Verdict.HOLDS
    return Verdict.ROUGHLY if off <= roughly else Verdict.WRONG
