"""Cuts the recording of a run into pieces, one after the other, each with what it frees of others.

A run through many equal layers repeats itself: what lives and dies in the layers between the first
and the last few is left out, so that templates are small and replays are quick. It changes no live
byte, because those layers have nothing that the others have not, and that is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from webui.estimator.tape import COSTS, RELEASE, SCRATCH
from webui.pipelines.live_bytes import round_bytes
from webui.tracing.fit import NotOneTape
from webui.tracing.recorder import MARK, Event, Recording

LAYER = "layer"
"""The mark before a layer; its slot is the layer's number. After the last one: -1."""
FIRST_LAYERS = 3
LAST_LAYERS = 2
"""Layers that are kept whole."""


@dataclass(slots=True)
class Piece:
    """The events between two marks."""

    name: str
    """Of the mark that it begins with."""
    events: list[Event] = field(default_factory=list)
    outside: list[tuple[int, int]] = field(default_factory=list)
    """For each storage of earlier pieces that it frees: pieces back, and number in that piece."""
    costs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))


def cut_pieces(recording: Recording, layers: dict[str, int]) -> list[Piece]:
    """The pieces between the marks that are not layers, in order; what stands before is left out.

    Args:
        recording: of a run.
        layers: for each piece's name, how many layers it goes through; 0 for none.

    Raises:
        NotOneTape: a layer between has more than the others.
    """
    pieces: list[Piece] = []
    made_in: dict[int, tuple[int, int]] = {}
    counts: list[int] = []
    dropped = _dropped(recording, layers)
    begun: dict[str, float] = {}
    for index, event in enumerate(recording.events):
        if event.kind == MARK:
            if event.mark == LAYER:
                continue
            if pieces:
                pieces[-1].costs = {name: event.costs[name] - begun[name] for name in COSTS}
            begun = event.costs
            pieces.append(Piece(event.mark))
            counts.append(0)
            continue
        if not pieces or index in dropped:
            continue
        pieces[-1].events.append(event)
        if event.kind == RELEASE:
            place, number = made_in.get(event.slot, (-1, -1))
            if place < 0:
                raise NotOneTape("a piece frees what was there before the run")
            if place != len(pieces) - 1:
                pieces[-1].outside.append((len(pieces) - 1 - place, number))
        elif event.kind != SCRATCH:
            made_in[event.slot] = (len(pieces) - 1, counts[-1])
            counts[-1] += 1
    _check_peaks(recording, dropped)
    return pieces[:-1]


def _dropped(recording: Recording, layers: dict[str, int]) -> set[int]:
    """Indices of the events that only middle layers have."""
    dropped: set[int] = set()
    born: dict[int, tuple[int, int, int]] = {}
    for index, event, piece, between in _places(recording, layers):
        if event.kind == SCRATCH:
            if between:
                dropped.add(index)
        elif event.kind == RELEASE:
            start, birth, inside = born.get(event.slot, (-1, -1, 0))
            if between and inside and birth == piece:
                dropped |= {start, index}
        else:
            born[event.slot] = (index, piece, int(between))
    return dropped


def _places(recording: Recording, layers: dict[str, int]) -> Iterator[tuple[int, Event, int, bool]]:
    """Each event with its index, its piece, and whether it is in a layer between."""
    piece, count, layer = -1, 0, -1
    for index, event in enumerate(recording.events):
        if event.kind == MARK:
            if event.mark == LAYER:
                layer = event.slot
            else:
                piece, count, layer = piece + 1, layers.get(event.mark, 0), -1
            continue
        yield index, event, piece, FIRST_LAYERS <= layer < count - LAST_LAYERS


def _check_peaks(recording: Recording, dropped: set[int]) -> None:
    every = _peaks(recording, set())
    for name, peak in _peaks(recording, dropped).items():
        if peak != every[name]:
            raise NotOneTape(f"a layer between has more than the others: {name}")


def _peaks(recording: Recording, dropped: set[int]) -> dict[int, int]:
    """Most live bytes of each piece."""
    peaks: dict[int, int] = {}
    sizes: dict[int, int] = {}
    live, piece = 0, -1
    for index, event in enumerate(recording.events):
        if event.kind == MARK:
            piece += event.mark != LAYER
            peaks[piece] = max(peaks.get(piece, 0), live)
        elif index in dropped:
            continue
        elif event.kind == RELEASE:
            live -= sizes.pop(event.slot, 0)
        else:
            size = round_bytes(event.size_bytes)
            peaks[piece] = max(peaks.get(piece, 0), live + size)
            if event.kind != SCRATCH:
                sizes[event.slot] = size
                live += size
    return peaks
