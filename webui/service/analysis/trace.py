"""A trace of `torch.profiler`: the live storages at its peak, with the code lines.

The file is read as a stream, twice: once for the memory events, once for the functions around
those that are alive at the peak. What is kept is bounded: some 100 bytes for each of at most
`MAX_MEMORY_EVENTS` memory events, and the lines of at most `MAX_LIVE` storages.
"""

from __future__ import annotations

import gzip
import json
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from webui.core.units import MIB, format_bytes
from webui.service.analysis.events import wrong_file
from webui.service.analysis.holders import Peak, is_telling, largest, shortened

MAX_BYTES = 1024 * MIB
"""Of the text, unpacked."""
MAX_LIVE = 4000
"""Storages at the peak that are looked up, the largest; the others are summed."""
MAX_MEMORY_EVENTS = 1_000_000
_CHUNK = 1 << 20
_MAX_EVENT = 1 << 22
_CUDA = 1
_ADDRESS = (1 << 63) - 1
_UNKNOWN = "?"


def is_trace(path: Path) -> bool:
    """Whether a file's name is that of a trace."""
    return path.name.endswith((".json", ".json.gz"))


def read_trace(path: Path) -> Peak:
    """The peak of a trace and its ten largest holders.

    Raises:
        BadInput: it cannot be read, is cut off, too large, or holds no memory events.
    """
    memory = _MemoryEvents()
    for event in _events(path):
        if event.get("name") == "[memory]":
            memory.add(event)
            if memory.count > MAX_MEMORY_EVENTS:
                raise wrong_file(
                    path,
                    f"it has more than {MAX_MEMORY_EVENTS:,} memory events; trace fewer steps "
                    "(logging.active)",
                    f"内存事件超过 {MAX_MEMORY_EVENTS:,} 条；请减少跟踪的步数（logging.active）",
                )
    peak = memory.peak()
    if peak is None:
        raise wrong_file(
            path,
            "it has no memory events (profile_memory=True records them)",
            "其中没有内存事件（需要 profile_memory=True）",
        )
    total_bytes, when, live = peak
    live.sort(key=lambda item: -item[2])
    chosen, rest = live[:MAX_LIVE], live[MAX_LIVE:]
    lines = _Lines(chosen)
    for event in _events(path):
        lines.add(event)
    held = [(*lines.of(index), size) for index, (_, _, size) in enumerate(chosen)]
    known = sum(size for *_, size in live)
    unnamed = max(0, total_bytes - known) + sum(size for *_, size in rest)
    return Peak(
        total_bytes=max(total_bytes, known),
        at=f"{when:.3f} s",
        holders=largest(held),
        unnamed_bytes=unnamed,
        file=path.name,
    )


class _MemoryEvents:
    """The allocations of the trace, on the card where there are any, else on the host."""

    def __init__(self) -> None:
        self.count = 0
        self._found = {kind: (array("d"), array("q")) for kind in (0, _CUDA)}
        """By kind of device: times, and of each thread, address, bytes, total."""

    def add(self, event: dict[str, Any]) -> None:
        try:
            args = event["args"]
            when = float(event["ts"])
            values = array(
                "q",
                (
                    int(event["tid"]),
                    int(args["Addr"]) & _ADDRESS,
                    int(args["Bytes"]),
                    int(args.get("Total Allocated", 0)),
                ),
            )
            times, others = self._found[int(args.get("Device Type", 0))]
        except (KeyError, TypeError, ValueError, OverflowError):
            return
        times.append(when)
        others.extend(values)
        self.count += 1

    def peak(self) -> tuple[int, float, list[tuple[float, int, int]]] | None:
        """Total bytes, seconds from the first event, and what lives: time, thread, bytes."""
        times, others = self._found[_CUDA] if self._found[_CUDA][0] else self._found[0]
        if not times:
            return None
        order = sorted(range(len(times)), key=times.__getitem__)
        top = max(order, key=lambda index: others[4 * index + 3])
        live: dict[int, tuple[float, int, int]] = {}
        for index in order:
            thread, address, size, _ = others[4 * index : 4 * index + 4]
            if size > 0:
                live[address] = (times[index], thread, size)
            else:
                live.pop(address, None)
            if index == top:
                break
        seconds = (times[top] - times[order[0]]) / 1e6
        return others[4 * top + 3], seconds, list(live.values())


class _Lines:
    """The innermost telling function, and the outermost operation, around each allocation."""

    def __init__(self, live: list[tuple[float, int, int]]) -> None:
        self._by_thread: dict[int, list[tuple[float, int]]] = {}
        for index, (when, thread, _) in enumerate(live):
            self._by_thread.setdefault(thread, []).append((when, index))
        for times in self._by_thread.values():
            times.sort()
        self._lines: dict[int, tuple[float, str]] = {}
        self._operations: dict[int, tuple[float, str]] = {}

    def add(self, event: dict[str, Any]) -> None:
        kind = event.get("cat")
        if kind not in ("python_function", "cpu_op"):
            return
        try:
            times = self._by_thread.get(int(event["tid"]))
            start = float(event["ts"])
            end = start + float(event["dur"])
        except (KeyError, TypeError, ValueError):
            return
        if not times:
            return
        name = str(event.get("name", ""))
        if kind == "python_function" and not is_telling(name.partition("(")[0]):
            return
        first, last = bisect_left(times, (start, -1)), bisect_right(times, (end, 1 << 60))
        for _, index in times[first:last]:
            if kind == "cpu_op":
                known = self._operations.get(index)
                if known is None or start < known[0]:
                    self._operations[index] = (start, name)
            else:
                known = self._lines.get(index)
                if known is None or start > known[0]:
                    self._lines[index] = (start, name)

    def of(self, index: int) -> tuple[str, str]:
        """Line and operation of the allocation of that number."""
        line = self._lines.get(index, (0.0, _UNKNOWN))[1]
        file, paren, rest = line.partition("(")
        operation = self._operations.get(index, (0.0, ""))[1]
        return (f"{shortened(file)}{paren}{rest}", operation)


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """The members of `traceEvents`, one after the other.

    Raises:
        BadInput: the file ends before its list does, or is something else.
    """
    try:
        with _opened(path) as file:
            yield from _members(path, file)
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError):
        raise wrong_file(
            path, "the trace is cut off or damaged", "跟踪文件被截断或已损坏"
        ) from None
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise wrong_file(path, reason, f"无法读取（{reason}）") from None


def _opened(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _members(path: Path, file: IO[str]) -> Iterator[dict[str, Any]]:
    text = _skip_to_list(path, file)
    decoder = json.JSONDecoder()
    at, read = 0, len(text)
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if at < len(text) and text[at] == "]":
            return
        event = None
        if at < len(text):
            try:
                event, end = decoder.raw_decode(text, at)
            except ValueError:
                event = None
            except RecursionError:
                raise wrong_file(path, "it is nested too deep", "嵌套过深") from None
        if event is not None:
            at = end
            if isinstance(event, dict):
                yield event
            continue
        more = file.read(_CHUNK)
        read += len(more)
        if not more or len(text) - at > _MAX_EVENT:
            raise wrong_file(path, "the trace is cut off or damaged", "跟踪文件被截断或已损坏")
        if read > MAX_BYTES:
            size = format_bytes(MAX_BYTES)
            raise wrong_file(path, f"it is longer than {size}", f"超过 {size}")
        text, at = text[at:] + more, 0


def _skip_to_list(path: Path, file: IO[str]) -> str:
    """The text from behind the bracket of `traceEvents` on."""
    text, mark = "", '"traceEvents"'
    while len(text) < 4 * _MAX_EVENT:
        more = file.read(_CHUNK)
        text += more
        found = text.find(mark)
        start = text.find("[", found) if found >= 0 else -1
        if start >= 0:
            return text[start + 1 :]
        if not more:
            break
    raise wrong_file(path, "it is no trace of torch.profiler", "不是 torch.profiler 的跟踪文件")
