"""Work in pieces, traced once for every number of pieces.

A piece repeats the events of the one before. Two pieces are traced; the size of what belongs to a
piece shrinks with their number, which is one more variable of the tape (`piece`, one over the
number): nothing is traced again for another number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from unittest.mock import patch

import numpy as np

from webui.estimator.tape import Tape, monomial_names
from webui.pipelines import pieces
from webui.tracing.fit import NotOneTape
from webui.tracing.recorder import MARK, Event

PIECE = "piece"
"""One over the number of pieces."""
TRACED_PIECES = 2
"""Pieces that are run: the second is like all later ones."""
FEW, MANY = 4, 8
"""Numbers of pieces that are traced, which the tokens must be multiples of."""


@contextmanager
def first_pieces() -> Iterator[None]:
    """Inside, only the first pieces are done: the others, and those of more clips, repeat them."""
    spans, places = pieces.spans, pieces.places

    def first(tokens: int, count: int) -> Iterator[slice]:
        return islice(spans(tokens, count), TRACED_PIECES)

    def first_places(clips: int, tokens: int, count: int) -> Iterator[tuple[slice, slice]]:
        return islice(places(clips, tokens, count), TRACED_PIECES)

    with patch.object(pieces, "spans", first), patch.object(pieces, "places", first_places):
        yield


def with_pieces(tape: Tape, few: list[Event], many: list[Event]) -> Tape:
    """The tape with one more variable, from how sizes differ between few and many pieces.

    Args:
        tape: fitted to recordings with `FEW` pieces.
        few: events of one shape with `FEW` pieces.
        many: the same with `MANY`.

    Raises:
        NotOneTape: a size is neither the same nor in proportion.
    """
    runs = [[event for event in events if event.kind != MARK] for events in (few, many)]
    if [event.kind for event in runs[0]] != [event.kind for event in runs[1]]:
        raise NotOneTape("the events depend on the number of pieces")
    sizes = np.array([[event.size_bytes for event in run] for run in runs], dtype=np.int64)
    of_piece = sizes[0] != sizes[1]
    if (sizes[0] * FEW != sizes[1] * MANY)[of_piece].any():
        raise NotOneTape("a size does not follow the number of pieces")
    variables = (*tape.variables, PIECE)
    place = {names: index for index, names in enumerate(monomial_names(variables))}
    coefficients = np.zeros((len(sizes[0]), len(place)))
    for index, names in enumerate(monomial_names(tape.variables)):
        column = tape.coefficients[:, index]
        coefficients[:, place[names]] += np.where(of_piece, 0.0, column)
        coefficients[:, place[(*names, PIECE)]] += np.where(of_piece, column * FEW, 0.0)
    return replace(tape, variables=variables, coefficients=coefficients)
