"""The queue: one job at a time on one worker, in the order of submission."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from webui.client import WorkerProcess
from webui.core.errors import Cancelled, StudioError, WorkerLost
from webui.core.job import JobState
from webui.core.pages import PageRequest
from webui.core.plan import Plan
from webui.core.receipt import Receipt
from webui.core.request import Request
from webui.core.text import EMPTY, Text
from webui.core.upscale import UpscaleRequest
from webui.hardware.readings import other_devices
from webui.service import flow
from webui.service.progress import Progress
from webui.service.unexpected import as_studio_error
from webui.storage import JobRecord

LOADING_S = 1.0
"""Going on with a warm model."""
CLOSE_S = 10.0
"""How long closing waits for the running job's last words."""


@dataclass(slots=True)
class _Job:
    record: JobRecord
    request: Request
    weights: Mapping[str, str]
    profile: Mapping[str, Any] | None = None
    cancelled: bool = False
    ended: bool = False
    """Its worker was ended on purpose, and is not started again for it."""
    progress: Progress = field(default_factory=lambda: Progress({}))
    plan: Plan | None = None
    """What it runs with; None before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """The running job, for whoever watches it."""

    job_id: str
    plan: Plan | None
    """None until it is planned."""
    progress: Progress


class JobQueue:
    """Runs jobs on a thread of its own. The worker is started for the first one and stays.

    Args:
        studio: planner, ledger and outputs.
        log_path: where the worker writes its log.
        device: CUDA_VISIBLE_DEVICES for the worker, `cpu`, or None.
    """

    def __init__(self, studio: flow.Studio, log_path: Path, device: str | None = None) -> None:
        self._studio = studio
        self._log_path = log_path
        self._device = device
        self._waiting: deque[_Job] = deque()
        self._running: _Job | None = None
        self._worker: WorkerProcess | None = None
        self._others: dict[str, WorkerProcess] = {}
        """By their device; they live as long as the job that is shared."""
        self._changed = threading.Condition()
        self._closing = False
        self._unwritten: dict[str, StudioError] = {}
        self._thread: threading.Thread | None = None

    @property
    def worker_pid(self) -> int | None:
        worker = self._worker
        return worker.pid if worker is not None and worker.alive else None

    @property
    def worker_ready(self) -> dict[str, Any] | None:
        worker = self._worker
        return worker.ready if worker is not None and worker.alive else None

    def add(
        self,
        record: JobRecord,
        request: Request,
        weights: Mapping[str, str],
        profile: Mapping[str, Any] | None = None,
    ) -> None:
        """Queues a recorded job; with `profile`, it is recorded as that says."""
        with self._changed:
            self._waiting.append(_Job(record, request, weights, profile))
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="job queue", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def place(self, job_id: str) -> int:
        """Jobs ahead of a waiting one; 0 for any other."""
        with self._changed:
            for index, job in enumerate(self._waiting):
                if job.record.id == job_id:
                    return index + (self._running is not None)
        return 0

    def progress(self, job_id: str) -> Progress | None:
        """How far the job is, if it is the running one."""
        running = self._running
        return running.progress if running is not None and running.record.id == job_id else None

    def underway(self) -> Underway | None:
        """The running job, if there is one."""
        job = self._running
        if job is None:
            return None
        return Underway(job_id=job.record.id, plan=job.plan, progress=job.progress)

    def unwritten(self, job_id: str) -> StudioError | None:
        """Why the end of a job could not be written into the ledger, or None."""
        return self._unwritten.get(job_id)

    def cancel(self, job_id: str) -> bool:
        """Stops a waiting or running job; False when it is neither."""
        with self._changed:
            for job in self._waiting:
                if job.record.id == job_id:
                    self._waiting.remove(job)
                    self._studio.ledger.set_state(job_id, JobState.CANCELLED, Cancelled())
                    self._changed.notify_all()
                    return True
            running = self._running
            if running is None or running.record.id != job_id:
                return False
            running.cancelled = True
            worker = self._worker
        for one in (worker, *self._others.values()):
            if one is not None:
                one.cancel(job_id)
        return True

    def wait(self, timeout_s: float) -> None:
        """Waits for a change of any job, at most so long."""
        with self._changed:
            self._changed.wait(timeout_s)

    def unload(self) -> int | None:
        """Drops the loaded model.

        Returns:
            What tensors still take on the device; None while a job runs.
        """
        with self._changed:
            if self._running is not None:
                return None
            worker = self._worker
        # A job may begin from here on: then the worker is not to be had, which is not waited for.
        if worker is None or not worker.alive:
            return 0
        return worker.unload(self._studio.count_held)

    def empty_cache(self) -> int | None:
        """Has the worker's allocator give back what nothing uses.

        Returns:
            How many bytes that were; None while a job runs.
        """
        with self._changed:
            if self._running is not None:
                return None
            worker = self._worker
        return worker.empty_cache() if worker is not None and worker.alive else 0

    def end_worker(self) -> None:
        """Ends the worker process: a running job fails, all device memory is given back."""
        with self._changed:
            if self._running is not None:
                self._running.ended = True
        for worker in (self._worker, *self._others.values()):
            if worker is not None:
                worker.kill()

    def close(self) -> None:
        """Ends the thread and the worker; a running job is marked as interrupted."""
        with self._changed:
            self._closing = True
            self._studio.closing.set()
            self._changed.notify_all()
        if self._worker is not None and self._running is None:
            self._worker.close()
        deadline = time.monotonic() + CLOSE_S
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < deadline:
            # Again and again: the worker may be about to be started.
            if self._worker is not None and self._running is not None:
                self._worker.kill()
            self._end_others()
            self._thread.join(0.1)
        self._end_others()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                job = self._running = self._waiting.popleft()
                self._changed.notify_all()
            try:
                self._run(job)
            except Exception as error:
                self._fail(job, as_studio_error(error))
            with self._changed:
                self._running = None
                self._changed.notify_all()

    def _run(self, job: _Job) -> None:
        self._studio.ledger.set_state(job.record.id, JobState.RUNNING)
        try:
            flow.run_job(
                self._studio,
                job.record,
                job.request,
                lambda plan: _Cancellable(job, self._worker_for(plan, job)),
                job.weights,
                lambda plan, attempt: self._expect(job, plan, attempt),
                lambda event: self._hear(job, event),
                job.profile,
                lambda plan: self._helpers(plan, job),
            )
        finally:
            self._close_others()
            if self._closing and not self._ended(job):
                self._studio.ledger.set_state(
                    job.record.id,
                    JobState.INTERRUPTED,
                    Cancelled(Text("The studio was ended.", "工作室已关闭。")),
                )

    def _ended(self, job: _Job) -> bool:
        """Whether the job came to its own end, just before the studio was closed."""
        state = self._studio.ledger.get(job.record.id).state
        return state in (JobState.DONE, JobState.CANCELLED)

    def _fail(self, job: _Job, error: StudioError) -> None:
        state = JobState.CANCELLED if isinstance(error, Cancelled) else JobState.FAILED
        receipt = Receipt(
            id=job.record.id,
            request=job.request.to_json(),
            plan=job.record.plan or {},
            measurement=None,
            outputs=(),
            created=job.record.created,
            error=error.to_json(),
        )
        try:
            self._studio.ledger.finish(job.record.id, state, receipt, error=error)
        except StudioError as not_written:
            # The disk is full, say: whoever watches must still see the job end.
            traceback.print_exc()
            self._unwritten[job.record.id] = not_written

    def _expect(self, job: _Job, plan: Plan, failed: int) -> None:
        """A run begins, after so many that ran out of memory."""
        seconds = {phase.name: phase.seconds for phase in plan.estimate.phases}
        loading = LOADING_S if self.worker_pid else plan.estimate.load_seconds
        with self._changed:
            job.plan = plan
            job.progress = Progress({"loading": loading, **seconds})
            job.progress.attempt = 1 + failed
            job.progress.attempts = 1 + max(failed, self._studio.retries())
            job.progress.changed = plan.reasons[0] if failed else EMPTY
            self._changed.notify_all()

    def _hear(self, job: _Job, event: Mapping[str, Any]) -> None:
        with self._changed:
            job.progress.hear(event)
            self._changed.notify_all()

    def _worker_for(self, plan: Plan, job: _Job) -> WorkerProcess:
        """The worker with the plan's allocator; another one if it is not there or not alive."""
        worker = self._worker
        # To whom the allocator is nothing, any worker's is right.
        usual = worker.allocator if worker is not None else "expandable"
        allocator = str(plan.settings.get("allocator", usual))
        device = "cpu" if self._studio.planner.runs_on_processor(job.request) else self._device
        fits = worker is not None and worker.allocator == allocator and worker.device == device
        if worker is None or not fits:
            if worker is not None:
                worker.close()
            worker = self._worker = WorkerProcess(
                self._log_path, allocator=allocator, device=device
            )
        self._check_wanted(job)
        ready = worker.start()
        self._studio.planner.versions = ready["versions"]
        self._studio.planner.device = ready["device"]
        return worker

    def _check_wanted(self, job: _Job) -> None:
        """Refuses a worker that nobody wants any more.

        Raises:
            WorkerLost: the studio is closing, or its owner has ended the job's worker.
        """
        if self._closing:  # `close` came before there was a worker to end
            raise WorkerLost(Text("The studio was ended.", "工作室已关闭。"))
        if job.ended:
            raise WorkerLost(
                Text("The worker process was ended by the owner.", "工作进程已被所有者结束。")
            )

    def _helpers(self, plan: Plan, job: _Job) -> list[Callable[[], _Cancellable]]:
        """Workers on the other GPUs, for a document or a video that is long enough to share."""
        request = plan.request
        if self._studio.planner.runs_on_processor(job.request):
            return []
        needed_bytes = plan.estimate.peak_device_bytes + plan.estimate.margin_bytes
        if isinstance(request, PageRequest) and request.repeats > 1:
            devices = other_devices(needed_bytes)[: request.repeats - 1]
        elif isinstance(request, UpscaleRequest):
            devices = other_devices(needed_bytes, alike=False)[: int(plan.settings["gpus"]) - 1]
        else:
            devices = []
        allocator = str(plan.settings["allocator"])
        return [partial(self._helper, device, allocator, job) for device in devices]

    def _helper(self, device: str, allocator: str, job: _Job) -> _Cancellable:
        """The worker on another GPU, started anew when it was lost."""
        self._check_wanted(job)
        worker = self._others.get(device)
        if worker is None or worker.allocator != allocator:
            if worker is not None:
                worker.close()
            log = self._log_path.with_name(f"{self._log_path.stem}-{device}.log")
            worker = self._others[device] = WorkerProcess(log, allocator=allocator, device=device)
        worker.start()
        return _Cancellable(job, worker)

    def _close_others(self) -> None:
        """Ends the workers on other GPUs, which would keep their memory for no job."""
        for worker in self._others.values():
            worker.close()
        self._others = {}  # not emptied: a cancel may be going through the old one

    def _end_others(self) -> None:
        for worker in self._others.values():
            worker.kill()


class _Cancellable:
    """A worker that is not even asked when the job was cancelled while it started."""

    def __init__(self, job: _Job, worker: WorkerProcess) -> None:
        self._job = job
        self._worker = worker

    def run(
        self, job: Mapping[str, Any], on_event: Callable[[Mapping[str, Any]], None] | None = None
    ) -> Mapping[str, Any]:
        if self._job.cancelled:
            raise Cancelled()
        return self._worker.run(job, on_event)

    def send(self, command: Mapping[str, Any]) -> None:
        self._worker.send(command)
