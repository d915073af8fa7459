"""Two profiled rows side by side: what changed, by component, phase and stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.phases import title_of
from webui.core.text import Text
from webui.core.units import format_bytes, format_seconds
from webui.service.analysis.events import MemoryProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure of both rows; None where a row has it not."""

    kind: str
    """`base`, `phase`, `activation`, `peak`, `reserved`."""
    name: str
    first_bytes: int | None
    second_bytes: int | None

    @property
    def change_bytes(self) -> int:
        return (self.second_bytes or 0) - (self.first_bytes or 0)

    def to_json(self) -> dict[str, Any]:
        return {
            **{key: getattr(self, key) for key in self.__slots__},
            "change_bytes": self.change_bytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the second row needs more, or less, than the first."""

    first: str
    second: str
    differences: tuple[Difference, ...]
    summary: Text

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "summary": self.summary.to_json(),
            "differences": [item.to_json() for item in self.differences],
        }


def compare(first: str, one: MemoryProfile, second: str, two: MemoryProfile) -> Comparison:
    """Compares two rows.

    Args:
        first: name of the first.
        one: its memory.
        second: name of the other.
        two: its memory.
    """
    parts = [
        *_differences("base", _bases(one), _bases(two)),
        *_differences("phase", _phases(one), _phases(two)),
        *_differences("activation", _stages(one), _stages(two)),
        *_differences("peak", {"allocated": one.peak_bytes}, {"allocated": two.peak_bytes}),
    ]
    if one.peak_reserved_bytes and two.peak_reserved_bytes:
        reserved = ({"reserved": item.peak_reserved_bytes} for item in (one, two))
        parts += _differences("reserved", *reserved)
    phases = [part for part in parts if part.kind == "phase"]
    return Comparison(
        first=first,
        second=second,
        differences=tuple(parts),
        summary=_summary(first, one, second, two, phases),
    )


def _summary(
    first: str, one: MemoryProfile, second: str, two: MemoryProfile, phases: list[Difference]
) -> Text:
    change = two.peak_bytes - one.peak_bytes
    share = change / one.peak_bytes if one.peak_bytes else 0.0
    size = format_bytes(abs(change))
    if not change:
        words = Text(f"{second} and {first} peak alike", f"{second} 与 {first} 峰值相同")
    elif change < 0:
        words = Text(
            f"{second} needs {size} less than {first} at its peak ({share:+.1%})",
            f"{second} 的峰值比 {first} 低 {size}（{share:+.1%}）",
        )
    else:
        words = Text(
            f"{second} needs {size} more than {first} at its peak ({share:+.1%})",
            f"{second} 的峰值比 {first} 高 {size}（{share:+.1%}）",
        )
    took, takes = format_seconds(two.seconds), format_seconds(one.seconds)
    took_zh, takes_zh = format_seconds(two.seconds, "zh"), format_seconds(one.seconds, "zh")
    most = max(phases, key=lambda part: abs(part.change_bytes), default=None)
    where, where_zh = "", ""
    if most is not None and most.change_bytes:
        moved, phase = format_bytes(most.change_bytes), title_of(most.name)
        where = f"; the largest change is in {phase.en} ({moved})"
        where_zh = f"；变化最大的是 {phase.zh}（{moved}）"
    return Text(
        f"{words.en}{where}. It took {took}, loading included; {first} took {takes}.",
        f"{words.zh}{where_zh}。含加载用时 {took_zh}，{first} 用时 {takes_zh}。",
    )


def _bases(memory: MemoryProfile) -> dict[str, int]:
    return {part.name: part.increment_bytes or 0 for part in memory.base}


def _phases(memory: MemoryProfile) -> dict[str, int]:
    return {phase.name: phase.peak_bytes for phase in memory.phases}


def _stages(memory: MemoryProfile) -> dict[str, int]:
    return {f"{item.phase}: {item.stage}": item.activation_bytes for item in memory.activations}


def _differences(kind: str, one: Mapping[str, int], two: Mapping[str, int]) -> list[Difference]:
    return [
        Difference(kind=kind, name=name, first_bytes=one.get(name), second_bytes=two.get(name))
        for name in dict.fromkeys([*one, *two])
    ]
