"""Estimated beside measured: the figures of a receipt, and a table of many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.receipt import Receipt
from webui.core.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseAccuracy:
    """One phase of one receipt."""

    phase: str
    estimated_bytes: int
    measured_bytes: int
    estimated_reserved_bytes: int
    measured_reserved_bytes: int
    estimated_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Estimated over measured allocated bytes, less one."""
        return self.estimated_bytes / self.measured_bytes - 1 if self.measured_bytes else 0.0

    @property
    def reserved_error(self) -> float | None:
        """The same for reserved bytes; None on a processor."""
        if not self.measured_reserved_bytes:
            return None
        return self.estimated_reserved_bytes / self.measured_reserved_bytes - 1


def accuracy(receipt: Receipt) -> Iterator[PhaseAccuracy]:
    """The phases that were both estimated and measured."""
    planned: dict[str, Mapping[str, Any]] = {
        phase["name"]: phase for phase in receipt.plan.get("phases", ())
    }
    measured = receipt.measurement.phases if receipt.measurement else ()
    for phase in measured:
        if phase.name in planned:
            expected = planned[phase.name]
            yield PhaseAccuracy(
                phase=phase.name,
                estimated_bytes=expected["allocated_bytes"],
                measured_bytes=phase.allocated_bytes,
                estimated_reserved_bytes=expected["reserved_bytes"],
                measured_reserved_bytes=phase.reserved_bytes,
                estimated_s=expected["seconds"],
                measured_s=phase.seconds,
            )


def accuracy_table(receipts: Iterable[Receipt], totals: bool = True) -> str:
    """A table for a terminal.

    Args:
        receipts: the runs.
        totals: the mean and the worst error below.
    """
    lines = [
        f"{'request':<42} {'phase':<8} {'estimated':>10} {'measured':>10} {'error':>7} "
        f"{'reserved':>10} {'error':>7} {'est. s':>8} {'s':>8}"
    ]
    errors: list[float] = []
    reserved_errors: list[float] = []
    for receipt in receipts:
        name = _describe(receipt)
        if receipt.error is not None:
            lines.append(f"{name:<42} failed: {receipt.error['message']['en']}")
        for row in accuracy(receipt):
            reserved = row.reserved_error
            errors.append(row.error)
            if reserved is not None:
                reserved_errors.append(reserved)
            lines.append(
                f"{name:<42} {row.phase:<8} {format_bytes(row.estimated_bytes):>10} "
                f"{format_bytes(row.measured_bytes):>10} {row.error:>+7.2%} "
                + (
                    f"{format_bytes(row.measured_reserved_bytes):>10} {reserved:>+7.2%} "
                    if reserved is not None
                    else f"{'':>18} "
                )
                + f"{row.estimated_s:>8.2f} {row.measured_s:>8.2f}"
            )
    for label, values in (("allocated", errors), ("reserved", reserved_errors)):
        if values and totals:
            mean = sum(abs(value) for value in values) / len(values)
            worst = max(abs(value) for value in values)
            lines.append(f"{label}: {len(values)} phases, mean {mean:.2%}, worst {worst:.2%}")
    return "\n".join(lines)


def _describe(receipt: Receipt) -> str:
    request, settings = receipt.request, receipt.plan.get("settings", {})
    size = _size(request)
    batch = settings.get("page_batch", 1)
    size += f" b{batch}" if batch != 1 else ""
    cap = f" {request['vram_gib']:g}G" if request.get("vram_gib") else ""
    offload = settings.get("offload", "")
    return f"{request.get('model', '')} {size} {offload}{cap}"[:42]


def _size(request: Mapping[str, Any]) -> str:
    """The size of a recorded request's work, by the keys that its task has."""
    if "sequence_length" in request:
        rank = f" r{request['lora_rank']}" if request.get("lora_rank") else ""
        micro = f"{request['batch']}x{request['gradient_accumulation']}"
        return f"{micro}x{request['sequence_length']} {request['image_size']}px{rank}"
    if "frames" in request:
        size = "x".join(str(request.get(key)) for key in ("width", "height", "frames"))
        clips = int(request.get("batch", 1))
        return f"{clips} of {size}" if clips > 1 else size
    keys = ("width", "height") if "height" in request else ("batch", "prompt_tokens")
    size = "x".join(str(request.get(key)) for key in keys)
    return f"{size} +{request['new_tokens']}" if request.get("new_tokens") else size
