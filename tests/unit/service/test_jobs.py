"""Jobs through the service with a real worker: run, cancel, death, queue, visitors."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.unit.service.following import (
    ENDLESS,
    OWNER,
    WAN,
    ask,
    finish,
    is_denoising,
    wait_for,
)
from webui.core.errors import BadInput, Cancelled, NotAllowed, NotFound, WorkerLost
from webui.core.job import JobState
from webui.core.receipt import Receipt
from webui.service import Access, Studio
from webui.service.queue import JobQueue
from webui.service.verify import accuracy, accuracy_table
from webui.storage import Ledger, Limits, StudioConfig
from webui.storage.metadata import read_metadata

ACCURACY = 0.04
WORKLOADS = [
    {},
    {"guidance": 1.0, "solver": "dpm++"},
    {"frames": 1, "height": 96},
    {"frames": 9, "height": 128, "width": 128, "settings": {"precision": "bf16"}},
    {"height": 128, "width": 128, "settings": {"vae_tiling": True, "vae_tile": 64}},
    {"settings": {"vae_precision": "bf16"}},
    {"batch": 3, "frames": 5},
    {"settings": {"step_cache": "first-block", "step_cache_threshold": 10}},
    {"settings": {"step_cache": "taylorseer", "ffn_chunks": 4}},
]


def test_a_job_from_submission_to_the_history(hosted: Studio) -> None:
    job_id = hosted.submit(ask(hosted, seed=-1), OWNER)
    first = hosted.view(job_id, OWNER)
    assert first.state in (JobState.QUEUED, JobState.RUNNING)
    views = list(hosted.watch(job_id, OWNER))
    assert views[-1].state is JobState.DONE, views[-1].error
    done = views[-1]
    fractions = [view.fraction for view in views]
    assert fractions[-1] == 1.0 and all(0 <= value <= 1 for value in fractions)
    assert all(a <= b + 1e-9 for a, b in pairwise(fractions))
    assert {"starting", "loading", "denoise"} & {view.phase for view in views}
    assert done.worker_pid and done.worker_pid != os.getpid()

    # The seed was drawn, and is shown everywhere.
    assert done.request is not None and 0 <= done.request["seed"] < 2**32
    receipt = done.receipt
    assert receipt is not None and receipt.request["seed"] == done.request["seed"]
    assert receipt.id == job_id and receipt.device == "cpu" and receipt.error is None
    assert receipt.measurement is not None and receipt.measurement.source == "cpu"
    assert [phase.name for phase in receipt.measurement.phases] == ["encode", "denoise", "decode"]
    assert receipt.measurement.load_seconds > 0
    assert receipt.versions["torch"] and receipt.plan["fits"]

    summary = hosted.run(job_id, OWNER)
    assert summary.receipt == receipt
    (clip,) = summary.outputs
    assert clip.name == "clip.mp4" and clip.is_absolute() and clip.stat().st_size > 0
    assert receipt.outputs == (f"outputs/{clip.parent.name}/clip.mp4",)
    assert (hosted.home / receipt.outputs[0]).resolve() == clip.resolve()
    assert summary.thumbnail is not None and summary.thumbnail.read_bytes()[:2] == b"\xff\xd8"
    assert hosted.runs(OWNER)[0] == summary
    # The same receipt lies beside the clip and inside it.
    sidecar = json.loads((clip.parent / "receipt.json").read_text(encoding="utf-8"))
    assert sidecar == receipt.to_json() == read_metadata(clip)
    assert Receipt.from_json(sidecar) == receipt


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_measured_beside_estimated(hosted: Studio, workload: dict) -> None:
    done = finish(hosted, hosted.submit(ask(hosted, **workload), OWNER))
    assert done.state is JobState.DONE, done.error
    assert done.receipt is not None
    print(accuracy_table([done.receipt]))
    rows = list(accuracy(done.receipt))
    assert [row.phase for row in rows] == ["encode", "denoise", "decode"]
    for row in rows:
        assert abs(row.error) < ACCURACY, (row.phase, row.estimated_bytes, row.measured_bytes)
        assert row.reserved_error is None


def test_a_second_job_finds_the_model_loaded(hosted: Studio) -> None:
    before = finish(hosted, hosted.submit(ask(hosted), OWNER))
    after = finish(hosted, hosted.submit(ask(hosted, seed=5), OWNER))
    assert after.worker_pid == before.worker_pid
    assert after.receipt is not None and after.receipt.measurement is not None
    assert after.receipt.measurement.load_seconds == 0
    assert after.receipt.request["seed"] == 5


def test_receipts_teach_the_time(hosted: Studio) -> None:
    finish(hosted, hosted.submit(ask(hosted), OWNER))
    plan = hosted.plan(ask(hosted))
    low, high = plan.estimate.seconds_range
    assert high / low < 1.4, "a calibrated card has no wide range"
    assert not any("range" in reason.en for reason in plan.reasons)


def test_unload_and_load_again(hosted: Studio) -> None:
    before = finish(hosted, hosted.submit(ask(hosted), OWNER))
    hosted.unload()
    after = finish(hosted, hosted.submit(ask(hosted), OWNER))
    assert after.worker_pid == before.worker_pid
    assert after.receipt is not None and after.receipt.measurement is not None
    assert after.receipt.measurement.load_seconds > 0


def test_several_clips_are_those_of_the_seeds_that_follow(hosted: Studio) -> None:
    from PIL import Image

    def pixels(**workload: int) -> list[bytes]:
        done = finish(hosted, hosted.submit(ask(hosted, frames=1, **workload), OWNER))
        assert done.state is JobState.DONE, done.error
        run = hosted.run(done.id, OWNER)
        assert run.receipt is not None
        assert [path.name for path in run.outputs] == [
            name.rpartition("/")[2] for name in run.receipt.outputs
        ]
        return [Image.open(path).tobytes() for path in run.outputs]

    together = pixels(seed=7, batch=2)
    assert len(together) == 2
    for found, seed in zip(together, (7, 8), strict=True):
        (expected,) = pixels(seed=seed)
        assert _apart(found, expected) <= 1
    assert _apart(*together) > 20


def _apart(one: bytes, other: bytes) -> int:
    """The largest difference of two pictures' values."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def test_the_same_seed_makes_the_same_picture(hosted: Studio) -> None:
    from PIL import Image

    def pixels(seed: int) -> bytes:
        # One frame: a PNG, which loses nothing.
        done = finish(hosted, hosted.submit(ask(hosted, seed=seed, frames=1), OWNER))
        (picture,) = hosted.run(done.id, OWNER).outputs
        assert picture.name == "image.png" and read_metadata(picture)["id"] == done.id
        with Image.open(picture) as image:
            assert image.size == (64, 64)
            return image.tobytes()

    first, again, other = pixels(7), pixels(7), pixels(8)
    assert first == again
    assert first != other


def test_cancel_while_denoising(hosted: Studio) -> None:
    pid = finish(hosted, hosted.submit(ask(hosted), OWNER)).worker_pid
    job_id = hosted.submit(hosted.parse(ENDLESS), OWNER)
    running = wait_for(hosted, job_id, is_denoising)
    assert running.state is JobState.RUNNING and running.steps == 200
    assert running.seconds_left is not None and running.seconds_left > 0
    with pytest.raises(NotAllowed):
        hosted.unload()
    with pytest.raises(NotAllowed):
        hosted.delete(job_id, OWNER)
    began = time.monotonic()
    hosted.cancel(job_id, OWNER)
    ended = finish(hosted, job_id)
    assert time.monotonic() - began < 5
    assert ended.state is JobState.CANCELLED and isinstance(ended.error, Cancelled)
    assert ended.receipt is not None and ended.receipt.error is not None
    assert ended.receipt.measurement is not None  # what was done is measured
    assert not hosted.run(job_id, OWNER).outputs
    after = finish(hosted, hosted.submit(ask(hosted), OWNER))
    assert after.state is JobState.DONE and after.worker_pid == pid
    hosted.cancel(job_id, OWNER)  # has ended: stays as it is
    assert hosted.view(job_id, OWNER).state is JobState.CANCELLED
    hosted.delete(job_id, OWNER)


def test_previews_come_while_it_runs(hosted: Studio) -> None:
    job_id = hosted.submit(hosted.parse(ENDLESS), OWNER)
    view = wait_for(hosted, job_id, lambda view: view.preview is not None)
    assert view.preview is not None and view.preview[:2] == b"\xff\xd8"
    hosted.cancel(job_id, OWNER)
    finish(hosted, job_id)


def test_a_killed_worker_fails_its_job_only(hosted: Studio) -> None:
    job_id = hosted.submit(hosted.parse(ENDLESS), OWNER)
    waiting = hosted.submit(ask(hosted), OWNER)
    pid = wait_for(hosted, job_id, is_denoising).worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    ended = finish(hosted, job_id)
    assert ended.state is JobState.FAILED and isinstance(ended.error, WorkerLost)
    assert "SIGKILL" in ended.error.message.en and "SIGKILL" in ended.error.message.zh
    assert ended.error.hint.en and ended.error.hint.zh
    # The app goes on: it plans, shows the history, and the waiting job gets a new worker.
    assert hosted.plan(ask(hosted)).fits
    after = finish(hosted, waiting)
    assert after.state is JobState.DONE, after.error
    assert after.worker_pid not in (None, pid)


def test_a_damaged_model_folder_fails_clearly_and_costs_no_worker(hosted: Studio) -> None:
    pid = finish(hosted, hosted.submit(ask(hosted), OWNER)).worker_pid
    request = ask(hosted, model=WAN)
    if not hosted.plan(request).fits:
        pytest.skip("not enough host memory to be asked")
    ended = finish(hosted, hosted.submit(request, OWNER))
    assert ended.state is JobState.FAILED and isinstance(ended.error, BadInput)
    assert ended.error.field == "model" and ended.error.hint.zh
    after = finish(hosted, hosted.submit(ask(hosted), OWNER))
    assert (after.state, after.worker_pid) == (JobState.DONE, pid)


def test_the_queue_keeps_its_order_and_its_owners_apart(hosted: Studio) -> None:
    running = hosted.submit(hosted.parse(ENDLESS), OWNER)
    wait_for(hosted, running, is_denoising)
    anna = hosted.submit(ask(hosted, seed=1), "anna")
    bert = hosted.submit(ask(hosted, seed=2), "bert")
    anna_again = hosted.submit(ask(hosted, seed=3), "anna")
    places = [hosted.view(*pair).place for pair in ((anna, "anna"), (bert, "bert"))]
    assert places == [1, 2] and hosted.view(anna_again, "anna").place == 3
    assert hosted.view(running, OWNER).place == 0

    # Nobody sees, stops or deletes what is another's, not even the owner of the machine.
    for stranger in ("bert", OWNER, "local", ""):
        for act in (hosted.view, hosted.cancel, hosted.delete, hosted.run):
            with pytest.raises(NotFound):
                act(anna, stranger)
        assert anna not in [run.id for run in hosted.runs(stranger)]
        with pytest.raises(NotFound):
            next(hosted.watch(anna, stranger))
    assert hosted.view(anna, "anna").state is JobState.QUEUED

    # The queue is full for all (3), and anna has her two.
    with pytest.raises(NotAllowed, match="2 jobs waiting"):
        hosted.submit(ask(hosted), "anna")
    with pytest.raises(NotAllowed, match="full"):
        hosted.submit(ask(hosted), "carl")

    hosted.cancel(bert, "bert")
    assert hosted.view(bert, "bert").state is JobState.CANCELLED
    assert hosted.view(anna_again, "anna").place == 2
    hosted.cancel(running, OWNER)
    finish(hosted, running)
    seen = []
    for view in hosted.watch(anna_again, "anna"):
        seen.append((hosted.view(anna, "anna").state, view.state))
    assert seen[-1] == (JobState.DONE, JobState.DONE)
    assert all(first is not JobState.QUEUED or second is JobState.QUEUED for first, second in seen)
    assert [run.id for run in hosted.runs("anna")] == [anna_again, anna]
    assert [run.id for run in hosted.runs("bert")] == [bert]


def test_deleting(hosted: Studio) -> None:
    done = finish(hosted, hosted.submit(ask(hosted), OWNER))
    folder = hosted.run(done.id, OWNER).outputs[0].parent
    assert folder.is_dir()
    hosted.delete(done.id, OWNER)
    assert not folder.exists()
    with pytest.raises(NotFound):
        hosted.run(done.id, OWNER)

    running = hosted.submit(hosted.parse(ENDLESS), OWNER)
    waiting = hosted.submit(ask(hosted), OWNER)
    hosted.delete(waiting, OWNER)
    with pytest.raises(NotFound):
        hosted.view(waiting, OWNER)
    wait_for(hosted, running, is_denoising)
    hosted.cancel(running, OWNER)
    assert finish(hosted, running).state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"frames": 33}, "frames"),
        ({"height": 160, "width": 160}, "frames"),
        ({"steps": 31}, "steps"),
        ({"prompt": "x" * 101}, "prompt"),
    ],
    ids=str,
)
def test_visitors_limits(hosted: Studio, changes: dict, field: str) -> None:
    before = len(hosted.runs("dora"))
    with pytest.raises(BadInput) as caught:
        hosted.submit(ask(hosted, **changes), "dora")
    assert caught.value.field == field and caught.value.message.zh
    assert len(hosted.runs("dora")) == before
    # Planning is free for all, and the owner is not limited.
    assert hosted.plan(ask(hosted, **changes)).fits


def test_devices_and_worker(hosted: Studio) -> None:
    done = finish(hosted, hosted.submit(ask(hosted), OWNER))
    told = hosted.devices()
    assert told["card"]["name"] == "cpu"
    assert told["worker"] == {"pid": done.worker_pid, "device": "cpu"}
    assert json.loads(json.dumps(told)) == told | {
        "card": told["card"] | {"compute_capability": told["card"]["compute_capability"]}
    }
    log = hosted.home / "outputs" / "worker.log"
    assert log.is_file()


def test_ending_the_worker_gives_everything_back(hosted: Studio) -> None:
    """Last in this module: the next job would start a new one."""
    pid = finish(hosted, hosted.submit(ask(hosted), OWNER)).worker_pid
    assert (pid is not None and Path(f"/proc/{pid}").exists()) or os.name == "nt"
    hosted.end_worker()
    assert hosted.devices()["worker"] is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_visitor_cannot_race_past_the_queue_limit(
    on_processor: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(max_queued=5, max_queued_per_user=2)
    studio = Studio(
        tmp_path, access=Access(loopback=False), config=StudioConfig(limits=limits), resume=False
    )
    monkeypatch.setattr(JobQueue, "add", lambda *_: None)  # they stay waiting
    slow_count = Ledger.count

    def count(ledger: Ledger, *given: Any) -> int:
        found = slow_count(ledger, *given)
        time.sleep(0.02)  # what a loaded disk does
        return found

    monkeypatch.setattr(Ledger, "count", count)
    request = ask(studio, frames=1)
    studio.plan(request)
    refused: list[NotAllowed] = []

    def submit() -> None:
        try:
            studio.submit(request, "anna")
        except NotAllowed as error:
            refused.append(error)

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(studio.runs("anna")) == 2 and len(refused) == 4
    studio.close()
