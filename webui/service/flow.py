"""The whole flow of one job, in one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from webui.core.documents import DocumentRequest
from webui.core.errors import Cancelled, StudioError, error_from_json
from webui.core.job import JobState
from webui.core.plan import Plan
from webui.core.receipt import Attempt, Measurement, Receipt
from webui.core.request import Request
from webui.core.upscale import UpscaleRequest
from webui.core.work import WorkRecord
from webui.service.attempts import attempt_of, nothing_left, plan_again
from webui.service.calibration import was_shared
from webui.service.inputs import check_disk
from webui.service.page_work import PagePieces
from webui.service.piece_work import PieceWork
from webui.service.pieces import OnEvent, Pieces, Worker
from webui.service.planner import Planner, does_not_fit
from webui.service.segment_work import SegmentPieces, segments_left
from webui.service.unexpected import as_studio_error
from webui.storage import JobRecord, Ledger, Outputs

EMBEDDINGS = "embeddings"
"""Folder beside the runs with prompts that were encoded before."""


class Runs(Protocol):
    """A worker, or what shares a job out to several."""

    def run(self, job: Mapping[str, Any], on_event: OnEvent | None = None) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Studio:
    """What the flow works with."""

    planner: Planner
    ledger: Ledger
    outputs: Outputs
    forced: bool = False
    """Runs what does not fit too: a trial of the plan's own border."""
    retries: Callable[[], int] = lambda: 0
    """How often a job that ran out of memory is planned anew, asked at the time."""
    count_held: bool = False
    """Measures on a processor too what a run found and left in memory."""
    closing: Event = field(default_factory=Event)
    """Set when the studio ends."""


def run_job(
    studio: Studio,
    job: JobRecord,
    request: Request,
    worker: Callable[[Plan], Worker],
    weights: Mapping[str, str],
    on_plan: Callable[[Plan, int], None],
    on_event: OnEvent,
    profile: Mapping[str, Any] | None = None,
    others: Callable[[Plan], Sequence[Callable[[], Worker]]] = lambda _: (),
) -> Receipt:
    """Plan, run, measure, record; after running out of memory a step down, and again.

    Args:
        studio: planner, ledger, outputs.
        job: as it was recorded.
        request: the job's request, parsed.
        worker: gives the worker for a plan (another allocator needs another process).
        weights: where the weights are.
        on_plan: told the plan before each run, and how many ran out of memory before.
        on_event: told what the worker reports.
        profile: what the worker records besides (webui/worker/profiling.py), or None.
        others: gives workers on other devices, for work that comes in pieces.

    Returns:
        The receipt, of a failed or cancelled run too.
    """
    plan = studio.planner.plan(request)
    if not plan.fits and not studio.forced:  # something else took the memory while the job waited
        raise does_not_fit(plan)
    request = plan.request  # with the pixels that fit, where it asked for the most
    attempts: list[Attempt] = []
    while True:
        on_plan(plan, len(attempts))
        # A row of a profile that runs out is a result.
        retries = studio.retries() if profile is None else 0
        may_retry = len(attempts) < retries
        last, error = _run(
            studio, job, request, worker, plan, weights, on_event, profile, others, may_retry
        )
        try:
            failed = attempt_of(studio.planner, request, plan, last, error)
            if failed is None:
                break
            attempts.append(failed)
            if len(attempts) > retries or failed.shortage.on_host:
                break
            following = plan_again(studio.planner, request, attempts)
        except Exception as raised:  # the attempts are recorded all the same
            error = as_studio_error(raised)
            break
        if not following.fits:
            error = nothing_left(error or error_from_json(failed.error), following)
            break
        plan, attempts[-1] = following, replace(failed, changed=following.reasons[0])
    receipt = _receipt(job, request, plan, last, error, attempts)
    if error is None:
        try:
            studio.outputs.finish(job.folder, receipt)
        except StudioError as raised:
            error = raised
            receipt = replace(receipt, error=error.to_json())
    measured = receipt.measurement
    taught = error is None and measured is not None and not was_shared(measured)
    # Recording takes time that no other run takes, and a profile throws away what warms up.
    taught = taught and profile is None
    taught = taught and not last.get("partial")
    studio.ledger.finish(
        job.id,
        _state(error),
        receipt,
        error=error,
        base_seconds=_base_seconds(studio.planner, request, plan) if taught else {},
    )
    return receipt


def _base_seconds(planner: Planner, request: Request, plan: Plan) -> dict[str, float]:
    """What a run's seconds are compared with, by phase."""
    settings = dict(plan.settings)
    base = planner.estimate(request.with_changes(settings=settings), calibrated=False)
    return {
        phase.name: phase.seconds
        for phase in base.estimate.phases
        # Work that a run leaves out says nothing about the machine.
        if phase.least_seconds == phase.seconds
    }


def _run(
    studio: Studio,
    job: JobRecord,
    request: Request,
    worker: Callable[[Plan], Worker],
    plan: Plan,
    weights: Mapping[str, str],
    on_event: OnEvent,
    profile: Mapping[str, Any] | None,
    others: Callable[[Plan], Sequence[Callable[[], Worker]]],
    may_retry: bool,
) -> tuple[Mapping[str, Any], StudioError | None]:
    """One run of a plan: the worker's last event, and what ended it."""
    folder = studio.outputs.folder(job.folder)
    try:
        if plan.estimate.disk_bytes:  # others may have filled the disk while the job waited
            check_disk(studio.outputs, request, plan, segments_left(folder))
        last = _runner(
            studio, request, folder, weights, lambda: worker(plan), lambda: others(plan), may_retry
        ).run(
            {
                "id": job.id,
                "request": request.to_json(),
                "settings": dict(plan.settings),
                "weights": {**weights, "embeddings": str(studio.outputs.root / EMBEDDINGS)},
                "limit_bytes": studio.planner.hard_limit(request),
                "context_bytes": plan.estimate.context_bytes,
                "output_dir": str(folder),
                "preview": profile is None,
                # Profiles show what a change of models leaves.
                "count_held": studio.count_held or profile is not None,
                "clear_cache": studio.planner.policy.clear_cache_after_generation,
                **({"fresh": True, "profile": dict(profile)} if profile is not None else {}),
            },
            on_event,
        )
    except StudioError as raised:
        return {}, raised
    return last, error_from_json(last["error"]) if last["event"] == "failed" else None


def _receipt(
    job: JobRecord,
    request: Request,
    plan: Plan,
    last: Mapping[str, Any],
    error: StudioError | None,
    attempts: Sequence[Attempt],
) -> Receipt:
    measured, work = last.get("measurement"), last.get("work")
    return Receipt(
        id=job.id,
        request=request.to_json(),
        plan=plan.to_json(),
        measurement=Measurement.from_json(measured) if measured else None,
        outputs=tuple(f"outputs/{job.folder}/{name}" for name in last.get("outputs", ())),
        versions=dict(last.get("versions", {})),
        device=str(last.get("device", "")),
        created=job.created,
        error=error.to_json() if error else None,
        attempts=tuple(attempts),
        work=WorkRecord.from_json(work) if work else None,
    )


def _runner(
    studio: Studio,
    request: Request,
    folder: Path,
    weights: Mapping[str, str],
    worker: Callable[[], Worker],
    others: Callable[[], Sequence[Callable[[], Worker]]],
    may_retry: bool,
) -> Runs:
    """Who runs the job: a worker, or what hands its pieces to several."""
    filmed = isinstance(request, UpscaleRequest) and request.input
    if weights.get("kind") == "random" and not filmed:
        return worker()
    pieces: Pieces | None = None
    also = others()
    if isinstance(request, DocumentRequest):
        pieces = PagePieces(request, folder)
    elif isinstance(request, UpscaleRequest):
        pieces = SegmentPieces(request, folder, 1 + len(also), studio.closing)
    if pieces is None:
        return worker()
    return PieceWork(pieces, [worker, *also], studio.closing, again_after_shortage=may_retry)


def _state(error: StudioError | None) -> JobState:
    if error is None:
        return JobState.DONE
    return JobState.CANCELLED if isinstance(error, Cancelled) else JobState.FAILED
