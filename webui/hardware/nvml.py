"""Opens the NVIDIA driver's library; without a driver there are simply no devices."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

FORCE_VARIABLE = "STUDIO_DEVICE"
"""Set to `cpu`, the studio leaves the cards alone."""
LOOK_AGAIN_S = 30.0
"""How long a machine without the driver's library is left alone before the next try: looking for it
takes a tenth of an estimate, several times in each."""
_absent: tuple[ModuleType, float] | None = None
"""The binding that found no library, and until when it is left alone."""


@contextmanager
def open_nvml() -> Iterator[tuple[Any, list[tuple[int, Any]]]]:
    """NVML and the handles of the cards that CUDA would see, with their index on the machine.

    Yields:
        the module (None without a driver) and the list, in CUDA's order.
    """
    if os.environ.get(FORCE_VARIABLE, "").strip().lower() == "cpu":
        yield None, []
        return
    pynvml = _started()
    if pynvml is None:
        yield None, []
        return
    try:
        yield pynvml, _visible_handles(pynvml)
    finally:
        attempt(pynvml, "nvmlShutdown")


def _started() -> Any:
    """NVML, started; None without it."""
    global _absent
    try:
        import pynvml
    except Exception:  # no package, or one that is broken
        return None
    if _absent is not None and _absent[0] is pynvml and time.monotonic() < _absent[1]:
        return None
    try:
        pynvml.nvmlInit()
    except Exception as error:  # no driver, or one that does not answer just now
        if isinstance(error, getattr(pynvml, "NVMLError_LibraryNotFound", ())):
            _absent = pynvml, time.monotonic() + LOOK_AGAIN_S
        return None
    return pynvml


def attempt(nvml: Any, function: str, *arguments: Any) -> Any:
    """The result of an NVML call, or None where the card, driver or binding does not have it."""
    try:
        return getattr(nvml, function)(*arguments)
    except Exception:
        return None


def decoded(name: Any) -> str:
    """NVML strings are bytes in older bindings."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def driver_version() -> str:
    """The NVIDIA driver's version; empty without one."""
    with open_nvml() as (nvml, _):
        return decoded(attempt(nvml, "nvmlSystemGetDriverVersion") or "")


def memory_bytes(nvml: Any, handle: Any) -> tuple[int, int, int]:
    """Total, used and free bytes as CUDA sees them (without what the driver keeps for itself).

    `nvmlMemory_v2` reports that reserve apart; CUDA's total is the difference.
    """
    memory = attempt(nvml, "nvmlDeviceGetMemoryInfo", handle, getattr(nvml, "nvmlMemory_v2", None))
    if memory is not None and hasattr(memory, "reserved"):
        return int(memory.total - memory.reserved), int(memory.used), int(memory.free)
    memory = attempt(nvml, "nvmlDeviceGetMemoryInfo", handle)
    if memory is None:
        return 0, 0, 0
    return int(memory.total), int(memory.used), int(memory.free)


def _visible_handles(nvml: Any) -> list[tuple[int, Any]]:
    """Handles of the cards named by CUDA_VISIBLE_DEVICES, or of all of them."""
    count = attempt(nvml, "nvmlDeviceGetCount") or 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        indices = list(range(count))
    else:
        indices = []
        for part in (part.strip() for part in visible.split(",")):
            index = _index_of(nvml, part, count)
            if index is None:  # CUDA itself stops at the first one that is not valid
                break
            indices.append(index)
    handles = [(index, attempt(nvml, "nvmlDeviceGetHandleByIndex", index)) for index in indices]
    return [(index, handle) for index, handle in handles if handle is not None]


def _index_of(nvml: Any, part: str, count: int) -> int | None:
    if part.isdigit():
        return int(part) if int(part) < count else None
    if part.startswith("GPU-"):
        for index in range(count):
            handle = attempt(nvml, "nvmlDeviceGetHandleByIndex", index)
            uuid = attempt(nvml, "nvmlDeviceGetUUID", handle)
            if uuid is not None and decoded(uuid).startswith(part):
                return index
    return None
