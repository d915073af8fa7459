"""On a CUDA card: a job that really runs out goes on with less, and the monitor reads true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from webui.core.job import JobState
from webui.core.units import GIB, MIB
from webui.hardware import detected_card
from webui.monitor import MemoryMonitor
from webui.service import Access, Studio
from webui.service.access import LOCAL
from webui.storage import StudioConfig

pytestmark = pytest.mark.gpu
ASKED = {"model": "svd-xt", "frames": 14, "height": 576, "width": 1024, "steps": 2, "seed": 1,
         "vram_gib": 12}  # fmt: skip
CAP_BYTES = 5 * GIB
"""What the worker may really use: as if another program had taken the rest after the plan."""


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    if detected_card().kind != "cuda":
        pytest.skip("no NVIDIA GPU")
    made = Studio(
        tmp_path, access=Access(), config=StudioConfig(), random_weights=True, retries=2,
        resume=False,
    )  # fmt: skip
    monkeypatch.setattr(made._planner, "hard_limit", lambda _: CAP_BYTES)
    yield made
    made.close()


def test_a_job_that_runs_out_goes_on_with_less(studio: Studio) -> None:
    *_, done = studio.watch(studio.submit(studio.parse(ASKED), LOCAL), LOCAL)
    assert done.state is JobState.DONE, done.error
    assert done.receipt is not None and done.receipt.measurement is not None
    attempts = done.receipt.attempts
    print("\n".join(attempt.changed.en for attempt in attempts))
    assert 1 <= len(attempts) <= 2
    shortage = attempts[0].shortage
    assert shortage.limit_bytes == CAP_BYTES and shortage.wanted_bytes > 0
    assert shortage.in_use_bytes < CAP_BYTES
    assert done.receipt.measurement.peak_device_bytes <= CAP_BYTES
    assert done.receipt.measurement.found_bytes < 16 * MIB


def test_the_monitor_reads_what_torch_allocates() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    monitor = MemoryMonitor()
    before = monitor.current()
    with monitor.watch("outer") as outer:
        with monitor.watch("inner") as inner:
            held = torch.empty(512 * MIB, dtype=torch.uint8, device="cuda")
            del held
        small = torch.empty(8 * MIB, dtype=torch.uint8, device="cuda")
    assert before.source == inner.source == "cuda"
    assert inner.allocated_bytes - before.allocated_bytes == 512 * MIB
    assert outer.allocated_bytes == monitor.peak() == inner.allocated_bytes
    assert inner.reserved_bytes >= 512 * MIB and outer.device_bytes > 512 * MIB
    del small
    monitor.reset_peak()
    assert monitor.peak() < 512 * MIB
