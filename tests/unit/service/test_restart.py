"""Ends and starts: what was queued goes on, what ran is marked, what had ended stays."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.unit.service.following import ask, wait_for
from webui.core.errors import Cancelled, NotEnoughDisk, OutOfMemory, WorkerLost
from webui.core.job import JobState
from webui.core.receipt import Measurement, PhaseMeasurement, Receipt, Shortage
from webui.core.text import Text
from webui.service import Access, Studio, flow
from webui.service import progress as following
from webui.service.access import LOCAL
from webui.service.planner import Planner
from webui.service.progress import Progress
from webui.service.queue import JobQueue
from webui.storage import Ledger, Outputs, StudioConfig


class Place:
    """A home folder's parts, and a studio on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ledger = Ledger(home / "outputs" / "ledger.sqlite")
        self.outputs = Outputs(home / "outputs")
        self.planner = Planner(self.ledger)

    def record(self, job_id: str, request: dict[str, Any], state: JobState | None = None) -> Any:
        folder = self.outputs.new_folder(job_id).name
        job = self.ledger.record(job_id, LOCAL, request, None, folder)
        if state is not None:
            self.ledger.set_state(job_id, state)
        return job

    def studio(self, resume: bool = True) -> Studio:
        return Studio(self.home, access=Access(), config=StudioConfig(), resume=resume)


@pytest.fixture
def place(on_processor: None, tmp_path: Path) -> Place:
    return Place(tmp_path)


def request_json(place: Place, **changes: Any) -> dict[str, Any]:
    studio = place.studio(resume=False)
    try:
        return ask(studio, seed=1, **changes).to_json()
    finally:
        studio.close()


def test_a_restart_finds_queued_jobs_and_marks_the_running_one(place: Place) -> None:
    request = request_json(place)
    place.record("done1", request, JobState.DONE)
    place.record("ran1", request, JobState.RUNNING)
    place.record("wait1", request)
    place.record("odd1", request | {"frames": 6})
    place.record("wait2", request)
    studio = place.studio()
    try:
        interrupted = studio.view("ran1", LOCAL)
        assert interrupted.state is JobState.INTERRUPTED
        assert interrupted.error is not None and interrupted.error.hint.zh
        assert studio.view("done1", LOCAL).state is JobState.DONE
        assert studio.view("odd1", LOCAL).state is JobState.FAILED
        first = wait_for(studio, "wait1", lambda view: view.state is JobState.RUNNING, owner=LOCAL)
        second = studio.view("wait2", LOCAL)
        assert not first.state.final and second.state is JobState.QUEUED
        assert second.place == 1
    finally:
        studio.close()
    # Ended while the first one was starting: that is marked, the other still waits.
    assert place.ledger.get("wait1").state is JobState.INTERRUPTED
    assert place.ledger.get("wait2").state is JobState.QUEUED


def test_a_command_line_takes_over_nothing(place: Place) -> None:
    request = request_json(place)
    place.record("ran1", request, JobState.RUNNING)
    place.record("wait1", request)
    studio = place.studio(resume=False)
    try:
        assert studio.view("ran1", LOCAL).state is JobState.RUNNING
        assert studio.view("wait1", LOCAL).state is JobState.QUEUED
    finally:
        studio.close()


def measured() -> Measurement:
    return Measurement(
        phases=(
            PhaseMeasurement(
                name="denoise", resident_bytes=1, allocated_bytes=2, reserved_bytes=0, seconds=9.0
            ),
        ),
        peak_allocated_bytes=2,
        peak_reserved_bytes=0,
        peak_device_bytes=0,
        host_bytes=3,
        seconds=9.0,
        load_seconds=0.0,
        source="cpu",
    )


class Answers:
    """A worker's end of the line: gives one last event."""

    def __init__(self, event: dict[str, Any] | Exception) -> None:
        self.event = event
        self.job: Any = None

    def send(self, command: Any) -> None:
        raise AssertionError("nothing was claimed")

    def run(self, job: Any, on_event: Any = None) -> Any:
        self.job = job
        if isinstance(self.event, Exception):
            raise self.event
        return self.event


def run_with(place: Place, worker: Answers, job_id: str = "job1", retries: int = 0) -> Receipt:
    studio = place.studio(resume=False)
    request = ask(studio, seed=1)
    studio.close()
    job = place.record(job_id, request.to_json(), JobState.RUNNING)
    parts = flow.Studio(place.planner, place.ledger, place.outputs, retries=lambda: retries)
    return flow.run_job(
        parts, job, request, lambda _: worker, {"kind": "embedded"}, lambda *_: None, lambda _: None
    )


def test_the_flow_hands_over_the_plan_and_records_the_end(place: Place) -> None:
    event = {
        "event": "result",
        "measurement": measured().to_json(),
        "outputs": [],
        "versions": {"torch": "1"},
        "device": "cpu",
    }
    worker = Answers(event)
    receipt = run_with(place, worker)
    record = place.ledger.get("job1")
    assert record.state is JobState.DONE and record.receipt == receipt
    assert worker.job["settings"] == receipt.plan["settings"]
    assert worker.job["limit_bytes"] is None and worker.job["request"]["seed"] == 1
    assert Path(worker.job["output_dir"]).is_dir()
    # The speed was taught, against the estimate before any teaching.
    (sample,) = place.ledger.speeds("cpu", "demo", "denoise")
    planned = {phase["name"]: phase["seconds"] for phase in receipt.plan["phases"]}
    assert (sample.estimated_s, sample.measured_s) == (pytest.approx(planned["denoise"]), 9.0)


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (WorkerLost(Text("gone", "没了")), JobState.FAILED),
        (Cancelled(), JobState.CANCELLED),
        (
            {"event": "failed", "error": Cancelled().to_json(), "measurement": None},
            JobState.CANCELLED,
        ),
    ],
    ids=["lost", "cancelled before", "cancelled"],
)
def test_the_flow_records_every_end(place: Place, event: Any, state: JobState) -> None:
    receipt = run_with(place, Answers(event))
    record = place.ledger.get("job1")
    assert record.state is state and record.error is not None
    assert receipt.error == record.error.to_json()
    assert not place.ledger.speeds("cpu", "demo", "denoise")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (NotEnoughDisk(Text("The disk is full.", "磁盘已满。")), "The disk is full."),
        (ZeroDivisionError("a bug"), "ZeroDivisionError"),
    ],
)
def test_an_error_while_planning_again_loses_no_attempt(
    place: Place, monkeypatch: pytest.MonkeyPatch, raised: Exception, told: str
) -> None:
    def broken(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(flow, "plan_again", broken)
    shortage = Shortage(
        phase="decode", in_use_bytes=9, reserved_bytes=0, wanted_bytes=1, limit_bytes=None
    )
    event = {
        "event": "failed",
        "error": OutOfMemory(Text("It ran out.", "内存不足。")).to_json(),
        "shortage": shortage.to_json(),
        "measurement": measured().to_json(),
    }
    receipt = run_with(place, Answers(event), retries=1)
    record = place.ledger.get("job1")
    assert record.state is JobState.FAILED and record.receipt == receipt
    assert record.error is not None and told in record.error.message.en
    assert receipt.measurement == measured()
    assert [attempt.shortage for attempt in receipt.attempts] == [shortage]


def test_a_full_disk_at_the_end_is_in_the_receipt(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise NotEnoughDisk(Text("full", "满了"))

    monkeypatch.setattr(Outputs, "finish", full)
    event = {"event": "result", "measurement": measured().to_json(), "outputs": ["clip.mp4"]}
    receipt = run_with(place, Answers(event))
    record = place.ledger.get("job1")
    assert record.state is JobState.FAILED and isinstance(record.error, NotEnoughDisk)
    assert receipt.error is not None and receipt.error["type"] == "NotEnoughDisk"
    assert record.receipt == receipt


def test_a_job_that_ended_before_the_studio_was_closed_stays_done(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`close` may come between the job's last word and the end of its thread."""
    ended, closing = threading.Event(), threading.Event()
    real = flow.run_job

    def slow_to_return(studio: Any, job: Any, request: Any, *rest: Any) -> Any:
        event = {"event": "result", "measurement": measured().to_json(), "outputs": []}
        receipt = real(studio, job, request, lambda _: Answers(event), *rest[1:])
        ended.set()
        closing.wait(10)
        return receipt

    monkeypatch.setattr(flow, "run_job", slow_to_return)
    request = request_json(place)
    studio = place.studio(resume=False)
    parsed = studio.parse(request)
    studio.close()
    parts = flow.Studio(place.planner, place.ledger, place.outputs)
    queue = JobQueue(parts, place.home / "worker.log", device="cpu")
    queue.add(place.record("job1", request), parsed, {"kind": "embedded", "folder": ""})
    assert ended.wait(20)
    threading.Timer(0.2, closing.set).start()
    queue.close()
    assert place.ledger.get("job1").state is JobState.DONE


def test_an_error_of_the_studio_itself_ends_the_job_and_not_the_queue(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(flow, "run_job", broken)
    request = request_json(place)
    studio = place.studio(resume=False)
    parsed = studio.parse(request)
    studio.close()
    parts = flow.Studio(place.planner, place.ledger, place.outputs)
    queue = JobQueue(parts, place.home / "worker.log", device="cpu")
    for name in ("job1", "job2"):
        queue.add(place.record(name, request), parsed, {"kind": "embedded", "folder": ""})
    deadline = time.monotonic() + 20
    while not place.ledger.get("job2").state.final and time.monotonic() < deadline:
        queue.wait(0.1)
    queue.close()
    for name in ("job1", "job2"):
        record = place.ledger.get(name)
        assert record.state is JobState.FAILED and record.error is not None
        assert "ZeroDivisionError" in record.error.message.zh
    assert "a bug" in capsys.readouterr().err


@pytest.mark.slow
def test_workers_on_other_cards_end_with_the_job(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    def shared(*_: Any) -> None:
        assert queue._running is not None
        queue._helper("cpu", "expandable", queue._running)
        pids.append(queue._others["cpu"].pid or 0)

    monkeypatch.setattr(flow, "run_job", shared)
    request = request_json(place)
    studio = place.studio(resume=False)
    parsed = studio.parse(request)
    studio.close()
    parts = flow.Studio(place.planner, place.ledger, place.outputs)
    queue = JobQueue(parts, place.home / "worker.log", device="cpu")
    queue.add(place.record("job1", request), parsed, {"kind": "embedded", "folder": ""})
    deadline = time.monotonic() + 60
    while (not pids or queue.underway()) and time.monotonic() < deadline:
        queue.wait(0.1)
    assert pids and not psutil.pid_exists(pids[0]) and not queue._others
    queue.close()


def test_progress_follows_the_events_and_never_goes_back() -> None:
    progress = Progress({"loading": 4.0, "encode": 1.0, "denoise": 10.0, "decode": 5.0})
    assert progress.phase == "starting" and progress.fraction == 0
    assert progress.seconds_left == pytest.approx(20.5)
    progress.hear({"event": "phase", "name": "denoise"})
    assert progress.fraction == pytest.approx(5 / 20.5, abs=0.01)
    progress.hear({"event": "step", "phase": "denoise", "step": 5, "steps": 10})
    half = progress.fraction
    assert half == pytest.approx(10 / 20.5)
    progress.hear({"event": "step", "phase": "decode", "step": 9, "steps": 9})  # a late one
    assert (progress.step, progress.fraction) == (5, half)
    progress.hear({"event": "step", "phase": "denoise", "step": 1, "steps": 10})
    assert progress.fraction == half
    progress.hear({"event": "preview", "jpeg": "/9g="})
    assert progress.preview == b"\xff\xd8"
    progress.hear({"event": "phase", "name": "save"})
    assert half < progress.fraction <= 0.99
    assert progress.seconds_left <= 0.5


def test_progress_in_pieces_is_what_is_counted() -> None:
    """On a machine slower than predicted the guess by time stood near the end from the start."""
    progress = Progress({"loading": 1.0, "upscale": 1e-6})
    progress.hear({"event": "phase", "name": "upscale"})
    assert progress.rate is None
    assert progress.fraction > 0.05
    for done, share in ((1, 1 / 8), (4, 4 / 8), (2, 4 / 8)):  # a lost worker's pieces come again
        progress.hear({"event": "frames", "count": 1, "done": done, "of": 8})
        assert progress.fraction == share
    assert (progress.step, progress.steps) == (2, 8)


def test_the_pace_of_segments_whose_frames_come_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(following.time, "monotonic", lambda: now[0])
    followed = Progress({"loading": 9.0, "upscale": 1.0})
    followed.hear({"event": "phase", "name": "loading"})
    now[0] = 9.0
    followed.hear({"event": "phase", "name": "upscale"})
    done = 480  # by an earlier run
    for segment in (1, 2, 3):
        now[0] = 9.0 + 240 * segment
        for _ in range(120):
            now[0] += 0.01
            done += 4
            followed.hear({"event": "frames", "count": 4, "done": done, "of": 4800})
        assert followed.rate == pytest.approx(2.0, rel=0.01)
        now[0] += 100
        assert followed.seconds_left == pytest.approx((4800 - done) / 2 - 100, rel=0.02)


def test_the_pace_of_pieces_that_come_evenly_is_that_of_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(following.time, "monotonic", lambda: now[0])
    followed = Progress({"loading": 9.0, "upscale": 1.0})
    followed.hear({"event": "phase", "name": "upscale"})
    for done in range(1, 61):
        now[0] += 2.0 if done <= 30 else 1.0
        followed.hear({"event": "frames", "count": 1, "done": done, "of": 100})
    assert followed.rate == pytest.approx(1.0)
