"""Every failure becomes one clear error of the tree."""

from __future__ import annotations

import errno
import gc
import weakref

import pytest
import torch

from webui.core.errors import BadInput, NotEnoughDisk, OutOfMemory, RunFailed
from webui.core.text import Text
from webui.core.units import GIB
from webui.pipelines.live_bytes import CapReached
from webui.worker.device import Device
from webui.worker.failures import (
    is_out_of_memory,
    release_frames,
    shortage_of,
    to_studio_error,
)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has ..."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to "
                     "allocate 1610612736 bytes."),
        MemoryError(),
    ],
)  # fmt: skip
def test_out_of_memory(error: BaseException) -> None:
    told = to_studio_error(error, "decode", 8 * GIB, 7 * GIB)
    assert isinstance(told, OutOfMemory) and "decode" in told.message.en
    assert "7.00 GiB" in told.message.en and told.hint.en and told.hint.zh
    if "1" in str(error):
        assert "1.50 GiB" in told.message.en


@pytest.mark.parametrize(
    ("phase", "means"), [("decode", "VAE tiling"), ("backward", "gradient checkpointing")]
)
def test_the_hint_is_about_the_work_that_failed(phase: str, means: str) -> None:
    told = to_studio_error(MemoryError(), phase, None, 0)
    assert means in told.hint.en and "设置" in told.hint.zh


def test_the_rest() -> None:
    full = to_studio_error(OSError(errno.ENOSPC, "No space left"), "save", None, 0)
    assert isinstance(full, NotEnoughDisk)
    known = BadInput("model", Text("a", "b"))
    assert to_studio_error(known, "loading", None, 0) is known
    other = to_studio_error(ZeroDivisionError("division by zero\nmore"), "denoise", None, 0)
    assert isinstance(other, RunFailed)
    assert other.message.en == "The run failed in denoise (ZeroDivisionError: division by zero)."
    assert not is_out_of_memory(ZeroDivisionError())


def test_tensors_of_a_failed_run_are_freed() -> None:
    def run() -> None:
        latents = torch.zeros(10)
        seen.append(weakref.ref(latents))
        try:
            raise ValueError
        except ValueError as error:
            raise RuntimeError from error

    seen: list[weakref.ref[torch.Tensor]] = []
    try:
        run()
    except RuntimeError as error:
        release_frames(error)
        gc.collect()
        assert seen[0]() is None


def test_how_things_stood() -> None:
    device = Device()
    device.cap(GIB)
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has ...")
    found = shortage_of(error, "decode", device)
    assert found is not None and (found.phase, found.wanted_bytes) == ("decode", 3 * GIB // 2)
    assert (found.limit_bytes, found.on_host, found.reserved_bytes) == (GIB, False, 0)
    capped = shortage_of(CapReached(5, 7), "denoise", device)
    assert capped is not None and (capped.wanted_bytes, capped.in_use_bytes) == (5, 7)
    assert shortage_of(ValueError("Tried to allocate 1 GiB"), "decode", device) is None
