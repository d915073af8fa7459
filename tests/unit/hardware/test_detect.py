"""Detection and readings: on this machine as it is, and against stand-ins for the driver."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest

from webui.core.host import (
    host_available_bytes,
    host_memory_bytes,
    usable_cores,
    usable_threads,
)
from webui.core.units import GIB, MIB
from webui.hardware import detected_card, find_card, nvml, read_devices, read_host
from webui.hardware.detect import match_card
from webui.hardware.readings import process_device_bytes


class Driver:
    """Answers like NVML for the given cards; what it lacks raises, as on old drivers."""

    nvmlMemory_v2 = 2

    def __init__(self, *cards: SimpleNamespace) -> None:
        self.cards = cards
        self.open = 0

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.cards[index]

    def nvmlDeviceGetName(self, card):
        return card.name

    def nvmlDeviceGetUUID(self, card):
        return card.uuid

    def nvmlDeviceGetMemoryInfo(self, card, version=None):
        if version and not card.reserved_mib:
            raise RuntimeError("not supported")
        used = 1000 * MIB
        memory = {"total": card.total_mib * MIB, "used": used}
        memory["free"] = memory["total"] - used - card.reserved_mib * MIB
        return SimpleNamespace(
            **memory, **({"reserved": card.reserved_mib * MIB} if version else {})
        )

    def nvmlDeviceGetCudaComputeCapability(self, card):
        return card.compute

    def nvmlDeviceGetComputeRunningProcesses(self, card):
        return [SimpleNamespace(pid=1, usedGpuMemory=700 * MIB)]


def card(name, total_mib, reserved_mib=0, compute=(8, 6), uuid="GPU-1"):
    return SimpleNamespace(
        name=name, total_mib=total_mib, reserved_mib=reserved_mib, compute=compute, uuid=uuid
    )


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("STUDIO_DEVICE", raising=False)

    def install(*cards):
        stand_in = Driver(*cards)
        monkeypatch.setitem(sys.modules, "pynvml", stand_in)
        return stand_in

    return install


def test_this_machine_has_some_card():
    found = detected_card()
    assert found.vram_bytes > GIB and found.title
    assert found.fp32_flops > 1e9


def test_the_processor_can_be_asked_for(driver, monkeypatch):
    driver(card("NVIDIA H200", 143771))
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    found = detected_card()
    assert (found.name, found.kind, found.context_bytes) == ("cpu", "cpu", 0)
    assert found.vram_bytes == host_memory_bytes()
    assert read_devices() == []


def test_a_known_card_keeps_its_rates_and_gets_its_true_memory(driver):
    stand_in = driver(card("NVIDIA GeForce RTX 4090", 24564, reserved_mib=480))
    found, listed = detected_card(), find_card("rtx-4090")
    assert found.name == "rtx-4090" and found.bf16_flops == listed.bf16_flops
    assert found.vram_bytes == (24564 - 480) * MIB
    assert found.vram_bytes == pytest.approx(listed.vram_bytes, rel=0.01)
    assert stand_in.open == 0


def test_memory_decides_between_variants_of_one_name(driver):
    assert match_card("NVIDIA GeForce RTX 3080", 12 * GIB).card.name == "rtx-3080-12gb"
    assert match_card("NVIDIA GeForce RTX 4060 Ti", 8 * GIB).card.name == "rtx-4060-ti-8gb"
    driver(card("NVIDIA GeForce RTX 3060", 8192))
    found = detected_card()
    assert (found.vram_bytes, found.title) == (8 * GIB, "GeForce RTX 3060")


def test_an_unlisted_card_is_described_from_the_driver(driver):
    driver(card("NVIDIA GeForce RTX 6090", 49152, reserved_mib=600, compute=(13, 0)))
    found = detected_card()
    assert found.name == "geforce-rtx-6090"
    assert found.bf16 and found.fp8 and not found.context_measured
    assert found.bf16_flops > found.fp32_flops > 0
    assert find_card("geforce-rtx-6090") == found == find_card("detected")
    assert find_card("cpu").kind == "cpu"


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        ("1", "t4"),
        ("GPU-bb", "t4"),
        ("1,0", "t4"),
        ("0", "h200"),
        ("", "cpu"),
        ("-1", "cpu"),
        ("7", "cpu"),
    ],
)
def test_hidden_cards_are_not_used(driver, monkeypatch, visible, name):
    driver(card("NVIDIA H200", 143771, uuid="GPU-aa"), card("Tesla T4", 15360, uuid="GPU-bb1"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert detected_card().name == name


def test_readings_leave_out_what_the_driver_does_not_tell(driver):
    driver(card("NVIDIA H200", 143771, reserved_mib=600))
    [reading] = read_devices()
    assert reading.total_bytes == reading.used_bytes + reading.free_bytes
    assert reading.utilisation is None and reading.temperature_c is None
    assert process_device_bytes(1) == 700 * MIB and process_device_bytes(2) is None
    assert reading.to_json()["processes"] == []
    assert reading.to_json(processes=True)["processes"][0]["pid"] == 1


def test_a_driver_that_does_not_answer_is_no_driver(monkeypatch):
    def fail():
        raise OSError("driver/library version mismatch")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=fail))
    assert read_devices() == []
    assert detected_card().kind == "cpu"


def test_a_machine_without_a_driver_is_left_alone_for_a_while(driver, monkeypatch):
    class Missing(Exception):
        pass

    tries = []

    def fail():
        tries.append(1)
        raise Missing

    binding = SimpleNamespace(nvmlInit=fail, NVMLError_LibraryNotFound=Missing)
    monkeypatch.setitem(sys.modules, "pynvml", binding)
    assert [detected_card().kind for _ in range(3)] == ["cpu"] * 3 and len(tries) == 1
    monkeypatch.setattr(nvml, "_absent", (binding, time.monotonic() - 1))
    assert detected_card().kind == "cpu" and len(tries) == 2
    driver(card("NVIDIA H200", 143771))  # another binding is asked at once
    assert detected_card().kind == "cuda"


def test_a_driver_that_failed_once_is_asked_again(driver, monkeypatch):
    stand_in = driver(card("NVIDIA H200", 143771))

    def fail():
        raise OSError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(stand_in, "nvmlInit", fail)
        assert detected_card().kind == "cpu"
    assert detected_card().kind == "cuda"


def test_a_broken_binding_is_no_driver(monkeypatch, tmp_path):
    (tmp_path / "pynvml.py").write_text("raise OSError('damaged')")
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert detected_card().kind == "cpu" and read_devices() == []


def test_the_host_is_read():
    host = read_host()
    assert 0 < host.available_bytes <= host.memory_bytes
    assert host.cores > 0 and 0 <= host.utilisation <= 1


def test_container_limits_count(tmp_path):
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB - 100 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {50 * MIB}\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert host_memory_bytes(tmp_path) == GIB
    assert host_available_bytes(tmp_path) == 150 * MIB
    assert usable_cores(tmp_path) == 0.5


def test_threads_that_a_process_was_given_count(monkeypatch):
    monkeypatch.setenv("STUDIO_THREADS", "3")
    assert usable_threads() == 3
    monkeypatch.setenv("STUDIO_THREADS", "0")
    assert usable_threads() == max(1, int(usable_cores()))


def test_no_limit_means_the_whole_host(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    assert host_memory_bytes(tmp_path) == host_memory_bytes(tmp_path / "none") > GIB
