"""The compiled replay against the one in Python: by chance, and for every model's templates."""

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
from webui.estimator.replay import Replay
from webui.estimator.simulator import LargeBlocks, Simulator, play_in_python
from webui.estimator.tape import ALLOCATE, LOAD, RELEASE, SCRATCH
from webui.estimator.target import Target
from webui.hardware import find_card
from webui.optimizer.candidates import candidates, own_defaults


@pytest.fixture(scope="module")
def compiled() -> Simulator:
    pytest.importorskip("numba")
    loaded = Simulator()
    assert loaded.load()
    return loaded


def random_blocks(chance: random.Random, number: int) -> LargeBlocks:
    """Storages of 1 to 64 MiB, a tenth of them there first, and never more than 2 GiB."""
    residents = number // 10

    def size() -> int:
        return int(2 ** chance.uniform(20.1, 26)) // 512 * 512

    resident = [size() for _ in range(residents)]
    alive = dict(enumerate(resident))
    events = []
    for key in range(residents, residents + number):
        beside = chance.randrange(0, 8 * MIB)
        if alive and (chance.random() < 0.45 or sum(alive.values()) > 2 * GIB):
            gone = chance.choice(list(alive))
            events.append((RELEASE, gone, -alive.pop(gone), beside))
            continue
        kind = chance.choice((ALLOCATE, ALLOCATE, ALLOCATE, LOAD, SCRATCH))
        events.append((kind, key, size(), beside))
        if kind != SCRATCH:
            alive[key] = events[-1][2]
    kinds, keys, sizes, beside_ = (np.array(column) for column in zip(*events, strict=True))
    return LargeBlocks(np.array(resident), np.arange(residents), kinds, keys, sizes, beside_)


@pytest.mark.parametrize("expandable", [False, True])
@pytest.mark.parametrize("limit_mib", [None, 2600, 2000, 1200, 300, 10])
def test_both_ways_play_chance_alike(compiled, expandable, limit_mib) -> None:
    limit = None if limit_mib is None else limit_mib * MIB
    retried = refused = 0
    for seed in range(8):
        blocks = random_blocks(random.Random(seed), 1200)
        bounds = np.array([[0, 300], [300, 300], [450, 1000], [1000, 1200]])
        expected = play_in_python(blocks, bounds, expandable, limit).tolist()
        assert compiled.play(blocks, bounds, expandable, limit).tolist() == expected
        retried += expected[-1][4]
        refused += not expected[-1][5]
    # The limits are such that there is something to compare.
    assert (retried > 0) == (limit is not None)
    assert refused == (0 if limit is None else 8 if limit_mib < 2000 else refused)


def test_what_no_machine_integer_holds_is_left_to_python(compiled) -> None:
    huge = 2**61
    nothing = np.empty(0, np.int64)
    blocks = LargeBlocks(np.array([huge, huge, huge]), np.arange(3), *[nothing] * 4)
    reserved = compiled.play(blocks, np.array([[0, 0]]), True, None)[0][1]
    assert reserved >= 3 * huge


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
    monkeypatch.setattr(simulator, "PATIENCE_EVENTS", 2000)
    blocks, bounds = random_blocks(random.Random(0), 1200), np.array([[0, 1200]])
    fresh = Simulator()
    first = fresh.play(blocks, bounds, True, None)
    assert fresh._loading is None
    fresh.play(blocks, bounds, True, None)
    fresh._loading.join()
    assert fresh.is_compiled
    assert fresh.play(blocks, bounds, True, None).tolist() == first.tolist()


def test_without_numba_python_answers(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "webui.estimator.compiled", raising=False)
    monkeypatch.delitem(sys.modules, "webui.estimator.compiled_blocks", raising=False)
    plain = Simulator()
    assert not plain.load()
    blocks, bounds = random_blocks(random.Random(0), 300), np.array([[0, 300]])
    expected = play_in_python(blocks, bounds, True, None).tolist()
    assert plain.play(blocks, bounds, True, None).tolist() == expected
