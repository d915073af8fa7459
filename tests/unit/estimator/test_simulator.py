"""The replay as machine code against the one in Python: by chance, and for every model."""

from __future__ import annotations

import random
import sys
from itertools import count

import numpy as np
import pytest

from tests.random_requests import random_request
from webui.catalogue import find_model, load_cards
from webui.core.model import ModelCard
from webui.core.parse import parse_request
from webui.core.settings import with_defaults
from webui.core.units import GIB, MIB
from webui.estimator import simulator
from webui.estimator.answers import memory_of, phase_events
from webui.estimator.case import Case
from webui.estimator.replay import Replay, replay_spans
from webui.estimator.simulator import Simulator
from webui.estimator.tape import ALLOCATE, LOAD, RELEASE, SCRATCH
from webui.estimator.target import Target
from webui.estimator.timeline import Span, Timeline
from webui.hardware import find_card
from webui.optimizer.candidates import candidates, own_defaults


@pytest.fixture(scope="module")
def compiled() -> Simulator:
    pytest.importorskip("numba")
    loaded = Simulator()
    assert loaded.load()
    return loaded


def both(monkeypatch, compiled, timeline, spans, expandable, limit) -> tuple:
    """What the machine code finds, and what Python does."""
    found = []
    for way in (compiled, Simulator()):
        monkeypatch.setattr(simulator, "_simulator", way)
        monkeypatch.setattr(simulator, "PATIENCE_EVENTS", 10**12)
        found.append(replay_spans(timeline, spans, expandable, limit))
        assert way.is_compiled == (way is compiled)
    return tuple(found)


def random_timeline(
    chance: random.Random, number: int, palette: list[int] | None = None
) -> Timeline:
    """Storages of 64 KiB to 64 MiB, some there first, and never more than 2 GiB.

    Args:
        chance: draws them.
        number: of events.
        palette: all sizes that there are, so that many are equal.
    """

    def size() -> int:
        return chance.choice(palette) if palette else int(2 ** chance.uniform(16, 26)) // 512 * 512

    resident = [size() for _ in range(number // 40)]
    alive = dict(enumerate(resident))
    events = []
    for key in range(len(resident), len(resident) + number):
        if alive and (chance.random() < 0.45 or sum(alive.values()) > 2 * GIB):
            gone = chance.choice(list(alive))
            events.append((RELEASE, gone, -alive.pop(gone)))
            continue
        events.append((chance.choice((ALLOCATE, ALLOCATE, ALLOCATE, LOAD, SCRATCH)), key, size()))
        if events[-1][0] != SCRATCH:
            alive[key] = events[-1][2]
    kinds, keys, deltas = zip(*events, strict=True)
    return Timeline(
        np.array(resident), np.array(kinds, np.int8), np.array(keys, np.int32), np.array(deltas)
    )


@pytest.mark.parametrize("expandable", [False, True])
@pytest.mark.parametrize("limit_mib", [None, 1300, 1150, 1000, 10])
def test_both_ways_play_chance_alike(compiled, monkeypatch, expandable, limit_mib) -> None:
    limit = None if limit_mib is None else limit_mib * MIB
    spans = [Span(0, 300), Span(300, 300), Span(450, 1500), Span(1500, 2000)]
    retried = refused = 0
    for seed in range(8):
        timeline = random_timeline(random.Random(seed), 2000)
        found, expected = both(monkeypatch, compiled, timeline, spans, expandable, limit)
        assert found == expected
        retried += any(span.retries for span in found)
        refused += not found[-1].fits
    # The limits are such that there is something to compare.
    if limit_mib is None or limit_mib == 10:
        assert (retried, refused) == (0, 0 if limit is None else 8)
    else:
        assert retried >= 2
        assert 0 < refused < 8


def test_both_ways_choose_alike_among_equals(compiled, monkeypatch) -> None:
    """Of free blocks of one size the lowest is taken; whole units of segments are given back."""
    retried = 0
    for seed in range(40):
        chance = random.Random(seed)
        palette = [chance.randrange(2, 42) * MIB + 512 * chance.choice((0, 0, 1)) for _ in range(4)]
        timeline = random_timeline(chance, 300, palette)
        most = int(timeline.live().max()) + int(timeline.resident.sum())
        limit = most + chance.choice((8, 60)) * MIB
        found, expected = both(
            monkeypatch, compiled, timeline, [Span(0, 100), Span(100, 300)], True, limit
        )
        assert found == expected
        retried += any(span.retries for span in found)
    assert retried >= 10


def test_what_is_mapped_again_is_one_block_with_its_neighbours(compiled, monkeypatch) -> None:
    """`map_block`: 20 MiB that were given back from the middle of a free block return to it."""
    sizes = {0: 30, 1: 35, 2: 30, 3: 40, 4: 20, 5: 12}
    steps = [(ALLOCATE, 0), (ALLOCATE, 1), (ALLOCATE, 2), (RELEASE, 1)]
    # On the other stream, where nothing is free: it is given the middle of 1, and 4 gets it back.
    steps += [(LOAD, 3), (RELEASE, 3), (ALLOCATE, 4)]
    steps += [(ALLOCATE, 5)]  # in what 4 leaves of 1, both ends of it
    timeline = Timeline(
        np.array([], np.int64),
        np.array([kind for kind, _ in steps], np.int8),
        np.array([key for _, key in steps], np.int32),
        np.array([(-sizes[key] if kind == RELEASE else sizes[key]) * MIB for kind, key in steps]),
    )
    spans = [Span(0, 7), Span(7, 8)]
    for found in both(monkeypatch, compiled, timeline, spans, True, 130 * MIB):
        assert [(span.retries, span.fits) for span in found] == [(2, True), (0, True)]
        assert found[1].reserved_bytes == 100 * MIB


def test_both_ways_find_their_place_among_many_free_blocks(compiled, monkeypatch) -> None:
    chance = random.Random(3)
    sizes = [chance.choice((3, 5, 8, 13)) * MIB + 512 * chance.randrange(400) for _ in range(900)]
    events = [(ALLOCATE, key, size) for key, size in enumerate(sizes[:600])]
    events += [(RELEASE, key, -sizes[key]) for key in range(0, 600, 2)]  # no two are neighbours
    for key in range(600, 900):
        events += [(ALLOCATE, key, sizes[key]), (RELEASE, key, -sizes[key])][: 1 + key % 2]
    kinds, keys, deltas = zip(*events, strict=True)
    timeline = Timeline(
        np.array([], np.int64), np.array(kinds, np.int8), np.array(keys, np.int32), np.array(deltas)
    )
    for expandable in (True, False):
        found, expected = both(
            monkeypatch, compiled, timeline, [Span(0, len(kinds))], expandable, None
        )
        assert found == expected


def test_what_no_machine_integer_holds_is_left_to_python(compiled, monkeypatch) -> None:
    huge = 2**58
    timeline = Timeline(
        np.array([], np.int64),
        np.full(9, ALLOCATE, np.int8),
        np.arange(9, dtype=np.int32),
        np.full(9, huge),
    )
    monkeypatch.setattr(simulator, "_simulator", compiled)
    assert replay_spans(timeline, [Span(0, 9)], True, None)[0].reserved_bytes >= 9 * huge


@pytest.mark.parametrize("model", load_cards().values(), ids=lambda model: model.name)
def test_both_ways_play_every_model_alike(compiled, monkeypatch, model) -> None:
    """Streamed and resident, without a limit, and at limits that are met."""
    ways = []
    for way in (compiled, Simulator()):
        monkeypatch.setattr(simulator, "_simulator", way)
        monkeypatch.setattr(simulator, "PATIENCE_EVENTS", 10**12)
        ways.append(_answers(model))
        assert way.is_compiled == (way is compiled)
    assert ways[0] == ways[1] != []


def _answers(model: ModelCard) -> list[Replay]:
    """Replays of a model's phases at one workload, under its defaults and under the last of the
    optimizer's candidates, which moves most off the card."""
    card = find_card("rtx-3060-12gb")
    target = Target(card=card, limit_bytes=card.vram_bytes, host=find_card("cpu"))
    chance = random.Random(model.name)
    drawn = (random_request(chance) for _ in count())
    asked = next(
        each for each in drawn if (each["model"], each["task"]) == (model.name, model.task)
    )
    request = parse_request(asked | {"card": card.name}, find_model)
    usual = with_defaults(request.settings, model.settings, own_defaults(model, request, target))
    least = list(candidates(model, request, target))[-1]
    found = []
    memory_of.cache_clear()
    phase_events.cache_clear()
    for settings, asks in (
        (usual, ((True, 1.0), (True, 0.85), (False, 1.0))),
        (least, ((True, 0.97),)),
    ):
        case = Case(model, request, settings, target)
        for phase in case.phases:
            events = phase_events(case.key(phase), phase)
            most = events.replay(True, None).reserved_bytes
            for expandable, share in asks:
                limit = None if share == 1.0 else int(most * share)
                found.append(events.replay(expandable, limit))
    return found


def test_it_is_loaded_beside_the_answers_after_some_work(monkeypatch) -> None:
    pytest.importorskip("numba")
    fresh = Simulator()
    monkeypatch.setattr(simulator, "_simulator", fresh)
    monkeypatch.setattr(simulator, "PATIENCE_EVENTS", 3000)
    timeline, spans = random_timeline(random.Random(0), 2000), [Span(0, 2000)]
    first = replay_spans(timeline, spans, True, None)
    fresh.wait()
    assert not fresh.is_compiled
    replay_spans(timeline, spans, True, None)
    fresh.wait()
    assert fresh.is_compiled
    assert replay_spans(timeline, spans, True, None) == first


def test_without_numba_python_answers(compiled, monkeypatch) -> None:
    for name in ("compiled", "compiled_blocks"):
        monkeypatch.delitem(sys.modules, f"webui.estimator.{name}")
    monkeypatch.setitem(sys.modules, "numba", None)
    plain = Simulator()
    assert not plain.load()
    timeline, spans = random_timeline(random.Random(0), 500), [Span(0, 500)]
    found = []
    for way in (plain, compiled):
        monkeypatch.setattr(simulator, "_simulator", way)
        found.append(replay_spans(timeline, spans, True, None))
    assert found[0] == found[1]
