"""Measures a run, phase by phase: what was resident, the peaks, the seconds, the host's peak."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from torch import nn
from torch.cuda.memory import memory_stats_as_nested_dict

from webui.core.receipt import Measurement, PhaseMeasurement
from webui.pipelines.live_bytes import LiveBytes
from webui.worker.device import Device


class Reading(NamedTuple):
    """A look at the memory during a phase."""

    allocated_bytes: int
    reserved_bytes: int
    peak_bytes: int
    """Most that was allocated since the look before."""


class CudaCounter:
    """The caching allocator's own figures."""

    def __init__(self) -> None:
        self._kept = (0, 0)

    def start(self) -> None:
        self.reset()

    def stop(self) -> None:
        pass

    def reset(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self._kept = (0, 0)

    def current(self) -> int:
        return torch.cuda.memory_allocated()

    def peaks(self) -> tuple[int, int]:
        torch.cuda.synchronize()
        allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return max(allocated, self._kept[0]), max(reserved, self._kept[1])

    def fold(self) -> Reading:
        """What is allocated now, and the peak since the last reset or fold, which `peaks` keeps.

        The allocator counts on the host, when memory is asked for: nothing waits for the device.
        """
        stats = memory_stats_as_nested_dict()
        allocated, reserved = (stats[name]["all"] for name in ("allocated_bytes", "reserved_bytes"))
        torch.cuda.reset_peak_memory_stats()
        self._kept = (
            max(int(allocated["peak"]), self._kept[0]),
            max(int(reserved["peak"]), self._kept[1]),
        )
        return Reading(int(allocated["current"]), int(reserved["current"]), int(allocated["peak"]))

    def now(self) -> dict[str, int]:
        """What is allocated and reserved, and the peaks; nothing waits for the device."""
        stats = memory_stats_as_nested_dict()
        allocated, reserved = (stats[name]["all"] for name in ("allocated_bytes", "reserved_bytes"))
        return {
            "allocated_bytes": int(allocated["current"]),
            "reserved_bytes": int(reserved["current"]),
            "peak_allocated_bytes": max(int(allocated["peak"]), self._kept[0]),
            "peak_reserved_bytes": max(int(reserved["peak"]), self._kept[1]),
        }


class CpuCounter:
    """Live tensor bytes; there is no allocator to ask for what it reserved."""

    def __init__(self, modules: Iterable[nn.Module] = (), limit_bytes: int | None = None) -> None:
        self._live = LiveBytes(limit_bytes=limit_bytes)
        self._kept = 0
        for module in modules:
            self.track(module)

    def track(self, module: nn.Module) -> None:
        """Counts what a module owns."""
        self._live.track_module(module)

    def start(self) -> None:
        self._live.__enter__()
        self.reset()

    def stop(self) -> None:
        self._live.__exit__(None, None, None)

    def reset(self) -> None:
        self._live.reset_peak()
        self._kept = 0

    def current(self) -> int:
        return self._live.current_bytes

    def peaks(self) -> tuple[int, int]:
        return max(self._live.peak_bytes, self._kept), 0

    def fold(self) -> Reading:
        """What lives now, and the peak since the last reset or fold, which `peaks` keeps."""
        peak = self._live.peak_bytes
        self._live.reset_peak()
        self._kept = max(peak, self._kept)
        return Reading(self._live.current_bytes, 0, peak)

    def now(self) -> dict[str, int]:
        return {
            "allocated_bytes": self._live.current_bytes,
            "reserved_bytes": 0,
            "peak_allocated_bytes": self.peaks()[0],
            "peak_reserved_bytes": 0,
        }


Counter = CudaCounter | CpuCounter


def new_counter(
    device: Device, modules: Iterable[nn.Module] = (), *, limit_bytes: int | None
) -> Counter:
    """What counts a device's memory; on a processor the modules' tensors are counted as well, and
    more than the limit is refused."""
    return CudaCounter() if device.kind == "cuda" else CpuCounter(modules, limit_bytes)


class Meter:
    """Collects the measurement of one job; what is done counts even when the job fails.

    A phase that is entered again (the passes of training) is one phase: its highest peaks, its
    seconds together.
    """

    def __init__(self, device: Device, modules: Iterable[nn.Module]) -> None:
        self._device = device
        self._counter = new_counter(device, modules, limit_bytes=device.limit_bytes)
        self._phases: dict[str, PhaseMeasurement] = {}
        self._running = ""
        self._started = 0.0
        self._resident = 0
        self._others_bytes = device.others_bytes()
        _reset_host_peak()

    @property
    def counter(self) -> Counter:
        """What counts the memory of the running phase."""
        return self._counter

    def begin(self, name: str) -> None:
        """A phase begins, and the one before it ends; its seconds count from here."""
        self.end()
        self._running, self._started = name, time.perf_counter()
        self._counter.start()
        self._resident = self._counter.current()

    def ready(self) -> None:
        """The phase's weights are in place: its peaks count from here."""
        self._counter.reset()
        self._resident = self._counter.current()

    def forget_seconds(self) -> None:
        """The running phase is over, and what ran so far took no time; its peaks stay."""
        self.end()
        self._phases = {name: replace(phase, seconds=0.0) for name, phase in self._phases.items()}

    def end(self) -> None:
        """The running phase, if there is one, is over."""
        if not self._running:
            return
        name, self._running = self._running, ""
        elapsed = time.perf_counter()
        try:
            allocated, reserved = self._counter.peaks()
            elapsed = time.perf_counter()
            self._others_bytes = max(self._others_bytes, self._device.others_bytes())
        except RuntimeError:  # the device itself failed; the phase's error says so
            allocated = reserved = self._resident
        self._counter.stop()
        before = self._phases.get(name)
        self._phases[name] = PhaseMeasurement(
            name=name,
            resident_bytes=self._resident,
            allocated_bytes=max(allocated, before.allocated_bytes if before else 0),
            reserved_bytes=max(reserved, before.reserved_bytes if before else 0),
            seconds=elapsed - self._started + (before.seconds if before else 0.0),
        )

    def now(self) -> dict[str, int]:
        """What is allocated and reserved now, and the running phase's peaks so far; empty between
        phases. Costs microseconds: it does not wait for the device."""
        return self._counter.now() if self._running else {}

    def measurement(self, load_seconds: float) -> Measurement | None:
        """The figures so far; None before the first phase."""
        if not self._phases:
            return None
        phases = tuple(self._phases.values())
        reserved = max(phase.reserved_bytes for phase in phases)
        return Measurement(
            phases=phases,
            peak_allocated_bytes=max(phase.allocated_bytes for phase in phases),
            peak_reserved_bytes=reserved,
            peak_device_bytes=self._device.device_bytes(reserved),
            host_bytes=host_peak_bytes(),
            seconds=sum(phase.seconds for phase in phases),
            load_seconds=load_seconds,
            source=self._device.kind,
            others_bytes=self._others_bytes,
        )


def host_peak_bytes() -> int:
    """The process's peak resident set: since the last reset where the system allows one."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


def _reset_host_peak() -> None:
    # Linux: 5 resets the peak resident set (man 5 proc, clear_refs); not allowed everywhere.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
