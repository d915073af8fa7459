"""Several clips at a time, from a few recordings of two clips.

A loop over two clips does what the loop over one does, on tensors of twice the size where they are
a clip's; the copies of convolutions' kernels stay as large. Held against one clip, a recording of
two says which sizes those are; the other tapes of the loop (streamed, in fp8, by another solver)
have the same tensors, known by their size as a function of the shape. What only several clips have,
copies of a few tokens that are no longer contiguous, is left out: it is never at the peak.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from webui.estimator.tape import ALLOCATE, RELEASE, SCRATCH, Tape, term_values
from webui.tracing.fit import NotOneTape, number_slots
from webui.tracing.pieces import PIECE
from webui.tracing.recorder import MARK, Event

CLIPS = 2
"""Clips that are traced."""
_EXTRA = -1
"""Stands for an event that one clip does not have."""
_STEPS = 16
"""Coefficients are the same where they are in so many parts of a byte."""

_Size = tuple[int, frozenset[tuple[tuple[str, ...], int]]]
"""Kind of an event, and its size by the products of variables."""
_CONTEXTS = (6, 2, 1)
"""Sizes that say what an event is about, its own the last: the longest that was seen counts."""
_MADE = (ALLOCATE, SCRATCH)
"""Kinds of events that may be larger; weights that come are not."""


class ClipSizes:
    """Which sizes of a loop are in proportion to the number of clips.

    Args:
        whole_pieces: a piece is of all clips; else each piece is of one, and as large as with one.
    """

    def __init__(self, whole_pieces: bool) -> None:
        self._whole_pieces = whole_pieces
        self._seen: dict[tuple[_Size, ...], bool] = defaultdict(bool)
        """By a size and those before it, as many as `_CONTEXTS` says."""

    def learn(self, tape: Tape, scales: np.ndarray) -> None:
        """Takes in a tape of one clip with what `scaled_events` says of it.

        Of a size that some tensors of a clip and others have, the larger is taken.
        """
        for sizes, scaled in zip(_sizes(tape), scales.tolist(), strict=True):
            for length in _CONTEXTS:
                self._seen[sizes[-length:]] |= scaled

    def applied(self, tape: Tape) -> Tape:
        """The tape with its `clips`. Sizes that were never seen are a clip's where they depend on
        its shape."""
        made = np.isin(tape.kind, _MADE)
        scales = np.array([self._scales(sizes) for sizes in _sizes(tape)], dtype=bool)
        return replace(tape, clips=scales & made)

    def _scales(self, sizes: tuple[_Size, ...]) -> bool:
        for length in _CONTEXTS:
            if sizes[-length:] in self._seen:
                return self._seen[sizes[-length:]]
        names = {name for product, _ in sizes[-1][1] for name in product}
        return bool(names) and (self._whole_pieces or PIECE not in names)


def _sizes(tape: Tape) -> list[tuple[_Size, ...]]:
    """Of each event the sizes of what was made before, and its own: the longest of `_CONTEXTS`."""
    rows, index = np.unique(tape.coefficients, axis=0, return_inverse=True)
    known = [
        frozenset(
            (names, part)
            for names, value in zip(tape.products, row, strict=True)
            if (part := round(value * _STEPS))
        )
        for row in rows.tolist()
    ]
    found = []
    before: tuple[_Size, ...] = ()
    for kind, row in zip(tape.kind.tolist(), index.reshape(-1).tolist(), strict=True):
        sizes = (*before, (kind, known[row]))
        found.append(sizes)
        if kind in _MADE:
            before = sizes[1 - max(_CONTEXTS) :]
    return found


def of_each(tape: Tape) -> Tape:
    """A tape that was traced with `CLIPS` clips, with the sizes of one."""
    return replace(tape, coefficients=tape.coefficients / tape.clip_factors(CLIPS))


def scaled_events(tape: Tape, values: dict[str, float], events: list[Event]) -> np.ndarray:
    """Which events of the loop over one clip are larger in the loop over `CLIPS` (N).

    Args:
        tape: of one clip.
        values: of its variables, where
        events: were recorded, of `CLIPS` clips.

    Raises:
        NotOneTape: the events do not follow those of one clip.
    """
    run = [event for event in events if event.kind != MARK]
    sizes = np.rint(tape.coefficients @ term_values(values, tape.products)).astype(np.int64)
    found = np.array(_matched(tape, sizes.tolist(), run))
    own = found != _EXTRA
    several = np.array([event.size_bytes for event in run])
    scales: np.ndarray = several[own] != sizes[found[own]]
    return scales


def _matched(tape: Tape, base: list[int], run: list[Event]) -> list[int]:
    """For each event of several clips its place in the tape of one, or _EXTRA.

    An event that might be the next of the tape is taken for it. Where that leads nowhere, the last
    such choice is taken back: a tensor may be as large as one that comes after it.
    """
    kinds, slots = tape.kind.tolist(), tape.slot.tolist()
    numbers = number_slots(run)
    born: dict[int, int] = {}
    for at, event in enumerate(run):
        if event.kind != SCRATCH:
            born.setdefault(numbers[at], at)
    left = len(run) - len(kinds)
    found: list[int] = []
    choices: list[tuple[int, int]] = []

    def follows(place: int, at: int) -> bool:
        event = run[at]
        if place == len(kinds) or kinds[place] != event.kind:
            return False
        if event.kind == SCRATCH:  # the copies of a convolution's kernels are as large as before
            return base[place] <= event.size_bytes <= CLIPS * base[place]
        if event.kind != RELEASE:
            return event.size_bytes in (base[place], CLIPS * base[place])
        if numbers[at] < 0:
            return bool(slots[place] == numbers[at])
        of = found[born[numbers[at]]]
        return of != _EXTRA and bool(slots[of] == slots[place])

    def may_be_extra(at: int) -> bool:
        if run[at].kind == RELEASE:
            return numbers[at] >= 0 and found[born[numbers[at]]] == _EXTRA
        return run[at].kind in (ALLOCATE, SCRATCH)

    place = extras = 0
    while len(found) < len(run) or place < len(kinds):
        at = len(found)
        if at < len(run) and follows(place, at):
            if run[at].kind in (ALLOCATE, SCRATCH) and left:
                choices.append((at, extras))
            found.append(place)
            place += 1
        elif at < len(run) and extras < left and may_be_extra(at):
            found.append(_EXTRA)
            extras += 1
        elif choices:
            at, extras = choices.pop()
            place = found[at]
            found[at:] = [_EXTRA]
            extras += 1
        else:
            raise NotOneTape("the events of several clips do not follow those of one")
    return found
