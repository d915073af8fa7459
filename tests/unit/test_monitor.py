"""The memory monitor: its own examples, blocks within blocks, and what it refuses."""

from __future__ import annotations

import doctest
import mmap
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import webui.monitor
from tests.stand_in_driver import StandInCard, stand_in_driver
from webui.core.errors import BadInput
from webui.core.units import MIB
from webui.monitor import MemoryMonitor, print_memory

ROOT = Path(webui.monitor.__file__).parents[1]


@pytest.fixture(autouse=True)
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    monkeypatch.setattr(webui.monitor, "_cuda", lambda: None)


def test_the_examples_are_true() -> None:
    found = doctest.testmod(webui.monitor)
    assert found.attempted > 5 and not found.failed


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets the peak")
def test_blocks_within_blocks_have_peaks_of_their_own() -> None:
    monitor = MemoryMonitor()
    with monitor.watch("outer") as outer:
        # Straight from the system: numpy's may lie in what earlier tests left free.
        with monitor.watch("large") as large, mmap.mmap(-1, 200 * MIB) as held:
            for page in range(0, len(held), mmap.PAGESIZE):
                held[page] = 1
        with monitor.watch("small") as small:
            np.ones(1 * MIB, np.uint8)
    assert large.allocated_bytes > small.allocated_bytes + 100 * MIB
    assert outer.allocated_bytes >= large.allocated_bytes
    assert outer.seconds >= large.seconds + small.seconds
    assert monitor.peak() >= large.allocated_bytes
    monitor.reset_peak()
    assert monitor.peak() < large.allocated_bytes - 100 * MIB
    assert str(large).startswith("large: peak ")


def test_a_block_that_fails_is_measured_and_its_error_is_seen() -> None:
    monitor = MemoryMonitor()
    with pytest.raises(ZeroDivisionError), monitor.watch("wrong") as span:
        span.seconds = 1 / 0
    assert span.seconds > 0 and span.allocated_bytes > 0


def test_suggestions_save_what_they_say() -> None:
    """Each is held against an estimate that has it."""
    monitor = MemoryMonitor()
    asked = {"model": "wan2.1-t2v-1.3b", "card": "rtx-3060-12gb", "frames": 33}
    advice = monitor.suggest(asked)
    assert advice.plan.fits and len(advice.suggestions) > 2
    quality = [one.lossless for one in advice.suggestions]
    assert quality == sorted(quality, reverse=True)
    best = advice.suggestions[0]
    fixed = monitor.suggest({**asked, "settings": best.changes})
    assert not any(set(best.changes) & set(one.changes) for one in fixed.suggestions)
    assert best.saved_bytes > 0 and best.sentence.en in advice.message and best.sentence.zh
    with pytest.raises(BadInput):
        monitor.suggest({"model": "nothing"})


def test_the_card_is_found_by_what_pytorch_and_the_driver_both_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch's first card is the driver's second one."""
    monkeypatch.delenv("STUDIO_DEVICE")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    uuids = {0: "00000001-0000-0000-0000-000000000000", 1: "a-part-of-a-card"}
    torch = SimpleNamespace(
        is_initialized=lambda: True,
        current_device=lambda: 0,
        get_device_properties=lambda number: SimpleNamespace(uuid=uuids[number]),
    )
    with stand_in_driver(StandInCard(0, used_bytes=1), StandInCard(1, used_bytes=2)):
        first = MemoryMonitor(1)._reading()
        assert first is not None and first.used_bytes == 2, "without PyTorch by the driver's number"
        assert MemoryMonitor(9)._reading() is None
        monkeypatch.setattr(webui.monitor, "_cuda", lambda: torch)
        second = MemoryMonitor()._reading()
        assert second is not None and second.used_bytes == 2
        assert MemoryMonitor(1)._reading() is None


def test_printing_and_no_torch(capsys: pytest.CaptureFixture[str]) -> None:
    reading = print_memory("now")
    assert capsys.readouterr().out == f"now: {reading}\n"
    assert 0 < reading.usage < 1 and reading.free_bytes < reading.total_bytes
    code = (
        "import sys; from webui.monitor import MemoryMonitor as M; M().current(); M().peak(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
