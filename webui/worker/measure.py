"""Measures a run, phase by phase: what was resident, the peaks, the seconds, the host's peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import psutil
import torch
from torch import nn

from webui.core.receipt import Measurement, PhaseMeasurement
from webui.pipelines.live_bytes import LiveBytes
from webui.worker.device import Device


class _CudaCounter:
    """The caching allocator's own figures."""

    def watching(self) -> AbstractContextManager[object]:
        return nullcontext()

    def reset(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()

    def current(self) -> int:
        return torch.cuda.memory_allocated()

    def peaks(self) -> tuple[int, int]:
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


class _CpuCounter:
    """Live tensor bytes; there is no allocator to ask for what it reserved."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._live = LiveBytes()
        for module in modules:
            self._live.track_module(module)

    def watching(self) -> AbstractContextManager[object]:
        return self._live

    def reset(self) -> None:
        self._live.reset_peak()

    def current(self) -> int:
        return self._live.current_bytes

    def peaks(self) -> tuple[int, int]:
        return self._live.peak_bytes, 0


class Meter:
    """Collects the measurement of one job; what is done counts even when the job fails."""

    def __init__(self, device: Device, modules: Iterable[nn.Module]) -> None:
        self._device = device
        self._counter: _CudaCounter | _CpuCounter = (
            _CudaCounter() if device.kind == "cuda" else _CpuCounter(modules)
        )
        self._phases: list[PhaseMeasurement] = []
        self._others_bytes = device.others_bytes()
        _reset_host_peak()

    @contextmanager
    def phase(self, name: str) -> Iterator[Callable[[], None]]:
        """Measures the block as one phase.

        Yields:
            A function to call when the phase's weights are in place: peaks count from there,
            seconds from the beginning of the block.
        """
        started = time.perf_counter()
        self._counter.reset()
        resident = self._counter.current()

        def ready() -> None:
            nonlocal resident
            self._counter.reset()
            resident = self._counter.current()

        try:
            with self._counter.watching():
                yield ready
        finally:
            self._note(name, started, resident)

    def _note(self, name: str, started: float, resident: int) -> None:
        elapsed = time.perf_counter()
        try:
            allocated, reserved = self._counter.peaks()
            elapsed = time.perf_counter()
            self._others_bytes = max(self._others_bytes, self._device.others_bytes())
        except RuntimeError:  # the device itself failed; the phase's error says so
            allocated = reserved = resident
        self._phases.append(
            PhaseMeasurement(
                name=name,
                resident_bytes=resident,
                allocated_bytes=allocated,
                reserved_bytes=reserved,
                seconds=elapsed - started,
            )
        )

    def measurement(self, load_seconds: float) -> Measurement | None:
        """The figures so far; None before the first phase."""
        if not self._phases:
            return None
        reserved = max(phase.reserved_bytes for phase in self._phases)
        return Measurement(
            phases=tuple(self._phases),
            peak_allocated_bytes=max(phase.allocated_bytes for phase in self._phases),
            peak_reserved_bytes=reserved,
            peak_device_bytes=self._device.device_bytes(reserved),
            host_bytes=host_peak_bytes(),
            seconds=sum(phase.seconds for phase in self._phases),
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
