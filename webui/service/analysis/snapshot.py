"""A CUDA memory snapshot: what lives at the peak of its history, with the code lines.

A snapshot is a pickle, and a pickle can run anything: it is read by an unpickler that makes
containers, numbers and texts, and nothing else.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from webui.core.units import MIB, format_bytes
from webui.service.analysis.events import wrong_file
from webui.service.analysis.holders import Peak, is_telling, largest, shortened

MAX_BYTES = 512 * MIB
_ALLOCATED = ("active_allocated",)
_FREED = "free_requested"
_EARLIER = "allocated before the recorded history"


class _PlainUnpickler(pickle.Unpickler):
    """Makes no objects: whatever a pickle names beyond the built-in containers is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to something outside")


def read_snapshot(path: Path) -> Peak:
    """The peak of a snapshot's history and its ten largest holders.

    Raises:
        BadInput: it cannot be read, holds more than plain data, or is of another make.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            size = format_bytes(path.stat().st_size)
            raise wrong_file(path, f"it is too large ({size})", f"文件过大（{size}）")
        with path.open("rb") as file:
            data = _PlainUnpickler(file).load()
    except OSError as error:
        reason = error.strerror or "it is not there"
        raise wrong_file(path, reason, f"无法读取（{reason}）") from None
    except pickle.UnpicklingError as error:
        if "it names" in str(error) or "outside" in str(error):
            raise wrong_file(
                path,
                "it holds more than plain data, which is not loaded",
                "其中不只是普通数据，出于安全考虑不会加载",
            ) from None
        raise wrong_file(path, "it is cut off or no pickle", "文件被截断或不是 pickle") from None
    except MemoryError:
        raise wrong_file(path, "it does not fit into memory", "内存放不下") from None
    except Exception:  # a broken pickle fails in many ways
        raise wrong_file(path, "it is cut off or no pickle", "文件被截断或不是 pickle") from None
    try:
        return _peak(path, data)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise wrong_file(
            path,
            "it is no memory snapshot that this studio knows; another version of torch made it, "
            "perhaps",
            "不是本程序认识的显存快照，可能来自其他版本的 torch",
        ) from None


def _peak(path: Path, data: Any) -> Peak:
    segments, traces = data["segments"], data["device_traces"]
    device = max(range(len(traces)), key=lambda index: len(traces[index])) if traces else 0
    history = list(traces[device]) if traces else []
    now = _live_now(segments, device)
    frees = _FREED if any(e["action"] == _FREED for e in history) else "free_completed"
    live = _before(history, now, frees)
    top, most = 0, sum(size for size, _ in live.values())
    total = most
    for index, event in enumerate(history):
        total += _change(event, frees)
        if total > most:
            top, most = index + 1, total
    for event in history[:top]:
        if event["action"] == "alloc":
            live[int(event["addr"])] = (int(event["size"]), event.get("frames") or [])
        elif event["action"] == frees:
            live.pop(int(event["addr"]), None)
    ran_out = next((e for e in reversed(history) if e["action"] == "oom"), None)
    at = f"event {top} of {len(history)}"
    if ran_out is not None:
        at += f"; ran out when {format_bytes(int(ran_out['size']))} more were asked for"
    named = [(_line(frames), "", size) for size, frames in live.values() if frames]
    return Peak(
        total_bytes=most,
        at=at,
        holders=largest(named),
        unnamed_bytes=sum(size for size, frames in live.values() if not frames),
        file=path.name,
    )


_Live = dict[int, tuple[int, Any]]


def _live_now(segments: Iterable[Mapping[str, Any]], device: int) -> _Live:
    """The blocks in use when the snapshot was made, by address: bytes and frames."""
    live: _Live = {}
    for segment in segments:
        if int(segment.get("device", device)) != device:
            continue
        address = int(segment["address"])
        for block in segment["blocks"]:
            place = int(block.get("address", address))
            if block["state"] in _ALLOCATED:
                # Events tell what was asked for, and so must this.
                size = int(block.get("requested_size") or block["size"])
                live[place] = (size, block.get("frames") or [])
            address = place + int(block["size"])
    return live


def _before(history: list[Mapping[str, Any]], now: _Live, frees: str) -> _Live:
    """What was in use before the first event of the history."""
    live = dict(now)
    for event in reversed(history):
        if event["action"] == "alloc":
            live.pop(int(event["addr"]), None)
        elif event["action"] == frees:
            live[int(event["addr"])] = (int(event["size"]), [])
    return live


def _change(event: Mapping[str, Any], frees: str) -> int:
    if event["action"] == "alloc":
        return int(event["size"])
    return -int(event["size"]) if event["action"] == frees else 0


def _line(frames: Iterable[Mapping[str, Any]]) -> str:
    """The innermost frame that says who wanted the memory."""
    first = ""
    for frame in frames:
        file, number, name = str(frame["filename"]), int(frame["line"]), str(frame["name"])
        line = f"{shortened(file)}({number}): {name}"
        first = first or line
        if is_telling(file):
            return line
    return first or _EARLIER
