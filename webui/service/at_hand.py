"""The job that a visitor's dashboard is about: the running one, else the newest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.errors import NotFound
from webui.core.job import JobState
from webui.core.receipt import Measurement
from webui.service.queue import JobQueue, Underway
from webui.service.runs import Runs
from webui.service.trace import MemorySample
from webui.storage import JobRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRow:
    """One phase: what was planned, and what was seen of it."""

    name: str
    estimated_s: float
    estimated_allocated_bytes: int
    estimated_reserved_bytes: int
    measured_s: float | None
    """None before it begins; so far, while it runs."""
    measured_allocated_bytes: int | None
    """Its peak; None where nothing was told."""
    measured_reserved_bytes: int | None
    """The same; None on a processor, which has no allocator to ask."""
    running: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAtHand:
    """A job with its phases, estimated and measured."""

    id: str
    state: JobState
    request: Mapping[str, Any]
    plan: Mapping[str, Any]
    """The contract's form; empty where nothing was planned."""
    phases: tuple[PhaseRow, ...]
    samples: tuple[MemorySample, ...]
    """Allocated against reserved over time, while it runs."""
    loading_s: float | None
    """Loading the model took so long; None where it was warm, or has not begun."""

    @property
    def settings(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.plan.get("settings", {})
        return found


def find_job_at_hand(queue: JobQueue, runs: Runs, visitor: str) -> JobAtHand | None:
    """The visitor's running job, else their newest one, else None."""
    underway = queue.underway()
    if underway is not None:
        try:
            return _running(runs.record(underway.job_id, visitor), underway)
        except NotFound:  # somebody else's
            pass
    newest = runs.records(visitor, 1)
    return _recorded(newest[0]) if newest else None


def _running(job: JobRecord, underway: Underway) -> JobAtHand:
    plan = underway.plan.to_json() if underway.plan is not None else job.plan or {}
    trace = underway.progress.trace
    seen = trace.phases()
    rows = []
    for phase in plan.get("phases", ()):
        found = seen.get(phase["name"])
        rows.append(
            _row(
                phase,
                found.seconds if found else None,
                (found.allocated_bytes or None) if found else None,
                (found.reserved_bytes or None) if found else None,
                running=trace.phase == phase["name"],
            )
        )
    loading = seen.get("loading")
    return JobAtHand(
        id=job.id,
        state=JobState.RUNNING,
        request=job.request,
        plan=plan,
        phases=tuple(rows),
        samples=trace.samples(),
        loading_s=loading.seconds if loading else None,
    )


def _recorded(job: JobRecord) -> JobAtHand:
    receipt = job.receipt
    plan = (receipt.plan if receipt and receipt.plan.get("phases") else job.plan) or {}
    measured: Measurement | None = receipt.measurement if receipt else None
    seen = {phase.name: phase for phase in measured.phases} if measured else {}
    rows = []
    for phase in plan.get("phases", ()):
        found = seen.get(phase["name"])
        rows.append(
            _row(
                phase,
                found.seconds if found else None,
                found.allocated_bytes if found else None,
                (found.reserved_bytes or None) if found else None,
            )
        )
    return JobAtHand(
        id=job.id,
        state=job.state,
        request=job.request,
        plan=plan,
        phases=tuple(rows),
        samples=(),
        loading_s=(measured.load_seconds or None) if measured else None,
    )


def _row(
    phase: Mapping[str, Any],
    seconds: float | None,
    allocated: int | None,
    reserved: int | None,
    running: bool = False,
) -> PhaseRow:
    return PhaseRow(
        name=str(phase["name"]),
        estimated_s=float(phase["seconds"]),
        estimated_allocated_bytes=int(phase["allocated_bytes"]),
        estimated_reserved_bytes=int(phase["reserved_bytes"]),
        measured_s=seconds,
        measured_allocated_bytes=allocated,
        measured_reserved_bytes=reserved,
        running=running,
    )
