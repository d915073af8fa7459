"""The whole flow of one job, in one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from webui.core.documents import DocumentRequest
from webui.core.errors import Cancelled, StudioError, error_from_json
from webui.core.job import JobState
from webui.core.plan import Plan
from webui.core.receipt import Measurement, Receipt
from webui.core.request import Request
from webui.service.calibration import was_shared
from webui.service.page_work import PageWork
from webui.service.planner import Planner, does_not_fit
from webui.storage import JobRecord, Ledger, Outputs

EMBEDDINGS = "embeddings"
"""Folder beside the runs with prompts that were encoded before."""

OnEvent = Callable[[Mapping[str, Any]], None]


class Worker(Protocol):
    """What the flow needs of a worker process."""

    def run(self, job: Mapping[str, Any], on_event: OnEvent | None = None) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Studio:
    """What the flow works with."""

    planner: Planner
    ledger: Ledger
    outputs: Outputs
    forced: bool = False
    """Runs what does not fit too: a trial of the plan's own border."""


def run_job(
    studio: Studio,
    job: JobRecord,
    request: Request,
    worker: Callable[[Plan], Worker],
    weights: Mapping[str, str],
    on_plan: Callable[[Plan], None],
    on_event: OnEvent,
    others: Callable[[Plan], Sequence[Callable[[], Worker]]] = lambda _: (),
) -> Receipt:
    """Plan, run, measure, record.

    Args:
        studio: planner, ledger, outputs.
        job: as it was recorded.
        request: the job's request, parsed.
        worker: gives the worker for a plan (another allocator needs another process).
        weights: where the weights are.
        on_plan: told the plan before the run.
        on_event: told what the worker reports.
        others: gives workers on other devices, for work that comes in pieces.

    Returns:
        The receipt, of a failed or cancelled run too.
    """
    plan = studio.planner.plan(request)
    if not plan.fits and not studio.forced:  # something else took the memory while the job waited
        raise does_not_fit(plan)
    on_plan(plan)
    request = plan.request  # with the pixels that fit, where it asked for the most
    folder = studio.outputs.folder(job.folder)
    error: StudioError | None = None
    last: Mapping[str, Any] = {}
    try:
        last = _runner(request, folder, weights, lambda: worker(plan), lambda: others(plan)).run(
            {
                "id": job.id,
                "request": request.to_json(),
                "settings": dict(plan.settings),
                "weights": {**weights, "embeddings": str(studio.outputs.root / EMBEDDINGS)},
                "limit_bytes": studio.planner.hard_limit(request),
                "context_bytes": plan.estimate.context_bytes,
                "output_dir": str(folder),
                "preview": True,
            },
            on_event,
        )
        if last["event"] == "failed":
            error = error_from_json(last["error"])
    except StudioError as raised:
        error = raised
    measured = last.get("measurement")
    receipt = Receipt(
        id=job.id,
        request=request.to_json(),
        plan=plan.to_json(),
        measurement=Measurement.from_json(measured) if measured else None,
        outputs=tuple(f"outputs/{job.folder}/{name}" for name in last.get("outputs", ())),
        versions=dict(last.get("versions", {})),
        device=str(last.get("device", "")),
        created=job.created,
        error=error.to_json() if error else None,
    )
    if error is None:
        try:
            studio.outputs.finish(job.folder, receipt)
        except StudioError as raised:
            error = raised
            receipt = replace(receipt, error=error.to_json())
    base = studio.planner.estimate(
        request.with_changes(settings=dict(plan.settings)), calibrated=False
    )
    taught = receipt.measurement is not None and not was_shared(receipt.measurement)
    taught = taught and not last.get("partial")
    studio.ledger.finish(
        job.id,
        _state(error),
        receipt,
        error=error,
        base_seconds={
            phase.name: phase.seconds
            for phase in base.estimate.phases
            # Work that a run leaves out says nothing about the machine.
            if taught and phase.least_seconds == phase.seconds
        },
    )
    return receipt


def _runner(
    request: Request,
    folder: Path,
    weights: Mapping[str, str],
    worker: Callable[[], Worker],
    others: Callable[[], Sequence[Callable[[], Worker]]],
) -> Worker:
    """Who runs the job: a worker, or what hands pages to it."""
    if isinstance(request, DocumentRequest) and weights["kind"] != "random":
        return PageWork(request, folder, [worker, *others()])
    return worker()


def _state(error: StudioError | None) -> JobState:
    if error is None:
        return JobState.DONE
    return JobState.CANCELLED if isinstance(error, Cancelled) else JobState.FAILED
