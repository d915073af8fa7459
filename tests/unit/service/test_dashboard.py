"""The dashboard's job, advice, receipts and buttons, on a public studio with its real worker."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from tests.unit.service.following import ENDLESS, OWNER, TINY, ask, finish, is_denoising, wait_for
from webui.core.errors import BadInput, NotAllowed
from webui.core.job import JobState
from webui.service import Studio
from webui.service.dashboard import ACTIONS
from webui.service.receipt_rows import CSV_COLUMNS, summarised, to_csv

VISITOR = "browser:" + "a" * 32


@pytest.fixture(scope="module")
def done(hosted: Studio) -> str:
    """A run of the owner that has ended; the worker is warm."""
    job_id = hosted.submit(ask(hosted, seed=1), OWNER)
    assert finish(hosted, job_id).state is JobState.DONE
    return job_id


def test_the_newest_job_is_shown_to_whose_it_is(hosted: Studio, done: str) -> None:
    job = hosted.dashboard.job(OWNER)
    assert job is not None and (job.id, job.state) == (done, JobState.DONE)
    assert [row.name for row in job.phases] == ["encode", "denoise", "decode"]
    receipt = hosted.run(done, OWNER).receipt
    assert receipt is not None and receipt.measurement is not None
    for row, phase in zip(job.phases, receipt.measurement.phases, strict=True):
        assert row.measured_allocated_bytes == phase.allocated_bytes
        assert row.measured_reserved_bytes is None  # a processor reserves nothing
        assert row.estimated_allocated_bytes == pytest.approx(phase.allocated_bytes, rel=0.1)
    assert hosted.dashboard.job(VISITOR) is None


def test_a_running_job_shows_its_memory_step_by_step(hosted: Studio, done: str) -> None:
    job_id = hosted.submit(hosted.parse({**ENDLESS, "seed": 2}), OWNER)
    wait_for(hosted, job_id, lambda view: is_denoising(view) and view.step >= 2)
    job = hosted.dashboard.job(OWNER)
    assert job is not None and (job.id, job.state) == (job_id, JobState.RUNNING)
    encode, denoise, decode = job.phases
    assert (encode.running, denoise.running, decode.running) == (False, True, False)
    assert encode.measured_s is not None and decode.measured_s is None
    assert encode.measured_allocated_bytes == pytest.approx(
        encode.estimated_allocated_bytes, rel=0.1
    )
    assert denoise.measured_allocated_bytes and denoise.measured_s
    assert 0 < job.samples[-1].allocated_bytes <= denoise.measured_allocated_bytes
    assert [sample.at_s for sample in job.samples] == sorted(s.at_s for s in job.samples)
    assert hosted.dashboard.job(VISITOR) is None
    # What a job uses is not taken from under it.
    for action in ("empty-cache", "unload"):
        with pytest.raises(NotAllowed, match="running"):
            hosted.dashboard.act(action, OWNER)
    hosted.cancel(job_id, OWNER)
    finish(hosted, job_id)


def test_advice_is_made_once_for_a_job(hosted: Studio, done: str) -> None:
    job = hosted.dashboard.job(OWNER)
    assert job is not None
    advice = hosted.dashboard.advice(job)
    assert advice is not None and hosted.dashboard.advice(job) is advice
    assert advice.reasons or advice.steps
    before = hosted.config
    hosted.config = replace(before, memory=replace(before.memory, auto_optimize=False))
    assert hosted.dashboard.advice(job) is not advice, "another policy, other advice"
    hosted.config = before
    assert hosted.dashboard.advice(job) is advice


def test_receipts_are_the_visitors_own(hosted: Studio, done: str) -> None:
    mine = hosted.dashboard.receipts(OWNER, "own")
    assert {row.phase for row in mine if row.run == done} == {"encode", "denoise", "decode"}
    assert hosted.dashboard.receipts(VISITOR, "own") == []
    shipped = hosted.dashboard.receipts(VISITOR, "verified")
    assert len(shipped) > 300
    with pytest.raises(BadInput, match="source"):
        hosted.dashboard.receipts(OWNER, "../other")
    text = to_csv(mine)
    assert TINY["prompt"] not in text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == CSV_COLUMNS and len(rows) == len(mine)
    first = rows[0]
    error = int(first["measured_allocated_bytes"]) / int(first["estimated_allocated_bytes"]) - 1
    assert float(first["allocated_error"]) == pytest.approx(error, abs=1e-4)
    assert first["measured_reserved_bytes"] == first["reserved_error"] == ""
    lines = summarised(shipped, "reserved")
    assert len({(line.model, line.phase) for line in lines}) == len(lines)
    assert all(0 <= line.mean <= abs(line.worst) + 1e-12 for line in lines)


def test_only_the_owner_gives_memory_back(hosted: Studio, done: str) -> None:
    pid = hosted.dashboard.worker_pid
    for action in ACTIONS:
        with pytest.raises(NotAllowed, match="owner"):
            hosted.dashboard.act(action, VISITOR)
    assert hosted.dashboard.worker_pid == pid is not None
    assert "0 B" in hosted.dashboard.act("empty-cache", OWNER).en  # a processor holds none
    assert "unloaded" in hosted.dashboard.act("unload", OWNER).en
    assert hosted.dashboard.worker_pid == pid
    with pytest.raises(BadInput):
        hosted.dashboard.act("format-disk", OWNER)
    hosted.dashboard.act("end-worker", OWNER)
    assert hosted.dashboard.worker_pid is None
    assert "No worker" in hosted.dashboard.act("end-worker", OWNER).en
