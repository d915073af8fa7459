"""The loops of a Wan VAE's two ends as tapes: its calls, each with the caches of the one before.

What the calls give is joined after each of them where the picture is whole, and at the end where it
is in tiles. Sides of the tapes are in pixels of the latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from webui.estimator.tape import Tape
from webui.estimator.tape_builder import Size, TapeBuilder
from webui.estimator.templates import ChainedCall

FIRST_CALLS = 8
LAST_CALLS = 4
"""Calls that are replayed at the beginning and at the end, when the joined frames are largest. The
calls between repeat the fourth: leaving them out changes no live byte, and what is reserved by less
than 3 % (receipts/h200.json)."""
WHOLE_CALLS = FIRST_CALLS + LAST_CALLS
FRAMES = "frames"
"""What the results are called in explanations."""
_KEPT = 16
"""Some hundred thousand bytes each, and as many for each shape (`tape._NEWEST`)."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A loop's tape, and what it leaves."""

    tape: Tape
    outputs: tuple[int, ...]
    """Slots of what the calls gave; where it is joined, of all that is joined and of the last."""
    caches: np.ndarray
    """Slots of the feature caches that are still there."""


@lru_cache(maxsize=_KEPT)
def whole_passage(
    segments: tuple[ChainedCall, ...],
    end: str,
    unit_bytes: int,
    step: int,
    calls: int,
    drops_caches: bool,
) -> Passage:
    """Calls whose frames are joined one after the other: a tape of f calls over h x w.

    Args:
        segments: the calls; the last of them repeats.
        end: `decode` or `encode`, for the calls' names.
        unit_bytes: of a frame, for each pixel of the latent.
        step: frames of a call after the first.
        calls: how many; WHOLE_CALLS stands for all f from there on.
        drops_caches: at the end.
    """
    tape = TapeBuilder()
    chain = _Chain(tape, segments, end)
    joined = chain.call()
    previous = None
    for index in range(1, calls):
        output = chain.call()
        if previous is not None:
            tape.release(previous)
        frames: Size = {("h", "w"): unit_bytes * (1 + step * index)}
        if index >= calls - LAST_CALLS:
            left = unit_bytes * (1 - step * (calls - index))
            frames = {("h", "w"): left, ("f", "h", "w"): unit_bytes * step}
        longer = tape.allocate(frames, FRAMES)
        tape.release(joined)
        joined, previous = longer, output
    if drops_caches:
        tape.release_all(chain.caches())
    outputs = (joined,) if previous is None else (joined, previous)
    return Passage(tape.build(), outputs, chain.caches())


@lru_cache(maxsize=_KEPT)
def tile_passage(
    segments: tuple[ChainedCall, ...],
    end: str,
    skipped_bytes: int,
    played: int,
    skipped: int,
    follows: bool,
) -> Passage:
    """The calls of one tile of h x w.

    Args:
        segments: the calls; the last of them repeats.
        end: `decode` or `encode`, for the calls' names.
        skipped_bytes: what a call that is left out gives, for each pixel of the tile's latent.
        played: calls that are played.
        skipped: calls before the last that are left out.
        follows: after another tile, whose last frames (slot -1) go after the first call.
    """
    tape = TapeBuilder()
    chain = _Chain(tape, segments, end)
    outputs = [chain.call()]
    if follows:
        tape.release(-1)
    outputs += [chain.call() for _ in range(played - 2)]
    outputs += [tape.allocate({("h", "w"): skipped_bytes}, FRAMES) for _ in range(skipped)]
    if played > 1:
        outputs.append(chain.call())
    return Passage(tape.build(), tuple(outputs), chain.caches())


class _Chain:
    """Calls one after the other: each replaces the feature caches of the one before."""

    def __init__(self, tape: TapeBuilder, segments: tuple[ChainedCall, ...], end: str) -> None:
        self._tape = tape
        self._segments = segments
        self._end = end
        self._made: list[tuple[ChainedCall, int]] = []
        """The calls so far, and each one's first slot."""

    def call(self) -> int:
        """One more call; returns the slot of its result."""
        index = len(self._made)
        segment = self._segments[min(index, len(self._segments) - 1)]
        back, slots = segment.freed.T
        firsts = np.array([first for _, first in self._made], dtype=np.int64)
        freed = firsts[index - back] + slots
        first = self._tape.play(segment.tape, freed, f"{self._end}r call {index}")
        self._made.append((segment, first))
        return first + segment.output

    def caches(self) -> np.ndarray:
        """Slots of the caches that are there."""
        slots = [segment.caches + first for segment, first in self._made]
        return self._tape.living(np.concatenate(slots))
