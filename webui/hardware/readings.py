"""Live readings of the cards and the host for the status panel; never raises without a driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webui.hardware.host import host_available_bytes, host_memory_bytes, usable_cores
from webui.hardware.nvml import attempt, decoded, memory_bytes, open_nvml

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

    def to_json(self, *, processes: bool = False) -> dict[str, Any]:
        """The reading as plain data; processes only when asked for."""
        data = {key: getattr(self, key) for key in self.__slots__}
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


def read_devices() -> list[DeviceReading]:
    """The cards that CUDA would see, in its order; empty without an NVIDIA driver."""
    with open_nvml() as (nvml, handles):
        return [_read_device(nvml, index, handle) for index, handle in handles]


def other_devices(needed_bytes: int) -> list[str]:
    """The cards beside the first that are like it and have room, for CUDA_VISIBLE_DEVICES.

    Args:
        needed_bytes: free memory that each must have.
    """
    devices = read_devices()
    return [
        str(device.index)
        for device in devices[1:]
        if device.name == devices[0].name and device.free_bytes >= needed_bytes
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


def _read_device(nvml: Any, index: int, handle: Any) -> DeviceReading:
    total_bytes, used_bytes, free_bytes = memory_bytes(nvml, handle)
    rates = attempt(nvml, "nvmlDeviceGetUtilizationRates", handle)
    temperature = attempt(nvml, "nvmlDeviceGetTemperature", handle, _NVML_TEMPERATURE_GPU)
    power_mw = attempt(nvml, "nvmlDeviceGetPowerUsage", handle)
    limit_mw = attempt(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    running = attempt(nvml, "nvmlDeviceGetComputeRunningProcesses", handle) or []
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
        processes=tuple(_read_process(process) for process in running),
    )


def _read_process(process: Any) -> ProcessReading:
    import psutil

    try:
        name = psutil.Process(process.pid).name()
    except psutil.Error:  # another container's, or gone
        name = ""
    used = getattr(process, "usedGpuMemory", None)
    return ProcessReading(
        pid=int(process.pid), name=name, used_bytes=None if used is None else int(used)
    )
