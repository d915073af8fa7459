"""Cuts a recorded run of FlashVSR into the calls of its phases, and lengthens its transformer.

A call is what a phase repeats: a clip through the projection, a chunk through the transformer, a
latent frame through the decoder. Each goes on until the next one begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from webui.estimator.tape import COSTS, RELEASE, SCRATCH
from webui.tracing.cutting import FIRST_LAYERS, LAST_LAYERS, LAYER, Piece, cut_pieces
from webui.tracing.fit import NotOneTape
from webui.tracing.recorder import MARK, Event, Recording

CALLS = {"project": "clip", "denoise": "chunk", "decode": "latent"}
"""What each phase repeats: the marks before the calls. The phases' own marks are their names."""
END = "end"
"""The mark where a phase or a segment ends."""
LAYERS = FIRST_LAYERS + 1 + LAST_LAYERS
"""Layers of the transformer that are run: the fourth stands for all others."""


@dataclass(slots=True)
class Call:
    """One call: its events, and how it hangs on those of its phase before it."""

    events: list[Event] = field(default_factory=list)
    outside: list[tuple[int, int]] = field(default_factory=list)
    """For each storage of earlier calls that it frees: calls back, and number in that call."""
    output: int = -1
    """Number of the storage that goes to the next phase (a chunk's latents)."""
    costs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))


@dataclass(slots=True)
class Phase:
    """The calls of a phase in one block, and what is left when it ends."""

    calls: list[Call] = field(default_factory=list)
    lasting: list[int] = field(default_factory=list)
    """Numbers in the first call: what stays until the segment ends."""
    kept: list[int] = field(default_factory=list)
    """Numbers in the last call: what the next block's first call takes over."""


@dataclass(slots=True)
class Recorded:
    """A run, and which storages are its chunks' latents."""

    recording: Recording
    outputs: set[int]


def phases_of(recorded: Recorded, layers: int, of: int = 0) -> dict[str, list[Phase]]:
    """The phases of a run, each in every block that it has.

    Args:
        recorded: of `record_segments` or `record_join`.
        layers: of the transformer that ran.
        of: layers of the whole transformer, where fewer ran: those in the middle are alike.

    Raises:
        NotOneTape: a phase hangs on more than its own calls.
    """
    pieces = cut_pieces(recorded.recording, {CALLS["denoise"]: layers})
    if of > layers:
        _lengthen(pieces, recorded, layers, of - layers)
    found: dict[str, list[Phase]] = {name: [] for name in CALLS}
    place_of: dict[int, tuple[str, int, int]] = {}
    """Of a piece: its phase, the phase's number, and the call's among all of that phase."""
    counts = dict.fromkeys(CALLS, 0)
    name = ""
    for number, piece in enumerate(pieces):
        if piece.name in CALLS:
            name = piece.name
            found[name].append(Phase())
        elif name and piece.name == CALLS[name] and _is_call(piece):
            place_of[number] = (name, len(found[name]) - 1, counts[name])
            counts[name] += 1
            found[name][-1].calls.append(_call_of(piece, number, place_of, recorded.outputs))
    for name, phases in found.items():
        for index, phase in enumerate(phases):
            _note_left(phase, pieces, name, index, place_of)
    return found


def _lengthen(pieces: list[Piece], recorded: Recorded, layers: int, more: int) -> None:
    """Adds layers to the chunks: what one in the middle leaves, and costs."""
    costs = _middle_costs(recorded.recording)
    chunks = [piece for piece in pieces if piece.name == CALLS["denoise"] and _is_call(piece)]
    fresh = 1 + max((event.slot for piece in chunks for event in piece.events), default=0)
    for chunk, cost in zip(chunks, costs, strict=True):
        chunk.costs = {name: chunk.costs[name] + more * cost[name] for name in COSTS}
        freed = {event.slot for event in chunk.events if event.kind == RELEASE}
        left = [
            index
            for index, event in enumerate(chunk.events)
            if event.kind not in (RELEASE, SCRATCH)
            and event.slot not in freed
            and event.slot not in recorded.outputs
        ]
        each = len(left) // layers
        if each * layers != len(left):
            raise NotOneTape("the layers leave unequal amounts")
        middle = left[FIRST_LAYERS * each : (FIRST_LAYERS + 1) * each]
        for index in reversed(middle):
            copies = [replace(chunk.events[index], slot=fresh + n) for n in range(more)]
            fresh += more
            chunk.events[index + 1 : index + 1] = copies


def _middle_costs(recording: Recording) -> list[dict[str, float]]:
    """Of each chunk, what the first of its middle layers costs."""
    begun: dict[str, float] = {}
    found = []
    for event in recording.events:
        if event.kind == MARK and event.mark == LAYER:
            if event.slot == FIRST_LAYERS:
                begun = event.costs
            elif event.slot == FIRST_LAYERS + 1:
                found.append({name: event.costs[name] - begun[name] for name in COSTS})
    return found


def _is_call(piece: Piece) -> bool:
    """Not what stands between a phase's last call and its end."""
    return any(event.kind != RELEASE for event in piece.events)


def _call_of(
    piece: Piece, number: int, place_of: dict[int, tuple[str, int, int]], outputs: set[int]
) -> Call:
    name, _, own = place_of[number]
    call = Call(events=piece.events, costs=piece.costs)
    for back, slot in piece.outside:
        other = place_of.get(number - back)
        if other is None or other[0] != name:
            raise NotOneTape(f"a call of {name} frees what another phase made")
        call.outside.append((own - other[2], slot))
    made = [event.slot for event in piece.events if event.kind not in (RELEASE, SCRATCH)]
    call.output = next((n for n, slot in enumerate(made) if slot in outputs), -1)
    return call


def _note_left(
    phase: Phase,
    pieces: list[Piece],
    name: str,
    index: int,
    place_of: dict[int, tuple[str, int, int]],
) -> None:
    """What is alive when the phase has ended, of its first and of its last call."""
    numbers = [number for number, place in place_of.items() if place[:2] == (name, index)]
    if not numbers:
        return
    # What the last call returned, or held by a name, is freed until the next mark.
    end = next(
        (n for n in range(numbers[-1] + 1, len(pieces)) if pieces[n].name in (*CALLS, END)),
        len(pieces),
    )
    alive: dict[int, set[int]] = {}
    for place, number in enumerate(numbers):
        made, freed, count = set(), set(), 0
        slots: dict[int, int] = {}
        for event in pieces[number].events:
            if event.kind == RELEASE:
                freed.add(slots.get(event.slot, -1))
            elif event.kind != SCRATCH:
                slots[event.slot] = count
                made.add(count)
                count += 1
        alive[place] = made - freed - {phase.calls[place].output}
    for number in range(numbers[0] + 1, end):
        for back, slot in pieces[number].outside:
            if number - back in numbers:
                alive[numbers.index(number - back)].discard(slot)
    last = len(numbers) - 1
    phase.lasting = sorted(alive[0]) if last else []
    phase.kept = sorted(alive[last])
    if any(slots for place, slots in alive.items() if place not in (0, last)):
        raise NotOneTape(f"calls in the middle of {name} leave something")
