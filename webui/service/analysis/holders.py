"""Who holds the memory at a peak: storages summed by the code line that asked for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MOST = 10
_INSIDE = ("torch/", "nn.Module", "webui/pipelines/live_bytes.py", "<")
_NEITHER = ("contextlib.py", ".so", ".cpp")
"""Files whose lines say nothing of who wanted the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The storages of one code line."""

    line: str
    """`file(line): function`, or why there is none."""
    operation: str
    """What the line ran, e.g. `aten::conv3d`; empty where that is not recorded."""
    size_bytes: int
    count: int

    def to_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The peak within a trace or a snapshot, and who held it."""

    total_bytes: int
    at: str
    """Where in the file, for people."""
    holders: tuple[Holder, ...]
    unnamed_bytes: int
    """Of storages from before the recording: nobody knows who asked for them."""
    file: str

    def to_json(self) -> dict[str, Any]:
        data = {key: getattr(self, key) for key in self.__slots__}
        data["holders"] = [holder.to_json() for holder in self.holders]
        return data


def largest(found: Iterable[tuple[str, str, int]]) -> tuple[Holder, ...]:
    """The largest holders.

    Args:
        found: line, operation and bytes of each storage.
    """
    sums: dict[tuple[str, str], list[int]] = {}
    for line, operation, size in found:
        entry = sums.setdefault((line, operation), [0, 0])
        entry[0] += size
        entry[1] += 1
    ranked = sorted(sums.items(), key=lambda item: -item[1][0])
    return tuple(
        Holder(line=line, operation=operation, size_bytes=size, count=count)
        for (line, operation), (size, count) in ranked[:MOST]
    )


def is_telling(file: str) -> bool:
    """Whether a frame of this file says who wanted the memory."""
    name = shortened(file)
    return (
        bool(name) and name != "??" and not name.startswith(_INSIDE) and not name.endswith(_NEITHER)
    )


def shortened(file: str) -> str:
    """A file's path from the package on: nothing of where this machine keeps it."""
    name = file.replace("\\", "/")
    for mark in ("/site-packages/", "/dist-packages/"):
        if mark in name:
            return name.rpartition(mark)[2]
    at = name.rfind("/webui/")
    return name[at + 1 :] if at >= 0 else name
