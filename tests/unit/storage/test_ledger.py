"""The ledger on a real SQLite file: what was written is there after any kind of ending."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from webui.core.errors import Cancelled, NotEnoughDisk, NotFound, StudioError
from webui.core.job import JobState
from webui.storage import Ledger
from webui.storage.database import explained


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "ledger.db"


@pytest.fixture
def ledger(path):
    opened = Ledger(path)
    yield opened
    opened.close()


def record(ledger: Ledger, job_id: str, owner: str = "local"):
    return ledger.record(job_id, owner, {"model": "demo", "seed": 7}, {"fits": True}, f"f-{job_id}")


def test_a_job_is_there_before_it_runs(ledger, path):
    record(ledger, "a")
    other = Ledger(path)
    job = other.get("a")
    assert (job.state, job.owner, job.folder) == (JobState.QUEUED, "local", "f-a")
    assert job.request == {"model": "demo", "seed": 7} and job.plan == {"fits": True}
    assert job.receipt is None and job.error is None and job.created.endswith("+00:00")
    other.close()


def test_a_receipt_comes_back_as_it_went_in(ledger, make_receipt):
    record(ledger, "a")
    receipt = make_receipt("a", outputs=["clip.mp4"])
    ledger.finish("a", JobState.DONE, receipt)
    job = ledger.get("a")
    assert job.receipt == receipt and job.state is JobState.DONE


def test_errors_keep_their_kind_and_both_languages(ledger):
    record(ledger, "a")
    ledger.set_state("a", JobState.CANCELLED, Cancelled())
    error = ledger.get("a").error
    assert isinstance(error, Cancelled) and error.message == Cancelled().message


def test_history_is_newest_first_and_by_owner(ledger):
    for number in range(5):
        record(ledger, f"j{number}", owner="ann" if number % 2 else "bob")
    assert [job.id for job in ledger.jobs("bob")] == ["j4", "j2", "j0"]
    assert [job.id for job in ledger.jobs(limit=2)] == ["j4", "j3"]
    ledger.set_state("j4", JobState.RUNNING)
    assert ledger.count(JobState.QUEUED, "bob") == 2 and ledger.count(JobState.QUEUED) == 4


def test_ended_runs_of_a_task_are_found_behind_many_others(ledger):
    for number in range(40):
        task = "upscale" if number < 3 else "generate"
        ledger.record(f"j{number}", "local", {"task": task}, None, "folder")
        ledger.set_state(f"j{number}", JobState.DONE if number != 1 else JobState.RUNNING)
    found = ledger.jobs(limit=5, task="upscale", ended=True)
    assert [job.id for job in found] == ["j2", "j0"]
    assert len(ledger.jobs(limit=5, task="generate", ended=True)) == 5


def test_a_restart_finds_what_was_left(path):
    first = Ledger(path)
    for name in ("a", "b", "c"):
        record(first, name)
    first.set_state("a", JobState.RUNNING)
    first.record("row", "local", {"model": "demo"}, None, "f-row", profiled=True)
    del first  # no close: the app was killed
    second = Ledger(path)
    found = second.recover()
    assert [job.id for job in found.queued] == ["b", "c"]
    ended = JobState.INTERRUPTED
    assert [(job.id, job.state) for job in found.interrupted] == [("a", ended), ("row", ended)]
    assert "ended" in found.interrupted[0].error.message.en
    assert "profile" in found.interrupted[1].error.message.en, "an ordinary job it never was"
    assert second.recover().interrupted == ()
    second.close()


def test_a_job_of_a_studio_that_ended_is_interrupted_and_of_no_other(path):
    first, second = Ledger(path, "first"), Ledger(path, "second")
    for job in ("runs", "waits", "done"):
        record(first, job)
    first.set_state("runs", JobState.RUNNING)
    first.set_state("done", JobState.DONE)
    for job in ("runs", "waits", "done", "nobody's"):
        second.interrupt_left(job, lambda name: name == "first")
    assert second.get("runs").state is JobState.RUNNING
    second.interrupt_left("runs", lambda name: name == "second")
    assert (second.get("runs").state, second.get("waits").state) == (
        JobState.INTERRUPTED, JobState.QUEUED,
    )  # fmt: skip
    for job in ("waits", "done"):
        second.interrupt_left(job, lambda name: name == "second")
    assert second.get("waits").state is JobState.INTERRUPTED
    assert second.get("done").state is JobState.DONE
    assert second.get("runs").error.message.en == "The studio was ended while this ran."


def test_unknown_jobs_are_named(ledger, make_receipt):
    for call in (
        lambda: ledger.get("x"),
        lambda: ledger.delete("x"),
        lambda: ledger.set_state("x", JobState.DONE),
        lambda: ledger.finish("x", JobState.DONE, make_receipt()),
    ):
        with pytest.raises(NotFound, match="'x'"):
            call()


def test_an_id_is_taken_once(ledger):
    record(ledger, "a")
    with pytest.raises(StudioError):
        record(ledger, "a", owner="thief")
    assert ledger.get("a").owner == "local"


def test_speeds_outlive_the_runs_that_taught_them(ledger, make_receipt):
    for number in range(3):
        record(ledger, f"j{number}")
        ledger.finish(f"j{number}", JobState.DONE, make_receipt(seconds=number + 1.0))
    record(ledger, "failed")
    failed = make_receipt(error=Cancelled().to_json())
    ledger.finish("failed", JobState.CANCELLED, failed, error=Cancelled())
    ledger.delete("j2")
    samples = ledger.speeds("cpu", "demo", "denoise", limit=2)
    assert [(s.estimated_s, s.measured_s) for s in samples] == [(2.0, 3.0), (2.0, 2.0)]
    assert samples[0].settings == {"offload": "none"}
    assert ledger.speeds("cpu", "demo", "decode") == []


def test_the_uncalibrated_estimate_can_be_given(ledger, make_receipt):
    record(ledger, "a")
    ledger.finish("a", JobState.DONE, make_receipt(), base_seconds={"denoise": 8.0})
    assert ledger.speeds("cpu", "demo", "denoise")[0].estimated_s == 8.0


def test_many_threads_write_at_once(ledger):
    def work(name):
        for number in range(10):
            record(ledger, f"{name}{number}")
            ledger.set_state(f"{name}{number}", JobState.RUNNING)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.count(JobState.RUNNING) == 40


@pytest.mark.parametrize("junk", [b"this is not a database at all" * 50, b"\0" * 5000])
def test_a_damaged_file_is_kept_and_a_new_one_begun(path, junk):
    path.parent.mkdir()
    path.write_bytes(junk)
    ledger = Ledger(path)
    assert ledger.notice is not None and "damaged" in ledger.notice.en
    assert [aside.read_bytes() for aside in path.parent.glob("*.damaged-*")] == [junk]
    record(ledger, "a")
    assert ledger.get("a").id == "a"
    ledger.close()


def test_a_page_damaged_in_the_middle_is_noticed(path):
    ledger = Ledger(path)
    for number in range(60):
        record(ledger, f"j{number}")
    ledger.close()
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xff" * 8192
    path.write_bytes(data)
    again = Ledger(path)
    assert again.notice is not None and again.jobs() == []
    again.close()


def test_a_sound_file_gives_no_notice(ledger):
    assert ledger.notice is None


def test_a_newer_file_is_left_alone(path):
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StudioError, match="newer version"):
        Ledger(path)
    assert list(path.parent.glob("*.damaged-*")) == []


def test_a_locked_file_is_told_from_a_damaged_one(path, ledger, monkeypatch):
    monkeypatch.setattr("webui.storage.database._BUSY_MS", 50)
    ledger._connection.execute("PRAGMA busy_timeout = 50")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StudioError, match="locked by another program"):
        record(ledger, "a")
    holder.execute("ROLLBACK")
    holder.close()
    record(ledger, "a")


def test_a_full_disk_is_named(path, ledger):
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(NotEnoughDisk):
        for number in range(200):
            record(ledger, f"j{number}")
    assert isinstance(explained(path, sqlite3.OperationalError("disk is full")), NotEnoughDisk)


def test_a_home_that_is_a_file_is_explained(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(StudioError, match="cannot be used"):
        Ledger(tmp_path / "home" / "ledger.db")
