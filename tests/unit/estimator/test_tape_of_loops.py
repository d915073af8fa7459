"""Tapes of loops: their first steps, and several clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.estimator.test_tape import FHW, SHAPES, recording
from webui.estimator.tape import ALLOCATE, NONE, SCRATCH, Tape
from webui.tracing.clips import CLIPS, of_each
from webui.tracing.fit import STEP, NotOneTape, fit_tape
from webui.tracing.recorder import MARK, Event


def test_a_loops_first_steps_are_cut_where_they_end() -> None:
    def with_steps(shape: dict[str, int], *places: int) -> list[Event]:
        events = recording(shape)
        for place in sorted(places, reverse=True):
            events.insert(place, Event(MARK, -1, mark=STEP))
        return events

    tape = fit_tape([(shape, with_steps(shape, 4, 6, 9)) for shape in SHAPES], FHW)
    tape = replace(tape, first_product=4)
    assert tape.steps == (3, 5, 8)
    read = replace(Tape.from_arrays(tape.to_arrays("a"), "a"), clips=np.ones(8, dtype=bool))
    assert read.steps == tape.steps and read.of_steps(3) is read and read.of_steps(50) is read
    for count, product in ((1, NONE), (2, 4)):
        cut = read.of_steps(count)
        end = tape.steps[count - 1]
        assert cut.steps == tape.steps[:count] and cut.first_product == product
        assert cut.sizes(SHAPES[0]).tolist() == tape.sizes(SHAPES[0]).tolist()[:end]
        assert len(cut.kind) == len(cut.slot) == len(cut.of_clips(2).coefficients) == end
    unknown = replace(tape, steps=())
    assert unknown.of_steps(1) is unknown
    with pytest.raises(NotOneTape, match="steps"):
        fit_tape([(shape, with_steps(shape, 3 + at)) for at, shape in enumerate(SHAPES[:2])], FHW)


def test_what_several_clips_share_of_an_operation_stays() -> None:
    """The copies of a convolution's kernels; a tensor that no shape changes is each clip's own."""
    tape = Tape(
        variables=("n",),
        kind=np.array([ALLOCATE, SCRATCH, SCRATCH], dtype=np.int8),
        slot=np.array([0, 0, 0], dtype=np.int32),
        coefficients=np.array([[10.0, 2.0], [1000.0, 3.0], [1000.0, 3.0]]),
        clips=np.array([True, True, False]),
    )
    several = tape.of_clips(3)
    assert several.coefficients.tolist() == [[30.0, 6.0], [1000.0, 9.0], [1000.0, 3.0]]
    traced = replace(tape, coefficients=tape.of_clips(CLIPS).coefficients)
    assert of_each(traced).coefficients.tolist() == tape.coefficients.tolist()
    with pytest.raises(ValueError, match="one clip"):
        replace(tape, clips=None).clip_factors(2)
