"""`memory_events.json`: from events to base, activation, peak, fragmentation and switches.

The file's schema, version 1 (the worker writes it, webui/worker/recording.py):

    schema, version     "vram-studio/memory-events", 1
    run, request, settings, weights, versions, device, created, log_interval
    source, about       `cuda`, or `cpu` (live tensor bytes), and what that means
    ended, error        done | failed | out of memory | cancelled
    components          name, mode, parameters, storage_bytes, block_bytes, dtypes (bytes by number
                        format), arrival (loaded together), increment_bytes (null: never on the
                        device as a whole)
    peak                allocated_bytes, reserved_bytes, t_s, phase, stage
    events              t_s (seconds from the start), kind, name, phase, step, allocated_bytes,
                        reserved_bytes, and by kind:
                        component: increment_bytes, mode; enter, leave: change_bytes;
                        forward, block: before_bytes, peak_bytes, seconds; phase_end: peak_bytes;
                        also start, loaded, phase, step, end
    dropped_events      forward, block and step events beyond the most that are kept
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.core.errors import BadInput
from webui.core.text import Text
from webui.core.units import MIB, format_bytes

SCHEMA = "vram-studio/memory-events"
VERSION = 1
MAX_BYTES = 64 * MIB
_ENTRIES = ("start", "loaded", "phase", "phase_end", "component", "step", "end", "enter", "leave",
            "forward", "block")  # fmt: skip
MOVED_APART = 0.05
"""Parts of one component whose increments are further from their storages arrived together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Base memory of one component, or of parts that were loaded as one."""

    name: str
    mode: str
    parameters: int
    storage_bytes: int
    increment_bytes: int | None
    """None for what never stands on the device as a whole: streamed, or on the processor."""

    @property
    def error(self) -> float | None:
        """Increment over storages, less one."""
        if self.increment_bytes is None or not self.storage_bytes:
            return None
        return self.increment_bytes / self.storage_bytes - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """One stage of a phase: the same part in all of its calls, blocks of one list together."""

    phase: str
    stage: str
    kind: str
    calls: int
    before_bytes: int
    """Allocated before the call that took the most."""
    peak_bytes: int
    activation_bytes: int
    """Most that a call took above what was there before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMemory:
    """A phase: before its first forward pass, at its peak, after its work."""

    name: str
    before_bytes: int
    peak_bytes: int
    after_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragmentation:
    """(reserved - allocated) / reserved over the events of a run."""

    lowest: float
    highest: float
    mean: float
    at_peak: float

    @property
    def swing(self) -> float:
        return self.highest - self.lowest


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A component came to the device, or left it."""

    t_s: float
    phase: str
    component: str
    entered: bool
    change_bytes: int
    allocated_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryProfile:
    """What the events of one run come to."""

    source: str
    device: str
    ended: str
    base: tuple[Base, ...]
    phases: tuple[PhaseMemory, ...]
    activations: tuple[Activation, ...]
    switches: tuple[Switch, ...]
    fragmentation: Fragmentation | None
    """None on a processor, where nothing is reserved."""
    peak_bytes: int
    peak_reserved_bytes: int
    peak_phase: str
    peak_stage: str
    weights_at_peak: Mapping[str, int]
    """Bytes of components that stood on the device at the peak."""
    seconds: float
    notes: tuple[Text, ...]
    loaded_bytes: int | None = None
    """Allocated when all components had been loaded."""

    @property
    def other_at_peak_bytes(self) -> int:
        """What was no component's weights: activations, and weights on their way."""
        return max(0, self.peak_bytes - sum(self.weights_at_peak.values()))

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "ended": self.ended,
            "base": [
                {**{key: getattr(part, key) for key in Base.__slots__}, "error": part.error}
                for part in self.base
            ],
            "phases": [_plain(phase) for phase in self.phases],
            "activations": [_plain(stage) for stage in self.activations],
            "switches": [_plain(switch) for switch in self.switches],
            "fragmentation": {**_plain(self.fragmentation), "swing": self.fragmentation.swing}
            if self.fragmentation
            else None,
            "peak": {
                "allocated_bytes": self.peak_bytes,
                "reserved_bytes": self.peak_reserved_bytes,
                "phase": self.peak_phase,
                "stage": self.peak_stage,
                "weights": dict(self.weights_at_peak),
                "other_bytes": self.other_at_peak_bytes,
            },
            "seconds": self.seconds,
            "loaded_bytes": self.loaded_bytes,
            "notes": [note.to_json() for note in self.notes],
        }


def read_events(path: Path) -> MemoryProfile:
    """Reads and sums up a `memory_events.json`.

    Raises:
        BadInput: it cannot be read, is cut off, something else, or of another version.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            size = format_bytes(path.stat().st_size)
            raise wrong_file(path, f"it is too large ({size})", f"文件过大（{size}）")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or "it is not there"
        raise wrong_file(path, reason, f"无法读取（{reason}）") from None
    except (ValueError, RecursionError):
        raise wrong_file(
            path, "it is not whole JSON: cut off, perhaps", "JSON 不完整，可能被截断"
        ) from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise wrong_file(path, "it holds no memory events", "其中没有显存事件")
    if data.get("version") != VERSION:
        shown = str(data.get("version"))[:20]
        raise wrong_file(
            path,
            f"its version is {shown}, and this studio reads {VERSION}",
            f"版本为 {shown}，本程序只能读取版本 {VERSION}",
        )
    try:
        return summed(data)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise wrong_file(path, "parts of it are missing", "内容缺失") from None


def summed(data: Mapping[str, Any]) -> MemoryProfile:
    """The sums of a file's contents."""
    events = [event for event in data["events"] if event["kind"] in _ENTRIES]
    peak = data["peak"]
    switches = tuple(_switches(events))
    return MemoryProfile(
        source=str(data["source"]),
        device=str(data["device"]),
        ended=str(data["ended"]),
        base=tuple(_bases(data["components"])),
        phases=tuple(_phases(events)),
        activations=tuple(_activations(events)),
        switches=switches,
        fragmentation=_fragmentation(events, peak),
        peak_bytes=int(peak["allocated_bytes"]),
        peak_reserved_bytes=int(peak["reserved_bytes"]),
        peak_phase=str(peak["phase"]),
        peak_stage=str(peak["stage"]),
        weights_at_peak=_weights_at(data["components"], switches, events, float(peak["t_s"])),
        seconds=float(events[-1]["t_s"]) if events else 0.0,
        notes=tuple(_notes(data)),
        loaded_bytes=next(
            (int(event["allocated_bytes"]) for event in events if event["kind"] == "loaded"), None
        ),
    )


def _notes(data: Mapping[str, Any]) -> Iterable[Text]:
    """What the worker said of the run; where live bytes stand in for a card's, that first."""
    if data["source"] == "cpu" and "about" in data:
        yield Text.from_json(data["about"])
    for note in data.get("notes", ()):
        yield Text.from_json(note)
    dropped = int(data.get("dropped_events", 0))
    if dropped:
        yield Text(
            f"{dropped:,} events of forward passes were dropped, the last ones: activation memory "
            "by stage is that of the first steps. Peaks and phases are whole; a larger "
            "log_interval records fewer.",
            f"前向传播事件过多，丢弃了最后的 {dropped:,} 条：各阶段激活显存只反映最初的步骤。"
            "峰值与阶段不受影响；增大 log_interval 可减少记录。",
        )


def _bases(components: Iterable[Mapping[str, Any]]) -> Iterable[Base]:
    """Each component; parts that were loaded in one piece are one entry, with their sums."""
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for part in components:
        groups.setdefault(int(part["arrival"]), []).append(part)
    for parts in groups.values():
        stood = [part for part in parts if part["increment_bytes"] is not None]
        if len(stood) > 1 and any(_is_off(part) for part in stood):
            yield _base(stood)
            parts = [part for part in parts if part["increment_bytes"] is None]
        for part in parts:
            yield _base([part])


def _is_off(part: Mapping[str, Any]) -> bool:
    size = int(part["storage_bytes"])
    return abs(int(part["increment_bytes"]) - size) > MOVED_APART * size


def _base(parts: list[Mapping[str, Any]]) -> Base:
    known = [int(part["increment_bytes"]) for part in parts if part["increment_bytes"] is not None]
    return Base(
        name=" + ".join(str(part["name"]) for part in parts),
        mode=str(parts[0]["mode"]),
        parameters=sum(int(part["parameters"]) for part in parts),
        storage_bytes=sum(int(part["storage_bytes"]) for part in parts),
        increment_bytes=sum(known) if known else None,
    )


def _phases(events: Iterable[Mapping[str, Any]]) -> Iterable[PhaseMemory]:
    found: dict[str, PhaseMemory] = {}
    for event in events:
        name, now = str(event["phase"]), int(event["allocated_bytes"])
        if event["kind"] == "phase" and name not in found:
            found[name] = PhaseMemory(name=name, before_bytes=now, peak_bytes=now, after_bytes=now)
        elif event["kind"] == "phase_end" and name in found:
            known = found[name]
            found[name] = PhaseMemory(
                name=name,
                before_bytes=known.before_bytes,
                peak_bytes=max(known.peak_bytes, int(event["peak_bytes"])),
                after_bytes=now,
            )
    return found.values()


def _activations(events: Iterable[Mapping[str, Any]]) -> Iterable[Activation]:
    found: dict[tuple[str, str], Activation] = {}
    for event in events:
        if event["kind"] not in ("forward", "block"):
            continue
        stage = str(event["name"])
        if event["kind"] == "block":
            stage = stage.rpartition(".")[0]
        key = (str(event["phase"]), stage)
        before, peak = int(event["before_bytes"]), int(event["peak_bytes"])
        known = found.get(key)
        most = known is None or peak - before > known.activation_bytes
        found[key] = Activation(
            phase=key[0],
            stage=stage,
            kind=str(event["kind"]),
            calls=1 + (known.calls if known else 0),
            before_bytes=before if most or known is None else known.before_bytes,
            peak_bytes=max(peak, known.peak_bytes if known else 0),
            activation_bytes=max(0, peak - before, known.activation_bytes if known else 0),
        )
    return found.values()


def _switches(events: Iterable[Mapping[str, Any]]) -> Iterable[Switch]:
    for event in events:
        if event["kind"] in ("enter", "leave"):
            yield Switch(
                t_s=float(event["t_s"]),
                phase=str(event["phase"]),
                component=str(event["name"]),
                entered=event["kind"] == "enter",
                change_bytes=int(event["change_bytes"]),
                allocated_bytes=int(event["allocated_bytes"]),
            )


def _fragmentation(
    events: Iterable[Mapping[str, Any]], peak: Mapping[str, Any]
) -> Fragmentation | None:
    shares = [
        1 - int(event["allocated_bytes"]) / int(event["reserved_bytes"])
        for event in events
        if int(event["reserved_bytes"]) > 0
    ]
    if not shares:
        return None
    reserved = int(peak["reserved_bytes"])
    return Fragmentation(
        lowest=min(shares),
        highest=max(shares),
        mean=sum(shares) / len(shares),
        at_peak=1 - int(peak["allocated_bytes"]) / reserved if reserved else 0.0,
    )


def _weights_at(
    components: Iterable[Mapping[str, Any]],
    switches: Iterable[Switch],
    events: Iterable[Mapping[str, Any]],
    t_s: float,
) -> dict[str, int]:
    """Bytes of the components that stood on the device at a time."""
    arrived = {str(e["name"]): float(e["t_s"]) for e in events if e["kind"] == "component"}
    there = {
        str(part["name"]): int(part["increment_bytes"])
        for part in components
        if part["mode"] == "always"
        and part["increment_bytes"]
        and arrived.get(str(part["name"]), 0.0) <= t_s
    }
    for switch in switches:
        if switch.t_s > t_s:
            break
        if switch.entered:
            there[switch.component] = switch.change_bytes
        else:
            there.pop(switch.component, None)
    return there


def _plain(record: Any) -> dict[str, Any]:
    return {key: getattr(record, key) for key in record.__slots__}


def wrong_file(path: Path, en: str, zh: str) -> BadInput:
    """One clear sentence about a file that cannot be analysed."""
    return BadInput(
        "",
        Text(f"{path.name} cannot be analysed: {en}.", f"无法分析 {path.name}：{zh}。"),
        Text(
            "Give a profile's folder, its memory_events.json, trace.json.gz or snapshot.pickle.",
            "请给出性能分析的文件夹，或其中的 memory_events.json、trace.json.gz、snapshot.pickle。",
        ),
    )
