"""Live readings of the cards and the host for the status panel; never raises without a driver."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.core.host import host_available_bytes, host_memory_bytes, usable_cores
from webui.hardware.nvml import LOOK_AGAIN_S, attempt, decoded, memory_bytes, open_nvml

_NVML_TEMPERATURE_GPU = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReading:
    """A process that holds memory of a card."""

    pid: int
    name: str
    """Program name; empty where the system does not tell."""
    used_bytes: int | None
    """None where the driver does not tell (Windows, some containers)."""

    def to_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReading:
    """One card now; None is what the card or the driver does not report."""

    index: int
    """On the machine, as nvidia-smi counts."""
    name: str
    total_bytes: int
    used_bytes: int
    free_bytes: int
    utilisation: float | None
    """Busy share of the last sampling period, 0 to 1."""
    temperature_c: float | None
    power_w: float | None
    power_limit_w: float | None
    processes: tuple[ProcessReading, ...]
    """Names and numbers of processes are for the machine's owner only."""
    uuid: str = ""
    """`GPU-...`, which no other card has; empty where the driver does not tell."""

    def to_json(self, *, processes: bool = False) -> dict[str, Any]:
        """The reading as plain data, without the card's own number; processes only when asked
        for."""
        data = {key: getattr(self, key) for key in self.__slots__ if key != "uuid"}
        data["processes"] = [item.to_json() for item in self.processes] if processes else []
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReading:
    """The host now, within the container's limits."""

    memory_bytes: int
    available_bytes: int
    cores: float
    utilisation: float
    """Busy share of all processors since the last reading, 0 to 1."""

    def to_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskReading:
    """The disk that holds a folder."""

    total_bytes: int
    free_bytes: int


class DeviceReader:
    """Reads the cards again and again; the driver's library stays open between readings.

    Opening it takes longer than reading eight cards. Not safe to use from two threads at once.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._nvml: Any = None
        self._handles: list[tuple[int, Any]] = []
        self._names: dict[int, str] = {}
        self._next_look_s = 0.0

    def read(self) -> list[DeviceReading]:
        """The cards that CUDA would see, in its order; empty without an NVIDIA driver."""
        if not self._handles:
            # With a driver that shows no card too, the library would be opened at every reading.
            if time.monotonic() < self._next_look_s:
                return []
            self._open()
        found = [_read_device(self._nvml, *item, self._name) for item in self._handles]
        if any(not device.total_bytes for device in found):
            # A card fell off the bus, or the driver was replaced: look for what is there.
            self.close()
            return []
        seen = {process.pid for device in found for process in device.processes}
        self._names = {pid: name for pid, name in self._names.items() if pid in seen}
        return found

    def close(self) -> None:
        """Lets the driver's library go; the next reading opens it again."""
        self._handles = []
        self._nvml = None
        self._stack.close()

    def _open(self) -> None:
        self._nvml, self._handles = self._stack.enter_context(open_nvml())
        if not self._handles:
            self.close()
            self._next_look_s = time.monotonic() + LOOK_AGAIN_S

    def _name(self, pid: int) -> str:
        if pid not in self._names:
            self._names[pid] = _process_name(pid)
        return self._names[pid]


def read_devices() -> list[DeviceReading]:
    """The cards that CUDA would see, in its order; empty without an NVIDIA driver."""
    with open_nvml() as (nvml, handles):
        return [_read_device(nvml, index, handle) for index, handle in handles]


def other_devices(needed_bytes: int, alike: bool = True) -> list[str]:
    """The cards beside the first that have room, for CUDA_VISIBLE_DEVICES.

    Args:
        needed_bytes: free memory that each must have.
        alike: only those of the same kind as the first.
    """
    devices = read_devices()
    return [
        str(device.index)
        for device in devices[1:]
        if device.free_bytes >= needed_bytes and (not alike or device.name == devices[0].name)
    ]


def read_host() -> HostReading:
    """Memory and processors of the host."""
    import psutil

    return HostReading(
        memory_bytes=host_memory_bytes(),
        available_bytes=host_available_bytes(),
        cores=usable_cores(),
        utilisation=psutil.cpu_percent(interval=None) / 100,
    )


def read_disk(folder: Path) -> DiskReading:
    """The disk that holds a folder; zeros where the system does not tell."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return DiskReading(total_bytes=0, free_bytes=0)
    return DiskReading(total_bytes=usage.total, free_bytes=usage.free)


def process_device_bytes(pid: int) -> int | None:
    """Memory that a process holds on all cards together, as the driver counts it.

    None when the driver does not tell, or without a driver.
    """
    used = [
        process.used_bytes
        for device in read_devices()
        for process in device.processes
        if process.pid == pid
    ]
    known = [count for count in used if count is not None]
    return sum(known) if known else None


def _process_name(pid: int) -> str:
    import psutil

    try:
        return psutil.Process(pid).name()
    except psutil.Error:  # another container's, or gone
        return ""


def _read_device(
    nvml: Any, index: int, handle: Any, name_of: Callable[[int], str] = _process_name
) -> DeviceReading:
    total_bytes, used_bytes, free_bytes = memory_bytes(nvml, handle)
    rates = attempt(nvml, "nvmlDeviceGetUtilizationRates", handle)
    temperature = attempt(nvml, "nvmlDeviceGetTemperature", handle, _NVML_TEMPERATURE_GPU)
    power_mw = attempt(nvml, "nvmlDeviceGetPowerUsage", handle)
    limit_mw = attempt(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    return DeviceReading(
        index=index,
        name=decoded(attempt(nvml, "nvmlDeviceGetName", handle) or f"NVIDIA card {index}"),
        total_bytes=total_bytes,
        used_bytes=used_bytes,
        free_bytes=free_bytes,
        utilisation=None if rates is None else rates.gpu / 100,
        temperature_c=None if temperature is None else float(temperature),
        power_w=None if power_mw is None else power_mw / 1000,
        power_limit_w=None if limit_mw is None else limit_mw / 1000,
        processes=_read_processes(nvml, handle, name_of),
        uuid=decoded(attempt(nvml, "nvmlDeviceGetUUID", handle) or ""),
    )


def _read_processes(
    nvml: Any, handle: Any, name_of: Callable[[int], str]
) -> tuple[ProcessReading, ...]:
    """Programs that compute and those that draw, such as the desktop; who does both is one."""
    found: dict[int, ProcessReading] = {}
    for kind in ("Compute", "Graphics"):
        for process in attempt(nvml, f"nvmlDeviceGet{kind}RunningProcesses", handle) or []:
            pid, used = int(process.pid), getattr(process, "usedGpuMemory", None)
            found.setdefault(
                pid,
                ProcessReading(
                    pid=pid, name=name_of(pid), used_bytes=None if used is None else int(used)
                ),
            )
    return tuple(found.values())
