"""An estimate of given settings, and a plan: chosen settings with their estimate and reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from webui.core.request import Request
from webui.core.settings import Settings
from webui.core.text import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEstimate:
    """One phase: encode, denoise, decode (or load, where it peaks above what stays)."""

    name: str
    resident_bytes: int
    """Allocated when the phase starts."""
    activation_bytes: int
    """The phase's peak above that, streamed weights included."""
    allocated_bytes: int
    """Their sum, as `torch.cuda.max_memory_allocated` counts."""
    reserved_bytes: int
    """The allocator's peak in the phase, the cache having been emptied at its start."""
    seconds: float
    least_seconds: float
    """What it takes in any case: less than `seconds` where a run may leave work out, by what it
    finds."""

    def to_json(self) -> dict[str, Any]:
        """The contract's form; what it takes at least is part of the estimate's range."""
        return {key: getattr(self, key) for key in self.__slots__ if key != "least_seconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Memory and time of a request with complete settings on a card."""

    model: str
    card: str
    settings: Settings
    fits: bool
    phases: tuple[PhaseEstimate, ...]
    context_bytes: int
    """What the process holds outside the allocator (0 on a processor)."""
    margin_bytes: int
    """Free beside the peak for what the estimate does not see; less than the usual share where the
    allocator's cache fills some of it, which it gives back when needed."""
    limit_bytes: int
    """What the process may use in all."""
    host_bytes: int
    """Host memory at the peak."""
    disk_bytes: int = 0
    """Of the outputs' disk while it runs, beside what is made: gone when it ends."""
    seconds: float
    """The whole run, with the model loaded already."""
    seconds_range: tuple[float, float]
    """Low and high: narrower where this machine has run the model."""
    load_seconds: float
    """Loading the model, when it is not warm."""
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[Text, ...] = ()
    """What makes the estimate less sure: a card never measured, other versions, ..."""

    @property
    def peak_allocated_bytes(self) -> int:
        return max(phase.allocated_bytes for phase in self.phases)

    @property
    def peak_reserved_bytes(self) -> int:
        return max(phase.reserved_bytes for phase in self.phases)

    @property
    def peak_device_bytes(self) -> int:
        """What nvidia-smi shows for the process."""
        return self.peak_reserved_bytes + self.context_bytes

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "card": self.card,
            "settings": dict(self.settings),
            "fits": self.fits,
            "phases": [phase.to_json() for phase in self.phases],
            "peak_allocated_bytes": self.peak_allocated_bytes,
            "peak_reserved_bytes": self.peak_reserved_bytes,
            "peak_device_bytes": self.peak_device_bytes,
            "context_bytes": self.context_bytes,
            "margin_bytes": self.margin_bytes,
            "limit_bytes": self.limit_bytes,
            "host_bytes": self.host_bytes,
            "disk_bytes": self.disk_bytes,
            "seconds": self.seconds,
            "seconds_range": list(self.seconds_range),
            "load_seconds": self.load_seconds,
            "versions": dict(self.versions),
            "notes": [note.en for note in self.notes],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who chose the value of a setting, and why."""

    value: Any
    by_user: bool
    why: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A request near the asked one that would fit, offered and never taken unasked."""

    text: Text
    changes: dict[str, Any]
    """Request keys to change; `settings` is merged."""

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text.en, "changes": self.changes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer to a request: settings, estimate, reasons."""

    request: Request
    estimate: Estimate
    choices: dict[str, Choice]
    reasons: tuple[Text, ...]
    alternatives: tuple[Alternative, ...] = ()
    """The nearest that would fit; where it fits, what would be much faster."""

    @property
    def fits(self) -> bool:
        return self.estimate.fits

    @property
    def settings(self) -> Settings:
        return self.estimate.settings

    def to_json(self) -> dict[str, Any]:
        """The contract's form of `plan` and `estimate`."""
        return {
            **self.estimate.to_json(),
            "reasons": [reason.en for reason in self.reasons],
            "alternatives": [offer.to_json() for offer in self.alternatives],
        }
