"""Turns recordings at several shapes into one tape whose sizes are functions of the shape.

Every storage's size is a product of dimensions plus paddings, so it is multilinear in the
latent's frames, height and width. The recordings must show the same events in the same order;
what does not fit exactly is refused, never smoothed.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from webui.estimator.tape import (
    CALL,
    COSTS,
    NONE,
    RELEASE,
    SCRATCH,
    Tape,
    Terms,
    cost_monomials,
    monomial_names,
    term_values,
)
from webui.tracing.recorder import MARK, Event

Shape = dict[str, int]
"""Values of the variables, e.g. {'f': 3, 'h': 8, 'w': 12}."""


STEP = "step"
"""The name of the MARK at the end of a loop's step."""


class NotOneTape(Exception):
    """The recordings do not follow one pattern."""


def grid(**values: tuple[int, int]) -> list[Shape]:
    """All combinations of two values a variable: what a multilinear fit needs."""
    return [dict(zip(values, point, strict=True)) for point in product(*values.values())]


def fit_tape(
    recordings: list[tuple[Shape, list[Event]]], variables: tuple[str, ...], terms: Terms = ()
) -> Tape:
    """One tape from events at several shapes; of MARK events it keeps where steps end.

    Args:
        recordings: the events at each shape.
        variables: what the sizes depend on.
        terms: the products of variables that may occur; all where left out, which takes more
            shapes.

    Raises:
        NotOneTape: the events differ between the shapes, or a size is not a sum of the terms.
    """
    runs = [[event for event in events if event.kind != MARK] for _, events in recordings]
    first = runs[0]
    numbered = [number_slots(run) for run in runs]
    for run, slots in zip(runs, numbered, strict=True):
        if len(run) != len(first) or slots != numbered[0]:
            raise NotOneTape("the events differ between the shapes")
        if any(a.kind != b.kind for a, b in zip(run, first, strict=True)):
            raise NotOneTape("the kinds of events differ between the shapes")
    products = terms or monomial_names(variables)
    basis = np.array([term_values(shape, products) for shape, _ in recordings])
    sizes = np.array([[event.size_bytes for event in run] for run in runs], dtype=np.float64)
    if terms and np.linalg.matrix_rank(basis / np.abs(basis).max(axis=0)) < len(terms):
        raise NotOneTape("the shapes do not tell the terms apart")
    coefficients = solve(basis, sizes)
    first_products = {
        next((at for at, event in enumerate(run) if event.product), NONE) for run in runs
    }
    if len(first_products) > 1:
        raise NotOneTape("the first matrix product differs between the shapes")
    ends = {_step_ends(events) for _, events in recordings}
    if len(ends) > 1:
        raise NotOneTape("the ends of steps differ between the shapes")
    return Tape(
        variables=variables,
        kind=np.array([event.kind for event in first], dtype=np.int8),
        slot=np.array(numbered[0], dtype=np.int32),
        coefficients=coefficients,
        terms=terms,
        first_product=first_products.pop(),
        steps=ends.pop(),
    )


def _step_ends(events: list[Event]) -> tuple[int, ...]:
    """How many events, without MARKs, there are before the end of each step."""
    ends: list[int] = []
    count = 0
    for event in events:
        if event.kind != MARK:
            count += 1
        elif event.mark == STEP:
            ends.append(count)
    return tuple(ends)


def fit_costs(
    recordings: list[tuple[Shape, dict[str, float]]],
    variables: tuple[str, ...],
    terms: Callable[[Shape, tuple[str, ...]], np.ndarray] = cost_monomials,
) -> np.ndarray:
    """Coefficients of each cost: rows as in COSTS, columns as `terms` gives them.

    Raises:
        NotOneTape: a cost is not a sum of those terms.
    """
    basis = np.array([terms(shape, variables) for shape, _ in recordings])
    values = np.array([[costs[name] for name in COSTS] for _, costs in recordings])
    return solve(basis, values).astype(np.float64)


def solve(basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least squares that must be exact: rows of the result belong to columns of `values`."""
    scale = np.abs(basis).max(axis=0)
    solution = np.linalg.lstsq(basis / scale, values, rcond=None)[0] / scale[:, None]
    error = np.abs(basis @ solution - values)
    allowed = 0.5 + 1e-9 * np.abs(values)
    if (error > allowed).any():
        worst = np.unravel_index((error - allowed).argmax(), error.shape)
        raise NotOneTape(f"not multilinear: off by {error[worst]:.0f} of {values[worst]:.0f}")
    solution[np.abs(solution * scale[:, None]) < 1e-6] = 0.0
    return np.ascontiguousarray(solution.T)


def number_slots(events: list[Event]) -> list[int]:
    """Slots by order of appearance; -1 - k for the k-th one that lived before the recording."""
    names: dict[int, int] = {}
    outside: dict[int, int] = {}
    numbers = []
    for event in events:
        if event.kind in (SCRATCH, CALL):
            numbers.append(0)
        elif event.slot in names:
            numbers.append(names[event.slot])
        elif event.kind == RELEASE:
            numbers.append(outside.setdefault(event.slot, -1 - len(outside)))
        else:
            names[event.slot] = len(names)
            numbers.append(names[event.slot])
    return numbers
