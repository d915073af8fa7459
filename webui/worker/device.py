"""The device of this worker: its name, its hard cap, and what the driver counts for the process."""

from __future__ import annotations

import gc
import os
import platform
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from webui.core.units import MIB

_USUAL_CONTEXT_BYTES = 640 * MIB
"""CUDA context and libraries of an H200 in use, for when nothing could be measured."""
_LATER_CONTEXT_BYTES = 80 * MIB
"""What the context grows by once copy streams run: 784 to 856 MiB on an H200, 2026-11-21."""
_PLAUSIBLE_CONTEXT_BYTES = (64 * MIB, 4096 * MIB)
_GROWTH_BYTES = 512 * MIB
_BEYOND_LIMIT_BYTES = 20 * MIB
"""Expandable segments grow by whole units of so much, the last one past the allocator's limit."""


class Device:
    """The processor: live tensor bytes instead of an allocator's figures, capped where they are
    counted."""

    kind = "cpu"
    name = "cpu"
    context_bytes = 0
    limit_bytes: int | None = None
    """The cap that is set."""

    def __init__(self) -> None:
        self.torch_device = torch.device("cpu")
        threads = os.environ.get("STUDIO_THREADS", "")
        if threads.isdigit() and int(threads) > 0:
            torch.set_num_threads(int(threads))

    def cap(self, limit_bytes: int | None, context_bytes: int = 0) -> None:
        """Limits what the process may use of the device.

        Args:
            limit_bytes: device bytes in all; None takes the limit away.
            context_bytes: what the plan expects outside the allocator; a context only grows.
        """
        self.limit_bytes = limit_bytes

    def held_bytes(self) -> int:
        """What tensors take now: on a processor all objects are looked through, some tenths of a
        second."""
        tensors = (found for found in gc.get_objects() if issubclass(type(found), torch.Tensor))
        storages = {}
        for tensor in tensors:
            with suppress(RuntimeError, NotImplementedError):  # kinds that have no storage
                if tensor.device.type == "cpu":
                    storage = tensor.untyped_storage()
                    storages[storage._cdata] = storage.nbytes()
        return sum(storages.values())

    def reserved_bytes(self) -> int:
        """What the allocator holds now, its cache included; 0 where there is none to ask."""
        return 0

    def available_bytes(self) -> int | None:
        """What the process can have in all: its cap, or what other programs leave of the device."""
        return self.limit_bytes

    def empty_cache(self) -> None:
        gc.collect()

    def device_bytes(self, reserved_bytes: int) -> int:
        """The process's use as the driver counts it, when the allocator holds that much."""
        return 0

    def others_bytes(self) -> int:
        """What other programs hold of the device now; 0 where nothing tells."""
        return 0

    def healthy(self) -> bool:
        """Whether the device still works after a failure."""
        return True


class CudaDevice(Device):
    """The first visible NVIDIA GPU."""

    kind = "cuda"

    def __init__(self) -> None:
        super().__init__()
        self.torch_device = torch.device("cuda", 0)
        self._used_before = _used_bytes(_nvml_handle_before_cuda())
        torch.cuda.init()
        torch.cuda.set_device(0)
        self.name = torch.cuda.get_device_name(0)
        self._total_bytes = int(torch.cuda.mem_get_info(0)[1])
        self._handle = _nvml_handle(0)
        _load_libraries(self.torch_device)
        self.empty_cache()
        self.context_bytes = self._first_context()

    def cap(self, limit_bytes: int | None, context_bytes: int = 0) -> None:
        """The cap means device bytes, so the allocator gets what the context leaves."""
        super().cap(limit_bytes)
        fraction = 1.0
        if limit_bytes is not None:
            context = max(self.context_bytes + _LATER_CONTEXT_BYTES, context_bytes)
            fraction = (limit_bytes - context - _BEYOND_LIMIT_BYTES) / self._total_bytes
        torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.001, fraction)), 0)

    def held_bytes(self) -> int:
        return torch.cuda.memory_allocated(0)

    def reserved_bytes(self) -> int:
        return torch.cuda.memory_reserved(0)

    def available_bytes(self) -> int | None:
        left = self._total_bytes - self.others_bytes()
        return left if self.limit_bytes is None else min(left, self.limit_bytes)

    def empty_cache(self) -> None:
        gc.collect()
        # cuBLAS keeps its workspace in the allocator; without it every phase starts equal,
        # whether the model was warm or not.
        clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
        if clear is not None:
            clear()
        torch.cuda.empty_cache()

    def device_bytes(self, reserved_bytes: int) -> int:
        held = torch.cuda.memory_reserved(0)
        process = _process_bytes(self._handle)
        used = _used_bytes(self._handle)
        if process is not None:
            self.context_bytes = self._plausible(process - held)
        elif used is not None and self._used_before is not None:
            # Kernels loaded while running add to the context. Other processes may come and go,
            # so only a small growth is believed.
            context = used - self._used_before - held
            if 0 <= context - self.context_bytes <= _GROWTH_BYTES:
                self.context_bytes = context
        return reserved_bytes + self.context_bytes

    def others_bytes(self) -> int:
        """The card's use less this process's, as the driver counts both.

        Where it does not tell processes apart (containers, Windows), what the allocator and the
        context hold stands for this process.
        """
        used = _used_bytes(self._handle)
        if used is None:
            return 0
        own = _process_bytes(self._handle)
        if own is None:
            own = torch.cuda.memory_reserved(0) + self.context_bytes
        return max(0, used - own)

    def healthy(self) -> bool:
        try:
            torch.cuda.synchronize(0)
            torch.zeros(1, device=self.torch_device).add_(1).item()
        except Exception:
            return False
        return True

    def _first_context(self) -> int:
        """What the process holds outside the allocator, libraries loaded.

        The driver's figure for this process if it gives one (it does not inside containers with
        their own process numbers), else how much the card's use grew since before CUDA started.
        """
        reserved = torch.cuda.memory_reserved(0)
        process = _process_bytes(self._handle)
        if process is not None:
            return self._plausible(process - reserved)
        used = _used_bytes(self._handle)
        if used is not None and self._used_before is not None:
            return self._plausible(used - self._used_before - reserved)
        return _USUAL_CONTEXT_BYTES

    def _plausible(self, context_bytes: int) -> int:
        low, high = _PLAUSIBLE_CONTEXT_BYTES
        if low <= context_bytes <= high:
            return context_bytes
        return self.context_bytes or _USUAL_CONTEXT_BYTES


def open_device() -> Device:
    """The GPU that is visible to the process, else the processor."""
    return CudaDevice() if torch.cuda.is_available() else Device()


def read_versions() -> dict[str, str]:
    """The versions that a measurement depends on."""
    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    return {
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "transformers": version("transformers"),
        **_installed("peft", "bitsandbytes", "torchao", "gguf"),
        "cuda": torch.version.cuda or "",
        "cudnn": str(cudnn or ""),
        "python": platform.python_version(),
    }


def _installed(*names: str) -> dict[str, str]:
    """Versions of those that are there: only training and quantised weights need them."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _load_libraries(device: torch.device) -> None:
    """A tiny product and convolution: cuBLAS and cuDNN load their code into the context."""
    square = torch.ones(64, 64, device=device, dtype=torch.float16)
    (square @ square).sum()
    clip = torch.ones(1, 8, 4, 16, 16, device=device, dtype=torch.float16)
    torch.nn.functional.conv3d(clip, torch.ones(8, 8, 3, 3, 3, device=device, dtype=clip.dtype))
    torch.cuda.synchronize(device)


@cache
def _nvml() -> Any:
    """The driver's library, opened once for the life of the process; None without a driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return None
    return pynvml


def _nvml_handle_before_cuda() -> Any:
    """The GPU that CUDA will choose, by what the environment says (client/worker.py sets it)."""
    nvml = _nvml()
    if nvml is None:
        return None
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
    try:
        if first.isdigit():
            return nvml.nvmlDeviceGetHandleByIndex(int(first))
        return nvml.nvmlDeviceGetHandleByUUID(first)
    except Exception:
        return None


def _nvml_handle(index: int) -> Any:
    nvml = _nvml()
    if nvml is None:
        return None
    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except Exception:
        return _nvml_handle_before_cuda()


def _used_bytes(handle: Any) -> int | None:
    """What all processes use of the card, as CUDA sees it: `nvmlMemory_v2` tells what the driver
    keeps for itself apart; the older call counts it as used (as in webui/hardware/nvml.py)."""
    nvml = _nvml()
    if nvml is None or handle is None:
        return None
    with suppress(Exception):  # an older driver or binding
        return int(nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2).used)
    with suppress(Exception):
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    return None


def _process_bytes(handle: Any) -> int | None:
    """What this process uses, if the driver tells."""
    nvml = _nvml()
    if nvml is None or handle is None:
        return None
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except Exception:
        return None
    for process in processes:
        if process.pid == os.getpid() and process.usedGpuMemory:
            return int(process.usedGpuMemory)
    return None
