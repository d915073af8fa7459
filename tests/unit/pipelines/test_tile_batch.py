"""The batch of tiles: it grows while that is faster and fits, backs off, and loses nothing."""

from __future__ import annotations

import torch
from pytest import MonkeyPatch

from webui.core.host import host_memory_bytes
from webui.core.units import GIB
from webui.pipelines import tile_batch
from webui.pipelines.tile_batch import HostMeter, TileBatch


class Card:
    """A card with a clock: a batch takes a start-up and a time for each tile, and memory for each.

    Args:
        seconds: of a batch of a size.
        tile_gib: that a tile needs.
        gib: of the card.
    """

    def __init__(self, patch: MonkeyPatch, seconds, tile_gib: float = 1.0, gib: float = 40) -> None:
        self.seconds, self.tile_gib = seconds, tile_gib
        self.limit_bytes = int(gib * GIB)
        self.others_gib = 0.0
        self.now = 0.0
        self.sizes: list[int] = []
        self.done: list[int] = []
        self.told: list[str] = []
        self.most_gib = 0.0
        patch.setattr(tile_batch.time, "perf_counter", lambda: self.now)

    def free_bytes(self) -> int:
        return self.limit_bytes - int(self.others_gib * GIB)

    def measured(self, compute):
        return compute(), int(self.tile_gib * GIB * self.sizes[-1])

    def compute(self, batch):
        self.sizes.append(len(batch))
        if len(batch) * self.tile_gib * GIB > self.free_bytes():
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.now += self.seconds(len(batch))
        return [-job for job in batch]

    def take(self, batch, made) -> None:
        assert made == [-job for job in batch]
        self.done.extend(batch)

    def run(self, count: int, **given) -> TileBatch:
        batch = TileBatch(self, tell=lambda text: self.told.append(str(text)), **given)
        batch.run(range(count), self.compute, self.take)
        assert self.done == list(range(count))
        return batch


def test_it_grows_to_what_memory_holds_and_leaves_the_reserve(monkeypatch) -> None:
    card = Card(monkeypatch, lambda size: 1 + 0.1 * size)
    card.run(600)
    # 40 GiB less 2 in reserve have room for 33, of tiles that are taken to need 1.15.
    assert max(card.sizes) == 32 and card.sizes[:2] == [1, 1] and card.sizes.count(32) > 10
    assert "32 tiles at once" in card.told[-1]

    card = Card(monkeypatch, lambda size: 1 + 0.1 * size)
    card.run(600, reserve_bytes=8 * GIB)
    assert max(card.sizes) == 27


def test_it_starts_where_the_estimate_says(monkeypatch) -> None:
    card = Card(monkeypatch, lambda size: 1 + 0.1 * size)
    card.run(200, start=12)
    assert card.sizes[2] == 12


def test_a_batch_that_is_slower_is_left_again(monkeypatch) -> None:
    # Beyond four at once every tile takes twice as long.
    card = Card(monkeypatch, lambda size: (0.5 + 0.5 * size) * (2 if size > 4 else 1))
    batch = card.run(200)
    assert batch.size == 4 and max(card.sizes) == 8 and card.sizes.count(8) == 2
    assert "8 tiles at once are no faster than 4" in " ".join(card.told)


def test_it_is_never_slower_than_one_at_a_time(monkeypatch) -> None:
    card = Card(monkeypatch, lambda size: size * size)
    batch = card.run(100, start=8)
    assert batch.size == 1 and card.sizes.count(8) == 2 and card.now < 100 + 2 * 64


def test_it_halves_when_memory_runs_out_and_repeats_nothing(monkeypatch) -> None:
    # A reserve of nothing, and larger batches need more than one tile's measure tells.
    card = Card(monkeypatch, lambda size: 1 + 0.1 * size, gib=10)
    card.measured = lambda compute: (compute(), GIB // 2)
    batch = card.run(300, reserve_bytes=0)
    failed = [size for size in card.sizes if size > 10]
    assert failed and len(failed) <= 2 and batch.size == failed[0] // 2
    assert "ran out of memory" in " ".join(card.told)


def test_a_plan_is_gone_below_and_never_above(monkeypatch) -> None:
    card = Card(monkeypatch, lambda size: 1 + 0.1 * size, gib=10)
    batch = card.run(60, start=16, grows=False)
    # What was planned has its room: no reserve is taken from it.
    assert card.sizes[:2] == [16, 8] and max(card.sizes[2:]) <= 9 and batch.size >= 8

    card = Card(monkeypatch, lambda size: 1 + 0.1 * size)
    assert card.run(60, start=4, grows=False).size == 4 and card.told == []


def test_memory_that_others_take_is_left_to_them_and_taken_back(monkeypatch) -> None:
    card = Card(monkeypatch, lambda size: 1 + 0.1 * size)
    given = card.take

    def take(batch, made) -> None:
        given(batch, made)
        card.others_gib = 25 if 300 < len(card.done) < 600 else 0

    card.take = take  # type: ignore[method-assign]
    card.run(1500, recheck=2)
    busy = [size for size in card.sizes if size <= 33]
    assert any("Only 15.00 GiB" in told for told in card.told)
    # While others are there, 13 GiB are left beside the reserve.
    assert 11 in busy or 8 in busy
    assert card.sizes[-3] >= 30


def test_a_planned_batch_comes_back_when_others_give_memory_back(monkeypatch) -> None:
    card = Card(monkeypatch, lambda size: 1 + 0.1 * size)
    given = card.take

    def take(batch, made) -> None:
        given(batch, made)
        card.others_gib = 33 if len(card.done) < 300 else 0

    card.take = take  # type: ignore[method-assign]
    card.run(900, start=16, grows=False, recheck=2)
    assert min(card.sizes[:30]) < 16 and card.sizes[-2] == 16


def test_a_single_tile_that_does_not_fit_says_so(monkeypatch) -> None:
    card = Card(monkeypatch, lambda size: 1.0, tile_gib=50)
    try:
        card.run(3)
    except torch.OutOfMemoryError:
        assert card.done == []
    else:
        raise AssertionError("it went through")


def test_on_the_processor_it_is_measured_by_live_tensors() -> None:
    meter = HostMeter()
    assert meter.limit_bytes == host_memory_bytes()  # a container's, not the machine's
    made, taken_bytes = meter.measured(lambda: torch.zeros(1000).add(1).sum().item())
    assert made == 1000 and 2 * 4000 <= taken_bytes <= 3 * 4000
    batch = TileBatch(meter, grows=True)
    done: list[float] = []
    batch.run(
        iter([torch.full((64, 64), float(index)) for index in range(40)]),
        lambda tiles: torch.stack(list(tiles)).mean((1, 2)).tolist(),
        lambda _, made: done.extend(made),
    )
    assert done == [float(index) for index in range(40)]
