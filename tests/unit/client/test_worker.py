"""A real worker process: jobs, cancel, death, damaged folders."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import webui.demo
from webui.catalogue import find_model
from webui.client import WorkerProcess
from webui.core.errors import WorkerLost, error_from_json
from webui.core.parse import parse_request
from webui.core.receipt import Measurement
from webui.core.settings import with_defaults

SMALL = {"frames": 5, "height": 32, "width": 32, "steps": 2}
WITHIN_S = 40.0
LONG = {"frames": 17, "height": 96, "width": 96, "steps": 200}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    log = tmp_path_factory.mktemp("log") / "worker.log"
    with WorkerProcess(log, device="cpu", allocator="default") as process:
        yield process


def make_job(
    output_dir: Path,
    *,
    workload: dict[str, Any] = SMALL,
    weights: dict[str, str] | None = None,
    preview: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    request = parse_request(
        {"model": "demo", "prompt": "a red circle moves up", "seed": 3, **workload}, find_model
    )
    chosen = {"text_encoder": "gpu", "precision": "fp32", **settings}
    return {
        "id": f"job-{output_dir.name}",
        "request": request.to_json(),
        "settings": with_defaults(chosen, find_model("demo").settings),
        "weights": weights or {"kind": "embedded", "folder": ""},
        "limit_bytes": None,
        "output_dir": str(output_dir),
        "preview": preview,
    }


def clip(folder: Path) -> np.ndarray:
    with av.open(str(folder / "clip.mp4")) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_client_imports_no_torch() -> None:
    code = "import sys, webui.client; sys.exit('torch' in sys.modules)"
    root = Path(webui.demo.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import a_package_that_is_not_here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = WorkerProcess(tmp_path / "worker.log", device="cpu")
    with pytest.raises(WorkerLost, match=r"could not start: .*a_package_that_is_not_here"):
        process.start()
    assert not process.alive


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("import a_package_that_is_not_here", "MissingDependency", "a_package_that_is_not_here"),
        ("raise ImportError('no symbol in /home/somebody/lib.so')", "RunFailed", "(ImportError)"),
    ],
)
def test_a_family_that_is_not_whole_fails_its_jobs_only(
    text: str, kind: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another package of that name is found first."""
    (tmp_path / "diffusers.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with WorkerProcess(tmp_path / "worker.log", device="cpu") as process:
        for _ in range(2):
            end = process.run(make_job(tmp_path, workload=SMALL))
            assert end["event"] == "failed" and not end["ends"]
            assert end["error"]["type"] == kind and told in end["error"]["message"]["en"]
            assert "/" not in end["error"]["message"]["en"]


def test_ready(worker: WorkerProcess) -> None:
    assert worker.alive and worker.ready is not None
    assert worker.ready["pid"] == worker.pid
    assert (worker.ready["device"], worker.ready["kind"]) == ("cpu", "cpu")
    assert worker.ready["versions"]["torch"]


def test_a_job_from_start_to_end(worker: WorkerProcess, tmp_path: Path) -> None:
    worker.unload()
    job = make_job(tmp_path, workload={**SMALL, "frames": 9})
    events: list[dict[str, Any]] = []
    result = worker.run(job, events.append)
    assert result["event"] == "result" and result is events[-1]
    assert {event["id"] for event in events} == {job["id"]}
    phases = [event["name"] for event in events if event["event"] == "phase"]
    assert phases == ["loading", "encode", "denoise", "decode", "save"]
    steps = [event for event in events if event["event"] == "step"]
    assert [(s["step"], s["steps"]) for s in steps if s["phase"] == "denoise"] == [(1, 2), (2, 2)]
    assert [(s["step"], s["steps"]) for s in steps if s["phase"] == "decode"][-1] == (3, 3)
    # What is told while it runs does not pass what is measured in the end.
    told = [s["memory"] for s in steps if s["phase"] == "denoise"]
    measured = result["measurement"]["phases"][1]
    assert 0 < told[-1]["allocated_bytes"] <= told[-1]["peak_allocated_bytes"]
    assert told[-1]["peak_allocated_bytes"] <= measured["allocated_bytes"]
    assert told[0]["peak_allocated_bytes"] <= told[-1]["peak_allocated_bytes"]
    assert all(memory["reserved_bytes"] == 0 for memory in told)
    assert worker.empty_cache() == 0  # a processor has no allocator that keeps anything
    with worker._run_lock:  # a job that began meanwhile is not waited for
        assert worker.empty_cache() is None and worker.unload() is None
    assert (result["outputs"], result["warm"], result["device"]) == (["clip.mp4"], False, "cpu")
    measurement = Measurement.from_json(result["measurement"])
    assert [phase.name for phase in measurement.phases] == ["encode", "denoise", "decode"]
    assert all(p.allocated_bytes > p.resident_bytes > 0 for p in measurement.phases)
    assert measurement.load_seconds > 0 and measurement.host_bytes > 2**27
    assert clip(tmp_path).shape == (9, 32, 32, 3)
    assert (tmp_path / "thumbnail.jpg").is_file()
    again = worker.run(job)
    assert again["warm"] and Measurement.from_json(again["measurement"]).load_seconds == 0


def test_one_frame_is_a_picture(worker: WorkerProcess, tmp_path: Path) -> None:
    result = worker.run(make_job(tmp_path, workload={**SMALL, "frames": 1}))
    assert result["outputs"] == ["image.png"]
    assert Image.open(tmp_path / "image.png").size == (32, 32)


def test_settings_that_mean_nothing_on_a_processor(worker: WorkerProcess, tmp_path: Path) -> None:
    # One frame, because a PNG keeps every value: x264 with AVX-512 gives other bytes for the same
    # frames from one encoding to the next (seen at widths of 32 and 96 pixels).
    pictures = []
    for offload in ("none", "leaf"):
        folder = tmp_path / offload
        folder.mkdir()
        job = make_job(
            folder,
            workload={**SMALL, "frames": 1},
            offload=offload,
            text_encoder="stream",
            channels_last=True,
        )
        assert worker.run(job)["event"] == "result"
        pictures.append(np.asarray(Image.open(folder / "image.png")))
    assert np.ptp(pictures[0]) > 0
    assert np.array_equal(*pictures)


def test_precision_changes_what_is_resident(worker: WorkerProcess, tmp_path: Path) -> None:
    resident = {}
    for precision in ("fp32", "bf16"):
        result = worker.run(make_job(tmp_path, precision=precision))
        measurement = Measurement.from_json(result["measurement"])
        resident[precision] = measurement.phases[1].resident_bytes
    assert resident["bf16"] < 0.8 * resident["fp32"]


def test_cancel_keeps_the_process(worker: WorkerProcess, tmp_path: Path) -> None:
    pid = worker.pid
    job = make_job(tmp_path, workload=LONG, preview=True)
    seen: list[str] = []

    def on_event(event: dict[str, Any]) -> None:
        seen.append(event["event"])
        # Once: a second one could come when the next job, of the same name, runs.
        if event["event"] == "preview" and seen.count("preview") == 1:
            worker.cancel(job["id"])

    started = time.monotonic()
    failed = worker.run(job, on_event)
    assert failed["event"] == "failed" and failed["error"]["type"] == "Cancelled"
    assert time.monotonic() - started < 60
    assert failed["measurement"]["phases"][-1]["name"] == "denoise"
    assert worker.alive and worker.pid == pid
    assert list(tmp_path.iterdir()) == []
    assert worker.run(make_job(tmp_path))["warm"]


def test_a_late_cancel_means_nothing(worker: WorkerProcess, tmp_path: Path) -> None:
    worker.cancel("job-that-is-not-there")
    assert worker.run(make_job(tmp_path))["event"] == "result"


def test_damaged_folder(worker: WorkerProcess, tmp_path: Path) -> None:
    demo = Path(webui.demo.__file__).parent / "checkpoint"
    folder = tmp_path / "checkpoint"
    shutil.copytree(demo, folder)
    (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    weights = {"kind": "diffusers", "folder": str(folder)}
    failed = worker.run(make_job(tmp_path, weights=weights))
    error = error_from_json(failed["error"])
    assert (type(error).__name__, error.field) == ("BadInput", "model")
    assert "vae" in error.message.en and failed["measurement"] is None
    shutil.rmtree(folder)
    failed = worker.run(make_job(tmp_path, weights=weights))
    assert failed["error"]["type"] == "MissingWeights"
    assert worker.run(make_job(tmp_path))["event"] == "result"


def test_a_job_that_makes_no_sense(worker: WorkerProcess, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    job["request"]["frames"] = 6
    assert worker.run(job)["error"]["field"] == "frames"
    failed = worker.run({"id": "empty"})
    assert failed["error"]["type"] == "RunFailed"
    worker.send({"op": "dance"})
    assert worker.run(make_job(tmp_path))["event"] == "result"


def test_a_folder_that_cannot_be_written(worker: WorkerProcess, tmp_path: Path) -> None:
    failed = worker.run(make_job(tmp_path / "nothing"))
    assert failed["event"] == "failed" and len(failed["measurement"]["phases"]) == 3


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_death_and_a_new_start(tmp_path: Path) -> None:
    process = WorkerProcess(tmp_path / "logs/worker.log", device="cpu", threads=1)
    with pytest.raises(WorkerLost, match="no worker"):
        process.run(make_job(tmp_path))
    first = process.start()["pid"]

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["phase"] == "denoise":
            os.kill(first, signal.SIGKILL)

    with pytest.raises(WorkerLost, match="signal 9") as caught:
        process.run(make_job(tmp_path, workload=LONG), on_event)
    assert "memory" in caught.value.hint.en and not process.alive
    second = process.start()["pid"]
    assert second != first and process.alive
    assert (tmp_path / "logs/worker.log").is_file()
    # Asked to end in the middle of a job, it stops at the next block.
    ended: list[dict[str, Any]] = []
    job = make_job(tmp_path, workload=LONG)
    begun = threading.Event()
    hear = lambda event: begun.set() if event["event"] == "step" else None  # noqa: E731
    thread = threading.Thread(target=lambda: ended.append(process.run(job, hear)))
    thread.start()
    assert begun.wait(WITHIN_S)
    process.close(timeout_s=20)
    thread.join(20)
    assert not process.alive and not thread.is_alive()
    assert ended[0]["error"]["type"] == "Cancelled"


def test_a_job_that_nobody_listens_to_any_more_is_cancelled(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    def fails(event: Any) -> None:
        if event["event"] == "phase":
            raise RuntimeError("a fault of the studio")

    with pytest.raises(RuntimeError, match="fault"):
        worker.run(make_job(tmp_path / "long", workload=LONG), fails)
    began = time.monotonic()
    assert worker.run(make_job(tmp_path))["event"] == "result"
    assert time.monotonic() - began < WITHIN_S, "it did not wait for the long one"
