"""Readings and their history: size, gaps, peaks, what the sampler costs, cards that are lost."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from tests.stand_in_driver import StandInCard, stand_in_driver
from webui.core.units import GIB
from webui.hardware.readings import DeviceReading, HostReading
from webui.service.history import HOST_USED, HOURS_S, USED, UTILISATION, History
from webui.service.monitor import Monitor
from webui.storage.config import MemoryPolicy

START_S = 1000.0
HOST = HostReading(memory_bytes=64 * GIB, available_bytes=60 * GIB, cores=8, utilisation=0.5)


@pytest.fixture(autouse=True)
def all_cards(monkeypatch):
    monkeypatch.delenv("STUDIO_DEVICE", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def card(index: int, used_bytes: int = GIB, busy: float | None = 0.25) -> DeviceReading:
    return DeviceReading(
        index=index, name="H200", total_bytes=140 * GIB, used_bytes=used_bytes, free_bytes=0,
        utilisation=busy, temperature_c=50.0, power_w=None, power_limit_w=None, processes=(),
    )  # fmt: skip


def test_eight_hours_of_eight_cards_are_small_and_still_there():
    history = History()
    cards = [card(index, (index + 1) * GIB) for index in range(8)]
    sizes = set()
    for second in (*range(0, HOURS_S - 3600, 10), *range(HOURS_S - 3600, HOURS_S + 600)):
        history.add(START_S + second, cards, HOST)
        sizes.add(history.nbytes)
    assert len(sizes) == 1 and sizes.pop() < 20 * 10**6
    now_s = START_S + HOURS_S + 599
    for span_s in (300, 3600, HOURS_S):
        found = history.series(now_s, span_s, 150)
        assert found.devices.shape[1:] == (8, 4) and 100 <= len(found.devices) <= 160
        assert np.array_equal(found.devices[0, :, USED], found.devices[-1, :, USED])
        assert not np.isnan(found.devices[:, :, USED]).any()
        assert found.host[0, HOST_USED] == 4 * GIB


def test_a_peak_of_one_second_is_seen_hours_later():
    history = History()
    for second in (*range(195, 205), *range(210, HOURS_S - 100, 10)):
        used, busy = (90 * GIB, 1.0) if second == 200 else (GIB, 0.0)
        history.add(START_S + second, [card(0, used, busy)], HOST)
    found = history.series(START_S + HOURS_S - 110, HOURS_S, 150).devices[:, 0]
    assert np.nanmax(found[:, USED]) == 90 * GIB
    # How busy a card was is a mean: a second of it is not the whole time.
    assert 0 < np.nanmax(found[:, UTILISATION]) < 0.1


def test_what_was_not_read_stays_empty():
    history = History()
    for second in (*range(60), *range(120, 180)):
        history.add(START_S + second, [card(0, busy=None)], HOST)
    found = history.series(START_S + 179, 180, 180).devices[:, 0]
    empty = np.isnan(found[:, USED])
    assert empty[60:120].all() and not empty[:60].any() and not empty[120:].any()
    assert np.isnan(found[:, UTILISATION]).all()
    history.add(START_S + 180, [card(0), card(1)], HOST)
    assert history.series(START_S + 180, 180, 180).devices.shape[1] == 2


def test_the_sampler_reads_once_a_second_for_less_than_a_hundredth_of_the_time(tmp_path):
    policy = MemoryPolicy()
    with stand_in_driver(*(StandInCard(index) for index in range(8))) as driver:
        monitor = Monitor(tmp_path, lambda: policy)
        monitor.start()
        time.sleep(3.2)
        snapshot = monitor.snapshot()
        assert len(snapshot.devices) == 8 and snapshot.devices[3].power_w == 512
        assert 0 < monitor.cpu_share < 0.01
        assert driver.opened == 1
        policy = replace(policy, enable_monitoring=False)
        time.sleep(1.2)
        driver.cards[0].used_bytes = 99 * GIB
        time.sleep(1.5)
        # It is not kept any more; who asks still gets the newest.
        assert monitor.snapshot().devices[0].used_bytes == 99 * GIB
        kept = monitor.history.series(time.monotonic(), 10, 10).devices[:, 0, USED]
        monitor.close()
    assert 2 <= np.count_nonzero(~np.isnan(kept)) <= 5 and np.nanmax(kept) == 20 * GIB


def test_a_card_that_falls_off_the_bus_is_looked_for_again(tmp_path):
    with stand_in_driver(StandInCard(0), StandInCard(1)) as driver:
        monitor = Monitor(tmp_path, MemoryPolicy)
        assert len(monitor.sample().devices) == 2
        driver.cards.pop().lost = True
        assert monitor.sample().devices == ()
        assert len(monitor.sample().devices) == 1 and driver.opened == 2
        monitor.close()
