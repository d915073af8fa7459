"""From recorded batches to the arrays of a template: a tape and a cost for each piece of a run."""

from __future__ import annotations

from functools import partial

import numpy as np

from webui.estimator.tape import Tape, Terms, term_values
from webui.pipelines.text_model import TextPipeline
from webui.tracing.cutting import Piece
from webui.tracing.fit import NotOneTape, Shape, fit_costs, fit_tape
from webui.tracing.recorder import Recording
from webui.tracing.writing import SAME_AS_STEP, WAYS, pieces_of

Arrays = dict[str, np.ndarray]
Recorded = tuple[Shape, TextPipeline, list[Recording]]
"""A shape, what ran, and the recordings of its batches."""

LATER = "warm"
"""Name of the mode of a batch that finds streamed weights in their order."""


def products(*names: str) -> Terms:
    """Terms from names of one letter each: `bss` is b times the square of s."""
    return tuple(tuple(name) for name in names)


_FIRST = products("", "b", "s", "bs")
_STEP = products("", "b", "c", "bc")
_ONE_MORE = {"second": 0, "step": 1, "again": 2, "later": 3}
"""How many tokens the cache has beyond the prompt's before a step."""


def step_shape(shape: Shape, piece: str) -> Shape:
    """The variables of a piece: a step has the cache's length instead of the prompt's."""
    return {**shape, "c": shape["s"] + _ONE_MORE[piece]} if piece in _ONE_MORE else shape


def terms_of(piece: str, way: str, terms: dict[str, Terms]) -> Terms:
    """What the sizes of a piece are sums of."""
    found = terms.get(piece, _STEP if piece in _ONE_MORE else _FIRST)
    alone = WAYS[way].batches == "one"
    return tuple(term for term in found if not (alone and {"b", "p"} & set(term)))


def written_arrays(
    mode: str, way: str, recorded: list[Recorded], terms: dict[str, Terms]
) -> Arrays:
    """The tapes of each piece, named `MODE.WAY.PIECE`.

    Args:
        mode: how weights live; a second batch is named `LATER`.
        way: how attention is computed.
        recorded: batches of several shapes.
        terms: of the pieces that are there before the first token.

    Raises:
        NotOneTape: the pieces do not follow one pattern.
    """
    arrays: Arrays = {}
    for batch in range(len(recorded[0][2])):
        runs = [(shape, pieces_of(pipe, found[batch])) for shape, pipe, found in recorded]
        tapes: dict[str, Tape] = {}
        for piece in runs[0][1]:
            prefix = f"{LATER if batch else mode}.{way}.{piece}"
            found = [(step_shape(shape, piece), pieces[piece]) for shape, pieces in runs]
            arrays[f"{prefix}.outside"] = _outside([part for _, part in found])
            used = terms_of(piece, way, terms)
            names = tuple(sorted({name for term in used for name in term}))
            tape = fit_tape([(shape, part.events) for shape, part in found], names, used)
            if piece in SAME_AS_STEP:
                _check_same(tape, tapes["step"])
            else:
                tapes[piece] = tape
                arrays |= tape.to_arrays(prefix)
    return arrays


def _check_same(again: Tape, step: Tape) -> None:
    """A step that comes again is the step; but rows of a mask are filled up by more or less."""
    grows = ["c" in term for term in step.products]
    same = (
        np.array_equal(again.kind, step.kind)
        and np.array_equal(again.slot, step.slot)
        and np.allclose(again.coefficients[:, grows], step.coefficients[:, grows], atol=1e-6)
    )
    if not same:
        raise NotOneTape("the steps differ")


def written_costs(
    way: str, recorded: list[Recorded], terms: dict[str, Terms], only: tuple[str, ...] = ()
) -> Arrays:
    """The costs of each piece, or of some, with their terms, named `costs.WAY.PIECE`.

    Raises:
        NotOneTape: a cost is not a sum of those terms.
    """
    runs = [(shape, pieces_of(pipe, found[0])) for shape, pipe, found in recorded]
    arrays: Arrays = {}
    for piece in only or tuple(piece for piece in runs[0][1] if piece not in SAME_AS_STEP):
        used = terms_of(piece, way, terms)
        found = [(step_shape(shape, piece), pieces[piece].costs) for shape, pieces in runs]
        arrays[f"costs.{way}.{piece}"] = fit_costs(found, (), partial(_values, used))
        arrays[f"costs.{way}.{piece}.terms"] = np.array(["*".join(term) for term in used])
    return arrays


def _values(terms: Terms, shape: Shape, _: tuple[str, ...]) -> np.ndarray:
    return term_values(shape, terms)


def _outside(parts: list[Piece]) -> np.ndarray:
    if any(part.outside != parts[0].outside for part in parts):
        raise NotOneTape("what a piece frees of others differs between the shapes")
    return np.array(parts[0].outside, dtype=np.int32).reshape(-1, 2)
