"""Turns whatever a run raised into one clear error of the tree."""

from __future__ import annotations

import errno
import re
import traceback

import torch

from webui.core.errors import NotEnoughDisk, OutOfMemory, RunFailed, StudioError
from webui.core.phases import title_of
from webui.core.receipt import Shortage
from webui.core.text import Text
from webui.core.units import GIB, KIB, MIB, format_bytes
from webui.pipelines.live_bytes import CapReached
from webui.worker.device import Device

_WANTED = re.compile(r"[Tt]ried to allocate ([\d.]+) (\w+)")
_UNITS = {"bytes": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
"""What torch counts in (c10/cuda/CUDACachingAllocator.cpp, `format_size`)."""
_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_SMALLER_CLIP = Text(
    "Leave the settings to the optimizer, turn on VAE tiling or offloading, or ask for fewer "
    "frames or a smaller picture.",
    "请让优化器选择设置，打开 VAE 分块或权重卸载，或减少帧数、缩小画面。",
)
_SHORTER_TEXT = Text(
    "Leave the settings to the optimizer, stream the weights (offload: leaf), or ask for fewer "
    "pages at a time, fewer pixels or fewer new tokens.",
    "请让优化器选择设置，采用流式权重（offload: leaf），或减少每批页数、像素数或新词元数。",
)
_SHORTER_SAMPLES = Text(
    "Leave the settings to the optimizer, turn on gradient checkpointing, train adapters "
    "(lora_rank), or ask for shorter samples or fewer at a time.",
    "请让优化器选择设置，打开梯度检查点，改训适配器（lora_rank），或缩短样本、减少批量。",
)
_HINTS = dict.fromkeys(("vision", "prefill", "generate"), _SHORTER_TEXT) | dict.fromkeys(
    ("forward", "backward", "optimizer"), _SHORTER_SAMPLES
)
"""What helps, by phase; in all others a smaller clip."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def to_studio_error(
    error: BaseException, phase: str, limit_bytes: int | None, in_use_bytes: int
) -> StudioError:
    """The error for the user.

    Args:
        error: what was raised.
        phase: where the job was.
        limit_bytes: what the process was allowed to use, or None.
        in_use_bytes: what tensors took when it happened.
    """
    if isinstance(error, StudioError):
        return error
    if is_out_of_memory(error):
        return _out_of_memory(error, phase, limit_bytes, in_use_bytes)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return NotEnoughDisk(
            Text("The disk is full: the result could not be saved.", "磁盘已满：结果无法保存。"),
            Text("Free some space and run again.", "请清理磁盘空间后重试。"),
        )
    lines = str(error).strip().splitlines()
    told = f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
    return RunFailed(
        Text(
            f"The run failed in {phase} ({told}).",
            f"运行在{title_of(phase).zh}阶段失败（{told}）。",
        ),
        Text("The log has the details.", "详细信息见日志。"),
    )


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError | OutOfMemory):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _MEMORY_WORDS)


def shortage_of(error: BaseException, phase: str, device: Device) -> Shortage | None:
    """How things stood when an error was raised whose call frames are still there; None for errors
    that are not about memory.

    Args:
        error: what was raised.
        phase: where the job was.
        device: where it ran.
    """
    if not is_out_of_memory(error):
        return None
    match = _WANTED.search(str(error))
    wanted = float(match[1]) * _UNITS.get(match[2], 0) if match else 0.0
    try:
        return Shortage(
            phase=phase,
            in_use_bytes=error.in_use_bytes
            if isinstance(error, CapReached)
            else device.held_bytes(),
            reserved_bytes=device.reserved_bytes(),
            wanted_bytes=int(wanted),
            limit_bytes=device.available_bytes(),
            on_host=_is_of_host(error) and device.kind == "cuda",
        )
    except RuntimeError:  # the device itself is broken
        return None


def _is_of_host(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)


def _out_of_memory(
    error: BaseException, phase: str, limit_bytes: int | None, in_use_bytes: int
) -> OutOfMemory:
    on_host = _is_of_host(error)
    what_en, what_zh = ("this machine", "本机内存") if on_host else ("the card", "显存")
    if isinstance(error, CapReached):
        what_en, what_zh = "the processor's share", "处理器限额内存"
    match = _WANTED.search(str(error))
    wanted = ""
    if match:
        whole = match[2] == "bytes" and match[1].isdigit()
        wanted = format_bytes(int(match[1])) if whole else f"{match[1]} {match[2]}"
    used = format_bytes(in_use_bytes)
    allowed = format_bytes(limit_bytes) if limit_bytes and not on_host else ""
    return OutOfMemory(
        Text(
            f"Out of memory on {what_en} in {phase}: {used} in use"
            + (f" of {allowed}" if allowed else "")
            + (f", {wanted} more wanted." if wanted else "."),
            f"{title_of(phase).zh}阶段{what_zh}不足：已用 {used}"
            + (f"，上限 {allowed}" if allowed else "")
            + (f"，还需要 {wanted}。" if wanted else "。"),
        ),
        _HINTS.get(phase, _SMALLER_CLIP),
    )


def release_frames(error: BaseException | None) -> None:
    """Drops the tensors that an exception's call frames still hold."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        following = error.__cause__ or error.__context__
        error.__traceback__ = None
        error = following
