"""Tapes that are put together: the same events as played one by one, at any shape."""

from __future__ import annotations

import numpy as np
import pytest

from webui.estimator.events import PhaseEvents
from webui.estimator.tape import ALLOCATE, RELEASE, SCRATCH, Tape
from webui.estimator.tape_builder import TapeBuilder

CALL = Tape(
    variables=("h", "w"),
    kind=np.array([ALLOCATE, SCRATCH, RELEASE, ALLOCATE, RELEASE], dtype=np.int8),
    slot=np.array([0, -1, -1, 1, 0]),
    # Over 1, h, w, h*w.
    coefficients=np.array([[100, 0, 0, 8], [0, 0, 0, 3], [0] * 4, [0, 5, 0, 2], [0] * 4], float),
)
"""Frees a storage from before (its slot -1) and leaves another (slot 1)."""
NONE = np.empty(0, np.int64)


def built() -> Tape:
    tape = TapeBuilder()
    given = np.array([-1])
    for index in range(3):
        given = np.array([tape.play(CALL, given, f"call {index}") + 1])
        if index == 0:
            extra = tape.allocate({("h", "w"): 7, ("f", "h", "w"): 2}, "frames")
    tape.release(extra)
    assert tape.living(np.array([extra, given[0]])).tolist() == given.tolist()
    return tape.build()


def played(shape: dict[str, int]) -> PhaseEvents:
    events = PhaseEvents([np.array([2048])])
    given = 0
    for index in range(3):
        (given,) = events.play(CALL, shape, (given,), what=f"call {index}").values()
        if index == 0:
            extra = events.allocate((7 + 2 * shape["f"]) * shape["h"] * shape["w"], "frames")
    events.release(extra)
    return events


@pytest.mark.parametrize("shape", [{"f": 2, "h": 300, "w": 70}, {"f": 9, "h": 33, "w": 1025}])
def test_they_are_the_same_events(shape: dict[str, int]) -> None:
    whole, single = PhaseEvents([np.array([2048])]), played(shape)
    left = whole.play(built(), shape, (0,))
    assert [whole.size_of(key) for key in left.values()] == [single.size_of(max(left.values()))]
    assert whole.timeline().kinds.tolist() == single.timeline().kinds.tolist()
    assert whole.timeline().deltas.tolist() == single.timeline().deltas.tolist()
    for expandable in (True, False):
        assert whole.replay(expandable, None) == single.replay(expandable, None)


def test_the_parts_keep_their_names() -> None:
    shape = {"f": 4, "h": 300, "w": 500}
    whole = PhaseEvents([np.array([2048])])
    whole.play(built(), shape, (0,), what="all")
    alive = whole.live_at_peak()
    assert [(item.source, item.size_bytes) for item in alive] == [
        (item.source, item.size_bytes) for item in played(shape).live_at_peak()
    ]
    formulas = {item.source: item.formula for item in alive}
    assert formulas["frames"] == "2*f*h*w + 7*h*w" and "call 1" in formulas


def test_what_is_gone_cannot_be_freed() -> None:
    tape = TapeBuilder()
    slot = tape.allocate({(): 512}, "frames")
    tape.release(slot)
    with pytest.raises(AssertionError, match="is there"):
        tape.release(slot)
