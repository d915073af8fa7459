"""The meter: phases, resident and peak bytes, what a broken phase leaves."""

from __future__ import annotations

import gc
import os
import weakref

import pytest
import torch

from tests.stand_in_driver import StandInCard, stand_in_driver
from webui.pipelines.placement import Placement
from webui.worker import device
from webui.worker.device import CudaDevice, Device, open_device, read_versions
from webui.worker.measure import Meter, host_peak_bytes
from webui.worker.reporting import JobReport

MIB = 2**20


def test_phases_on_a_processor() -> None:
    module = torch.nn.Linear(512, 512, bias=False)
    meter = Meter(Device(), [module])
    assert meter.measurement(0.0) is None
    meter.begin("encode")
    meter.ready()
    kept = torch.zeros(MIB // 4)
    with torch.no_grad():
        module(torch.zeros(512, 512))
    meter.begin("decode")
    meter.ready()
    torch.zeros(MIB)
    meter.end()
    measurement = meter.measurement(1.5)
    assert measurement is not None
    encode, decode = measurement.phases
    assert (encode.resident_bytes, encode.allocated_bytes) == (MIB, 4 * MIB)
    assert (decode.resident_bytes, decode.allocated_bytes) == (2 * MIB, 6 * MIB)
    assert measurement.peak_allocated_bytes == 6 * MIB
    assert (measurement.peak_device_bytes, measurement.source) == (0, "cpu")
    assert measurement.load_seconds == 1.5
    assert measurement.seconds == encode.seconds + decode.seconds
    del kept


def test_a_broken_phase_is_measured() -> None:
    meter = Meter(Device(), [])
    meter.begin("encode")
    with pytest.raises(ValueError, match="broken"):
        try:
            torch.zeros(MIB)
            raise ValueError("broken")
        finally:
            meter.end()
    measurement = meter.measurement(0.0)
    assert measurement is not None and measurement.phases[0].allocated_bytes == 4 * MIB


def test_a_phase_that_comes_again_is_one_phase() -> None:
    meter = Meter(Device(), [])
    for size in (MIB, 2 * MIB):
        meter.begin("forward")
        torch.zeros(size)
        meter.begin("backward")
    meter.end()
    measurement = meter.measurement(0.0)
    assert measurement is not None
    assert [phase.name for phase in measurement.phases] == ["forward", "backward"]
    assert measurement.phases[0].allocated_bytes == 8 * MIB


def test_a_warm_up_counts_with_its_peaks_and_without_its_seconds() -> None:
    meter = Meter(Device(), [])
    meter.begin("forward")
    torch.zeros(1000)
    meter.forget_seconds()
    (phase,) = meter.measurement(0.0).phases
    assert phase.seconds == 0.0 and phase.allocated_bytes == 4096
    meter.begin("forward")
    meter.end()
    (phase,) = meter.measurement(0.0).phases
    assert phase.seconds > 0.0 and phase.allocated_bytes == 4096


class Silent:
    def emit(self, event: str, **values: object) -> None:
        """Nobody listens."""


def test_only_a_phase_that_continues_keeps_the_cache() -> None:
    class Counting(Device):
        emptied = 0

        def empty_cache(self) -> None:
            self.emptied += 1

    device = Counting()
    placement = Placement({"model": "always"}, {"model": ("forward",)}, torch.device("cpu"))
    report = JobReport("job", Silent(), device, preview=False)
    report.attach(None, placement, [])
    report.begin("forward")
    assert device.emptied == 1
    report.begin("backward", continues=True)
    report.begin("forward", continues=True)
    assert device.emptied == 1
    report.begin("forward")
    assert device.emptied == 2
    report.end()


def test_what_is_loaded_is_not_looked_through_at_every_phase() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    placement = Placement({"model": "always"}, {"model": ("forward",)}, torch.device("cpu"))
    report = JobReport("job", Silent(), Device(), preview=False)
    loaded = [Cycle()]
    gc.unfreeze()
    report.attach(None, placement, [])
    known, passing = weakref.ref(loaded.pop()), weakref.ref(Cycle())
    report.begin("forward")
    assert known() is not None, "it was there before the run and is not looked at"
    assert passing() is None, "garbage of the run itself goes at the next phase"
    report.end()
    gc.unfreeze()
    gc.collect()
    assert known() is None


def test_host_peak() -> None:
    before = host_peak_bytes()
    assert before > 20 * MIB
    Meter(Device(), [])  # resets the peak
    filled = bytearray(b"x" * (64 * MIB))
    assert host_peak_bytes() > 64 * MIB
    del filled


def test_device_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    before = torch.get_num_threads()
    monkeypatch.setenv("STUDIO_THREADS", "1")
    device = open_device()
    assert (device.kind, device.name, device.healthy()) == ("cpu", "cpu", True)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
    assert set(read_versions()) - {"bitsandbytes", "gguf", "torchao"} == {
        "torch", "diffusers", "transformers", "cuda", "cudnn", "python", "peft"
    }  # fmt: skip


def test_the_most_that_other_programs_held_is_kept():
    class Shared(Device):
        held = iter((1, 7, 3))

        def others_bytes(self) -> int:
            return next(self.held)

    meter = Meter(Shared(), [])
    for name in ("encode", "denoise"):
        meter.begin(name)
    meter.end()
    assert meter.measurement(0.0).others_bytes == 7


def test_what_the_driver_keeps_for_itself_is_no_other_programs():
    """And the library is opened once, however often it is asked."""
    mine = StandInCard(0, used_bytes=3 * MIB, processes=((os.getpid(), 2 * MIB),))
    device._nvml.cache_clear()
    try:
        with stand_in_driver(mine) as driver:
            card = object.__new__(CudaDevice)
            card._handle = mine
            assert [card.others_bytes() for _ in range(3)] == [MIB] * 3
            assert driver.opened == 1
    finally:
        device._nvml.cache_clear()


@pytest.mark.parametrize(
    ("used", "own", "others"), [(10, 4, 6), (10, None, 7), (2, None, 0), (None, None, 0)]
)
def test_what_other_programs_hold_of_a_card(monkeypatch, used, own, others):
    card = object.__new__(CudaDevice)
    card._handle, card.context_bytes = None, 1
    monkeypatch.setattr(device, "_used_bytes", lambda handle: used)
    monkeypatch.setattr(device, "_process_bytes", lambda handle: own)
    monkeypatch.setattr(device.torch.cuda, "memory_reserved", lambda index: 2)
    assert card.others_bytes() == others
