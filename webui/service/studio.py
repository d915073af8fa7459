"""The studio: what the page, the API and the command line may ask for."""

from __future__ import annotations

import os
import random
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from webui.catalogue import find_model, load_models
from webui.core.card import Card
from webui.core.errors import MissingWeights, NotAllowed, StudioError
from webui.core.job import JobState, JobView
from webui.core.model import ModelCard
from webui.core.parse import parse_request
from webui.core.plan import Plan
from webui.core.request import MAX_SEED, Request
from webui.core.text import Text
from webui.estimator.verified import VerifiedRun, verified_runs
from webui.hardware import detected_card, load_cards, read_devices, read_host
from webui.service import flow
from webui.service.access import Access
from webui.service.compare import Comparisons
from webui.service.dashboard import Dashboard
from webui.service.documents import Documents
from webui.service.downloads import Downloads
from webui.service.editing import Editor
from webui.service.inputs import check_disk, read_inputs, require_inputs, store_inputs
from webui.service.limits import check_card, check_queue, check_size
from webui.service.planner import Planner, does_not_fit
from webui.service.profile import Profiler
from webui.service.questions import Questions
from webui.service.queue import JobQueue
from webui.service.retrace import Retracer
from webui.service.runs import Runs, RunSummary
from webui.service.trials import Trial, make_trials
from webui.service.videos import Videos
from webui.storage import (
    JobRecord,
    Ledger,
    Limits,
    Outputs,
    Presence,
    Presets,
    StudioConfig,
    WeightsSource,
    find_weights,
    load_config,
    missing_weights,
)

IN_PIECES = ("parse", "upscale")
"""Tasks whose runs go on where they were when the studio ended."""
_RANDOM_WEIGHTS = {"kind": "random", "folder": ""}


class Studio:
    """One studio on one home folder: its ledger, outputs, presets and worker.

    Args:
        home: folder with `outputs/`, `presets/` and `studio.yaml`.
        access: who may do what.
        config: the owner's configuration; read from the home folder when left out.
        random_weights: run with random weights at full size (`verify`): true memory, no picture.
        forced: run what does not fit too, to see it run out (trials of `verify`).
        retries: how often a job that ran out of memory is planned anew; the configuration's figure
            when left out.
        count_held: measure on a processor too what runs leave in memory (`soak`).
        resume: go on with what a former start left in the queue.

    Raises:
        StudioError: the ledger or the configuration cannot be read.
    """

    def __init__(
        self,
        home: Path,
        *,
        access: Access,
        config: StudioConfig | None = None,
        random_weights: bool = False,
        forced: bool = False,
        retries: int | None = None,
        count_held: bool = False,
        resume: bool = True,
    ) -> None:
        self.home = home
        self.access = access
        self.config = config or load_config(home, model_names=load_models())
        self.presets = Presets(home / "presets")
        self._random_weights = random_weights
        self._forced = forced
        self._retries = lambda: (
            self.config.memory.retries_after_out_of_memory if retries is None else retries
        )
        self._outputs = Outputs(home / "outputs")
        self._presence = Presence(home / "outputs")
        self._ledger = Ledger(home / "outputs" / "ledger.sqlite", self._presence.name)
        if self._ledger.notice is not None:
            print(self._ledger.notice.en, file=sys.stderr)
        self._runs = Runs(self._ledger, self._outputs, access, self._presence.is_alive)
        self._planner = Planner(self._ledger, lambda: self.config)
        self.questions = Questions(self._planner)
        self.comparisons = Comparisons(self.run)
        self._queue = JobQueue(
            flow.Studio(
                self._planner, self._ledger, self._outputs, forced, self._retries, count_held
            ),
            home / "outputs" / "worker.log",
            device="cpu" if os.environ.get("STUDIO_DEVICE") == "cpu" else None,
        )
        self.dashboard = Dashboard(
            home, access, lambda: self.config, self._planner, self._queue, self._runs
        )
        self._retracer = Retracer(home / "outputs" / "templates", traces=resume)
        self._planner.worker_pid = lambda: self._queue.worker_pid
        self._planner.check_templates = self._retracer.check
        self.editor = Editor(home, access, self.presets, self._planner, self.apply_config)
        self.downloads = Downloads(lambda: self.config)
        self.documents = Documents(self._runs, self._ledger, self._outputs, self._again)
        self.videos = Videos(self._runs, self._outputs, self._again)
        self._recording = threading.Lock()
        self.profiler = Profiler(self)
        if resume:
            self._requeue()

    def apply_config(self, config: StudioConfig) -> None:
        """Takes the owner's new choices at once; folders of the command line stay."""
        self.config = config.with_models(self.config.given_models)

    def models(self) -> tuple[ModelCard, ...]:
        return tuple(load_models().values())

    def cards(self) -> tuple[Card, ...]:
        """The catalogue of cards, without the detected one."""
        return tuple(load_cards().values())

    def verified(self) -> list[VerifiedRun]:
        """Plans that ran at full size under a cap."""
        return verified_runs()

    def detected(self) -> Card:
        return detected_card()

    def parse(self, data: Mapping[str, Any]) -> Request:
        """Checks a request.

        Raises:
            BadInput: names the first wrong field.
        """
        return parse_request(data, find_model)

    def plan(self, request: Request, names: bool = False) -> Plan:
        """The best settings for what is open; not fitting is an answer too.

        Args:
            request: the workload and fixed settings.
            names: the owner asks: the plan may name other programs on the card.
        """
        return self._planner.plan(request, names)

    def estimate(self, request: Request) -> Plan:
        """The named settings, `estimate`'s defaults for the others."""
        return self._planner.estimate(request)

    def trials(self, kind: str, request: Request, group: int) -> list[Trial]:
        """The runs that try a request's plan (`webui.service.trials`).

        Raises:
            BadInput: nothing fits, or the card is not here.
        """
        self._planner.check_runs_here(request)
        return make_trials(kind, request, group, self._planner.target)

    def _weights_for(self, request: Request, visitor: str) -> dict[str, str]:
        """The weights; who does not own the machine is not told where it keeps them."""
        try:
            return self._weights(request)
        except MissingWeights:
            if self.access.is_owner(visitor):
                raise
            raise MissingWeights(
                Text(
                    "The weights of this model are not on this machine.",
                    "本机没有这个模型的权重。",
                ),
                Text(
                    "Only the owner can add them. Plans and estimates work without them.",
                    "只有所有者可以添加。没有权重也可以规划和估算。",
                ),
                "model",
            ) from None

    def submit(self, request: Request, owner: str, profile: Mapping[str, Any] | None = None) -> str:
        """Records a job and queues it.

        Args:
            request: what to run; a seed of -1 is drawn here.
            owner: whose it is.
            profile: what is recorded besides (`webui.service.profile`).

        Returns:
            The job's id.

        Raises:
            BadInput: no prompt or picture where one is needed, no text encoder, a task that only
                estimates know, or a card that is not here.
            DoesNotFit: nothing fits; the hint has the nearest that would.
            MissingWeights: the model is not on this machine.
            NotEnoughDisk: no room for the output.
            NotAllowed: a visitor's limits.
        """
        random_weights = self._random_weights or bool((profile or {}).get("random_weights"))
        if not random_weights:
            require_inputs(request, find_model(request.model, request.task))
        self._planner.check_runs_here(request)
        limits = None if self.access.is_owner(owner) else self.config.limits
        if limits is not None:
            check_queue(owner, limits, self._ledger)  # before files are opened
            check_size(request, limits)
            check_card(self._planner.runs_on_processor(request), self.detected())
        pictures = read_inputs(request)
        if not self._random_weights:
            request = self.documents.look(request, owner, limits)
        request = self.videos.counted(request, limits, owner)
        plan = self._planner.plan(request)
        if not plan.fits and not self._forced:
            raise does_not_fit(plan)
        weights = _RANDOM_WEIGHTS if random_weights else self._weights_for(request, owner)
        check_disk(self._outputs, request, plan)
        if request.seed < 0:
            request = request.with_changes(seed=random.SystemRandom().randint(0, MAX_SEED))
        job_id = secrets.token_hex(6)
        with self._recording:  # or two requests at once would both find the last place free
            check_queue(owner, limits, self._ledger)
            new = self._outputs.new_folder(job_id)
            request = store_inputs(request, pictures, new)
            given = (request.to_json(), plan.to_json(), new.name)
            record = self._ledger.record(job_id, owner, *given, profiled=profile is not None)
        self._queue.add(record, request, weights, profile)
        return job_id

    def view(self, job_id: str, owner: str) -> JobView:
        """How a job stands now.

        Raises:
            NotFound: the visitor has no such job.
        """
        record = self._runs.record(job_id, owner)
        unwritten = self._queue.unwritten(job_id)
        if unwritten is not None:
            record = replace(record, state=JobState.FAILED, error=unwritten)
        progress = self._queue.progress(job_id) if record.state is JobState.RUNNING else None
        shown = progress.shown() if progress else {"fraction": float(record.state is JobState.DONE)}
        return JobView(
            id=job_id,
            state=record.state,
            place=self._queue.place(job_id),
            receipt=record.receipt,
            error=record.error,
            worker_pid=self._queue.worker_pid,
            request=record.request,
            input_name=self._runs.input_name(record),
            **shown,
        )

    def watch(self, job_id: str, owner: str, interval_s: float = 0.25) -> Iterator[JobView]:
        """Snapshots of a job until it has ended, the last one included."""
        while True:
            view = self.view(job_id, owner)
            yield view
            if view.state.final:
                return
            self._queue.wait(interval_s)

    def cancel(self, job_id: str, owner: str) -> None:
        """Asks a job to stop; one that has ended stays as it is.

        Raises:
            NotFound: the visitor has no such job.
        """
        self._runs.record(job_id, owner)
        self._queue.cancel(job_id)

    def live(self, owner: str, limit: int = 50, task: str = "") -> list[JobView]:
        """The visitor's jobs that run or wait, of a task or of all, the oldest first."""
        return [self.view(job.id, owner) for job in self._runs.live(owner, limit, task)]

    def runs(
        self, owner: str, limit: int = 50, task: str = "", ended: bool = False
    ) -> list[RunSummary]:
        """The visitor's runs, newest first: of a task or of all, `ended` ones or all."""
        return self._runs.of(owner, limit, task, ended)

    def run(self, run_id: str, owner: str) -> RunSummary:
        """One of the visitor's runs.

        Raises:
            NotFound: the visitor has no such run.
        """
        return self._runs.summary(self._runs.record(run_id, owner))

    def delete(self, run_id: str, owner: str) -> None:
        """Removes a run with its files; one that waits is taken out of the queue.

        Raises:
            NotFound: the visitor has no such run.
            NotAllowed: it is still running.
        """
        record = self._runs.record(run_id, owner)
        if record.state is JobState.RUNNING:
            raise NotAllowed(
                Text("The run is still going.", "任务仍在运行。"),
                Text("Cancel it first.", "请先取消。"),
            )
        self._queue.cancel(run_id)
        self._outputs.delete(record.folder)
        self._ledger.delete(run_id)

    def devices(self) -> dict[str, Any]:
        """The card, live readings, and the worker, for the API."""
        ready = self._queue.worker_ready
        return {
            "card": self.detected().to_json(),
            "readings": [reading.to_json(processes=True) for reading in read_devices()],
            "host": read_host().to_json(),
            "worker": {"pid": self._queue.worker_pid, "device": ready["device"]} if ready else None,
        }

    def unload(self) -> int:
        """Drops the loaded model; returns what tensors still take on the device.

        Raises:
            NotAllowed: a job is running.
        """
        held_bytes = self._queue.unload()
        if held_bytes is None:
            raise NotAllowed(
                Text("A job is running.", "有任务正在运行。"),
                Text("Wait for it, or cancel it.", "请等待或取消它。"),
            )
        return held_bytes

    def end_worker(self) -> None:
        """Ends the worker process; the next job gets a new one."""
        self._queue.end_worker()

    def close(self) -> None:
        """Ends the worker and the downloads; queued jobs wait for the next start."""
        self.downloads.close()
        self.dashboard.close()
        self._retracer.close()
        self._queue.close()
        self._ledger.close()
        self._presence.close()

    def _weights(self, request: Request) -> dict[str, str]:
        if self._random_weights:
            return dict(_RANDOM_WEIGHTS)
        card = find_model(request.model, request.task)
        source: WeightsSource | None = find_weights(card, self.config)
        if source is None:
            raise missing_weights(card, self.config)
        return source.to_json()

    def _again(
        self, job: JobRecord, limits: Limits | None = None, then: Callable[[], None] = lambda: None
    ) -> None:
        """Queues a recorded job, within the limits of a visitor; `then` comes before it starts.

        Raises:
            NotAllowed: somebody else has done so since it was read, or the queue has no place.
        """
        request = self.parse(job.request)
        weights = self._weights(request)
        with self._recording:  # as `submit`: two at once would both find the last place free
            check_queue(job.owner, limits, self._ledger)
            if not self._ledger.requeue(job):
                raise NotAllowed(
                    Text("It goes on already.", "任务已在继续。"),
                    Text("Wait for it, or cancel it.", "请等待或取消它。"),
                )
        then()
        self._queue.add(job, request, weights)

    def _requeue(self) -> None:
        """Goes on with what a former start left in the queue, and with pieces that it began."""
        left = self._ledger.recover(self._presence.is_alive)
        begun = [job for job in left.interrupted if job.request.get("task") in IN_PIECES]
        for job in (*begun, *left.queued):
            try:
                self._again(job)
            except StudioError as error:
                self._ledger.set_state(job.id, JobState.FAILED, error)
