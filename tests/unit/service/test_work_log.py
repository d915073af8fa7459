"""Who did what: seconds of work apart from those of loading, by a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from webui.core.work import WorkerRecord, WorkRecord, linear_share
from webui.service.work_log import WorkLog

PHASE: dict[str, Any] = {"event": "phase", "name": "project"}
LOADING: dict[str, Any] = {"event": "phase", "name": "loading"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_loading_is_told_apart_and_a_lost_turn_counts_for_nothing() -> None:
    clock = Clock()
    log = WorkLog("frames", 2, clock)
    for worker in (0, 1):
        log.turn(worker)
    clock.now = 3.0
    log.hear(0, LOADING, 0)
    clock.now = 10.0
    for worker in (0, 1):
        log.hear(worker, PHASE, 0)
    log.hear(1, {"event": "frames"}, 40)
    log.hear(0, {"event": "piece"}, 0)
    clock.now = 30.0
    running = log.record()
    assert [worker.pieces for worker in running.workers] == [1, 0]
    assert [worker.work_s for worker in running.workers] == [20.0, 20.0]
    assert running.workers[1].units == 40 and running.elapsed_s == 30.0
    log.over(1, 0, 0, None, lost=True)
    end = {"device": "card", "measurement": {"seconds": 18.0}, "waits": {"writing": 4.0}}
    log.over(0, 2, 200, end, lost=False)
    clock.now = 31.0
    log.free()
    clock.now = 33.0
    log.joined()
    one, other = log.record().workers
    # What the phases do not count is loading too: compiling, say.
    assert one.pieces == 2
    assert (one.device, one.work_s, one.load_s, one.rate) == ("card", 18.0, 12.0, 200 / 18)
    assert (other.lost, other.lost_s, other.lost_units) == (1, 20.0, 40)
    assert (other.units, other.work_s, other.load_s, other.rate) == (0, 0.0, 10.0, None)
    record = log.record()
    assert (record.elapsed_s, record.joining_s, record.units) == (31.0, 2.0, 200)
    assert WorkRecord.from_json(record.to_json()) == record
    assert [text for text in record.waits if "encoder" in text.en]
    assert not [text for text in record.waits if "enlarged" in text.en]


def test_waiting_without_work_is_no_share_of_it() -> None:
    waited = WorkerRecord(device="", pieces=0, units=0, work_s=0.0, load_s=1.0, reading_s=2.0)
    assert WorkRecord(unit="frames", elapsed_s=3.0, joining_s=0.0, workers=(waited,)).waits == ()


def record(elapsed_s: float, *loads: float) -> WorkRecord:
    workers = [
        WorkerRecord(device="", pieces=1, units=900 // len(loads), work_s=1.0, load_s=load_s)
        for load_s in loads
    ]
    return WorkRecord(unit="frames", elapsed_s=elapsed_s, joining_s=0.0, workers=tuple(workers))


def test_the_share_of_linear_is_by_the_clock_and_without_loading() -> None:
    # One worker: 10 s of loading, 90 of work. Three: all load for 10 s, then work for 30.
    assert linear_share(record(100, 10), record(40, 10, 10, 10)) == (
        pytest.approx(100 / 120), pytest.approx(1.0),
    )  # fmt: skip
    # The second one is ready 20 s later: the time that it was there for is all used.
    assert linear_share(record(100, 10), record(65, 10, 30))[1] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="one worker"):
        linear_share(record(65, 10, 30), record(100, 10))
