"""A receipt: what was asked, what was estimated, what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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

    def to_json(self) -> dict[str, Any]:
        data = {key: getattr(self, key) for key in self.__slots__}
        data["phases"] = [phase.to_json() for phase in self.phases]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        # Receipts of former versions have no `others_bytes`.
        values = {key: data[key] for key in cls.__slots__ if key in data or key != "others_bytes"}
        values["phases"] = tuple(PhaseMeasurement.from_json(item) for item in data["phases"])
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

    def to_json(self) -> dict[str, Any]:
        data = {key: getattr(self, key) for key in self.__slots__}
        data["measurement"] = self.measurement.to_json() if self.measurement else None
        data["outputs"] = list(self.outputs)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Receipt:
        values = {key: data[key] for key in cls.__slots__ if key in data}
        measured = data.get("measurement")
        values["measurement"] = Measurement.from_json(measured) if measured else None
        values["outputs"] = tuple(data.get("outputs", ()))
        return cls(**values)
