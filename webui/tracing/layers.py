"""Cuts a recorded training step at its layers, and finds what repeats from layer to layer.

A recording with a few layers of each tower has everything that one with many has: the first layer,
the last, and those between, which are alike. Two of them are compared; what differs is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from webui.estimator.segments import (
    DIRECTIONS,
    FIRST,
    LAST,
    ONLY,
    PLACES,
    RELATIVE,
    TOWERS,
    Reference,
)
from webui.estimator.tape import COSTS, RELEASE, SCRATCH
from webui.tracing.fit import NotOneTape
from webui.tracing.recorder import MARK, Event, Recording

LAYERS = 4
"""Traced layers of each tower: first, last, and two to compare."""
END = "end"


def mark_of(direction: str, tower: str = "", layer: int = 0) -> str:
    """The mark where a layer's pass begins; without a tower, what comes before all layers."""
    return f"{direction} {tower} {layer}" if tower else direction


@dataclass(slots=True)
class Piece:
    """What happens between two marks, and what of earlier pieces it frees."""

    direction: str
    tower: str
    layer: int
    events: list[Event] = field(default_factory=list)
    outside: list[Reference] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))

    @property
    def name(self) -> str:
        """Unique in one forward and backward pass, e.g. `backward.text.middle`."""
        return ".".join(part for part in (self.direction, self.tower, self.place) if part)

    @property
    def place(self) -> str:
        if not self.tower:
            return ""
        return {0: "first", LAYERS - 1: "last"}.get(self.layer, "middle")


def cut_passes(recording: Recording) -> list[list[Piece]]:
    """The forward and backward passes up to the mark `end`, each cut at its layers.

    Raises:
        NotOneTape: a piece frees what no piece of its pass has made.
    """
    passes: list[list[Piece]] = []
    made: dict[int, tuple[Piece, int]] = {}
    count = 0
    begun: dict[str, float] = dict.fromkeys(COSTS, 0.0)
    for event in recording.events:
        if event.kind == MARK:
            if passes:
                piece = passes[-1][-1]
                piece.costs = {name: event.costs[name] - begun[name] for name in COSTS}
            if event.mark == END:
                break
            direction, _, where = event.mark.partition(" ")
            tower, _, layer = where.partition(" ")
            if event.mark == DIRECTIONS[0]:
                passes.append([])
                made = {}
            passes[-1].append(Piece(direction, tower, int(layer or 0)))
            count, begun = 0, event.costs
            continue
        if not passes:
            continue
        piece = passes[-1][-1]
        piece.events.append(event)
        if event.kind == RELEASE:
            if event.slot not in made:
                raise NotOneTape(f"{piece.name} frees what was there before")
            owner, number = made[event.slot]
            if owner is not piece:
                piece.outside.append(_reference(piece, owner, number))
        elif event.kind != SCRATCH:
            made[event.slot] = (piece, count)
            count += 1
    return passes


def _reference(piece: Piece, owner: Piece, number: int) -> Reference:
    """How a layer names a storage of another: by the distance where both are of one tower."""
    direction, tower = DIRECTIONS.index(owner.direction), TOWERS.index(owner.tower)
    distance = owner.layer - piece.layer
    if not owner.tower:
        return Reference(direction, tower, ONLY, 0, number)
    if owner.tower == piece.tower and (piece.place == "middle" or abs(distance) <= 1):
        return Reference(direction, tower, RELATIVE, distance, number)
    if owner.place == "middle":
        raise NotOneTape(f"{piece.name} frees what {owner.name} made")
    return Reference(direction, tower, FIRST if owner.place == "first" else LAST, 0, number)


def merge_middles(pieces: Iterable[Piece]) -> dict[str, Piece]:
    """The pieces of one pass by name; the two layers between first and last are one.

    Raises:
        NotOneTape: they are not alike.
    """
    merged: dict[str, Piece] = {}
    for piece in pieces:
        known = merged.setdefault(piece.name, piece)
        if known is not piece:
            _require_alike(known, piece)
    places = {piece.place for piece in merged.values()} - {""}
    if places != set(PLACES):
        raise NotOneTape("a tower has too few layers")
    return merged


def _require_alike(one: Piece, other: Piece) -> None:
    same = [(event.kind, event.size_bytes) for event in one.events] == [
        (event.kind, event.size_bytes) for event in other.events
    ]
    if not same or one.outside != other.outside or one.costs != other.costs:
        raise NotOneTape(f"{one.name}: layers {one.layer} and {other.layer} differ")


def require_same(one: dict[str, Piece], other: dict[str, Piece], direction: str) -> None:
    """Two passes do the same in one direction.

    Raises:
        NotOneTape: they do not.
    """
    for name, piece in one.items():
        if piece.direction == direction:
            _require_alike(piece, other[name])
