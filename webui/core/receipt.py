"""A receipt: what was asked, what was estimated, what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from webui.core.text import EMPTY, Text
from webui.core.work import WorkRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMeasurement:
    """Peaks of one phase. On a processor `allocated_bytes` are live tensor bytes."""

    name: str
    resident_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    """0 on a processor: there is no caching allocator to ask."""
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PhaseMeasurement:
        return cls(**{key: data[key] for key in cls.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a run really took."""

    phases: tuple[PhaseMeasurement, ...]
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    peak_device_bytes: int
    """The process's use as the driver counts it; 0 on a processor."""
    host_bytes: int
    """Peak resident set of the worker."""
    seconds: float
    """The phases together, without loading."""
    load_seconds: float
    """0 when the model was warm."""
    source: str
    """`cuda` or `cpu` (live tensor bytes)."""
    others_bytes: int = 0
    """Most that other programs held of the card meanwhile, as the driver counts it."""
    found_bytes: int = 0
    """Allocated when the job came, the model before it dropped where it was another one."""
    left_bytes: int = 0
    """Allocated once it was over: what the warm model keeps on the device, and nothing else."""

    def to_json(self) -> dict[str, Any]:
        data = {key: getattr(self, key) for key in self.__slots__}
        data["phases"] = [phase.to_json() for phase in self.phases]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        newer = ("others_bytes", "found_bytes", "left_bytes")  # not in receipts of former versions
        values = {key: data[key] for key in cls.__slots__ if key in data or key not in newer}
        values["phases"] = tuple(PhaseMeasurement.from_json(item) for item in data["phases"])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """How things stood when a run ran out of memory."""

    phase: str
    """Of `webui.core.phases`, or `loading`."""
    in_use_bytes: int
    """What tensors took."""
    reserved_bytes: int
    """What the allocator held, its cache emptied in vain; 0 on a processor."""
    wanted_bytes: int
    """What was asked for and not there; 0 where the library does not tell."""
    limit_bytes: int | None
    """What the process could have had in all: the cap, or what other programs left of the device;
    None where neither is known."""
    on_host: bool = False
    """The machine's own memory ran out, beside a card that had room."""

    def to_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Shortage:
        return cls(**{key: data[key] for key in cls.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A run of a job that ran out of memory."""

    settings: dict[str, Any]
    error: dict[str, Any]
    """`StudioError.to_json` of what ended it."""
    shortage: Shortage
    measurement: Measurement | None
    phase: str
    """The phase of the estimate that has to need less: the one that failed, or the highest where
    loading did."""
    estimated_bytes: int
    """What tensors were expected to take in it."""
    short_bytes: int
    """By how much the estimate was too low, at least; 0 where there was only less room than the
    plan was told of."""
    changed: Text = EMPTY
    """What the next attempt does otherwise, and why; empty when there was none."""

    def to_json(self) -> dict[str, Any]:
        data = {key: getattr(self, key) for key in self.__slots__}
        data["shortage"] = self.shortage.to_json()
        data["measurement"] = self.measurement.to_json() if self.measurement else None
        data["changed"] = self.changed.to_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Attempt:
        values = {key: data[key] for key in cls.__slots__}
        measured = data["measurement"]
        values["shortage"] = Shortage.from_json(data["shortage"])
        values["measurement"] = Measurement.from_json(measured) if measured else None
        values["changed"] = Text.from_json(data["changed"])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The record of one run, as it goes into the ledger, the sidecar and the file's metadata."""

    id: str
    request: dict[str, Any]
    plan: dict[str, Any]
    measurement: Measurement | None
    outputs: tuple[str, ...]
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    created: str = ""
    """UTC, ISO 8601."""
    error: dict[str, Any] | None = None
    """`StudioError.to_json` of what ended it, or None."""
    attempts: tuple[Attempt, ...] = ()
    """Those that ran out of memory, in order; plan and measurement are of the last run."""
    work: WorkRecord | None = None
    """Who did what, where the run came in pieces: pages, segments."""

    def to_json(self) -> dict[str, Any]:
        data = {key: getattr(self, key) for key in self.__slots__}
        data["measurement"] = self.measurement.to_json() if self.measurement else None
        data["outputs"] = list(self.outputs)
        data["attempts"] = [attempt.to_json() for attempt in self.attempts]
        data["work"] = self.work.to_json() if self.work else None
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Receipt:
        values = {key: data[key] for key in cls.__slots__ if key in data}
        measured = data.get("measurement")
        values["measurement"] = Measurement.from_json(measured) if measured else None
        values["outputs"] = tuple(data.get("outputs", ()))
        work = data.get("work")
        values["work"] = WorkRecord.from_json(work) if work else None
        values["attempts"] = tuple(Attempt.from_json(item) for item in data.get("attempts", ()))
        return cls(**values)
