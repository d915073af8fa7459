"""What the dashboard shows and does: the machine now and before, the job at hand, receipts, and
the buttons that give memory back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from webui.catalogue import find_model
from webui.core.errors import BadInput, NotAllowed, StudioError
from webui.core.job import JobState
from webui.core.parse import parse_request
from webui.core.plan import Alternative
from webui.core.request import Request
from webui.core.text import Text
from webui.core.units import MIB, format_bytes
from webui.estimator.verified import read_receipts
from webui.optimizer.steps_down import StepDown, find_steps_down
from webui.service.access import Access
from webui.service.at_hand import JobAtHand, find_job_at_hand
from webui.service.monitor import Monitor, Snapshot
from webui.service.planner import Planner
from webui.service.queue import JobQueue
from webui.service.receipt_rows import ReceiptRow, receipt_rows
from webui.service.recorded import was_measured
from webui.service.runs import Runs
from webui.storage import StudioConfig

ACTIONS = ("empty-cache", "unload", "end-worker")
SOURCES = ("own", "verified")
MOST_RUNS = 500
"""Of the visitor's receipts that are shown, the newest."""
_KEPT_ADVICE = 32
_FREE_STEP_BYTES = 256 * MIB
"""Advice is made anew when so much more or less of the device is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What could be done about the memory of one job."""

    steps: tuple[StepDown, ...]
    reasons: tuple[Text, ...]
    """What its settings save already."""
    offers: tuple[Alternative, ...]
    """Requests near it that would fit, where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """A device that is fuller than the owner wants to be told of."""

    device: int | None
    """Its number; None is the host's memory."""
    used_bytes: int
    total_bytes: int

    @property
    def share(self) -> float:
        return self.used_bytes / self.total_bytes


class Dashboard:
    """The door of the dashboard's tab.

    Args:
        home: the studio's home folder; its disk is read.
        access: who owns the machine.
        config: the configuration as it is now.
        planner: plans the job at hand anew.
        queue: knows the running job and the worker.
        runs: the history by visitor.
    """

    def __init__(
        self,
        home: Path,
        access: Access,
        config: Callable[[], StudioConfig],
        planner: Planner,
        queue: JobQueue,
        runs: Runs,
    ) -> None:
        self.monitor = Monitor(home, lambda: config().memory)
        self._access = access
        self._config = config
        self._planner = planner
        self._queue = queue
        self._runs = runs
        self._advice: dict[tuple[object, ...], Advice | None] = {}
        self._advising = threading.Lock()

    @property
    def warn_share(self) -> float:
        """The owner's threshold, 0 to 1."""
        return self._config().memory.warn_threshold

    @property
    def worker_pid(self) -> int | None:
        return self._queue.worker_pid

    def full(self, snapshot: Snapshot) -> tuple[Full, ...]:
        """The devices, and the host, whose use is at or above the threshold."""
        host = snapshot.host
        used = [
            Full(device=device.index, used_bytes=device.used_bytes, total_bytes=device.total_bytes)
            for device in snapshot.devices
        ]
        used.append(
            Full(
                device=None,
                used_bytes=host.memory_bytes - host.available_bytes,
                total_bytes=host.memory_bytes,
            )
        )
        return tuple(one for one in used if one.total_bytes and one.share >= self.warn_share)

    def job(self, visitor: str) -> JobAtHand | None:
        """The visitor's running job, else their newest one."""
        return find_job_at_hand(self._queue, self._runs, visitor)

    def advice(self, job: JobAtHand) -> Advice | None:
        """What the optimizer would do about the job's memory; None where it cannot be planned.

        Takes some tenths of a second the first time, and hardly anything for the same job again,
        while the owner's policy and what is free stay about as they were.
        """
        try:
            request = parse_request(job.request, find_model)
            free_bytes = self._planner.target(request).limit_bytes
        except StudioError:  # of another version: the model or a setting is gone
            return None
        key = (
            job.id, self._planner.policy, free_bytes // _FREE_STEP_BYTES,
            *sorted(map(str, job.settings.items())),
        )  # fmt: skip
        with self._advising:
            if key not in self._advice:
                while len(self._advice) >= _KEPT_ADVICE:
                    del self._advice[next(iter(self._advice))]
                self._advice[key] = self._advise(job, request)
            return self._advice[key]

    def _advise(self, job: JobAtHand, request: Request) -> Advice | None:
        try:
            plan = self._planner.plan(request)
            model = find_model(request.model, request.task)
            target = self._planner.target(request)
        except StudioError:  # this card cannot do what was asked of another one
            return None
        settings = dict(job.settings)
        if set(settings) != set(plan.settings):
            settings = dict(plan.settings)
        return Advice(
            steps=find_steps_down(model, request, settings, target),
            reasons=plan.reasons if settings == plan.settings else (),
            offers=plan.alternatives,
        )

    def receipts(self, visitor: str, source: str) -> list[ReceiptRow]:
        """Phases that were estimated and measured, the newest run first.

        Args:
            visitor: whose runs.
            source: `own`, or `verified` for the receipts that ship with the studio.

        Raises:
            BadInput: no such source.
        """
        if source == "verified":
            return list(receipt_rows(filter(was_measured, read_receipts())))
        if source != "own":
            listed = ", ".join(SOURCES)
            raise BadInput(
                "source",
                Text("There is no such source of receipts.", "没有这样的回执来源。"),
                Text(f"It takes: {listed}.", f"可用的值：{listed}。"),
            )
        records = self._runs.records(visitor, MOST_RUNS)
        return list(receipt_rows(job.receipt for job in records if job.receipt is not None))

    def counts(self) -> dict[str, int]:
        """Jobs of everybody that wait and run."""
        return self._runs.counts((JobState.QUEUED, JobState.RUNNING))

    def act(self, action: str, visitor: str) -> Text:
        """Gives memory back; says what was done.

        Args:
            action: one of `ACTIONS`.
            visitor: who asks; only the owner may.

        Raises:
            NotAllowed: a visitor, or a job is running.
            BadInput: no such action.
            WorkerLost: the worker ended meanwhile.
        """
        if not self._access.is_owner(visitor):
            raise NotAllowed(
                Text("Only the owner of this machine can do this.", "只有本机的所有者可以这样做。")
            )
        if self._queue.worker_pid is None and action in ACTIONS:
            return Text("No worker is running: it holds nothing.", "没有工作进程在运行，没有占用。")
        if action == "end-worker":
            self._queue.end_worker()
            return Text(
                "The worker has ended. The next job starts a new one.",
                "工作进程已结束。下一个任务会启动新的。",
            )
        if action == "unload":
            if self._queue.unload() is None:
                raise _busy()
            return Text("The model is unloaded.", "模型已卸载。")
        if action == "empty-cache":
            freed = self._queue.empty_cache()
            if freed is None:
                raise _busy()
            size = format_bytes(freed)
            return Text(
                f"The allocator's cache is empty: {size} were given back.",
                f"分配器缓存已清空：归还了 {size}。",
            )
        raise BadInput("action", Text("There is no such action.", "没有这样的操作。"))

    def close(self) -> None:
        self.monitor.close()


def _busy() -> NotAllowed:
    return NotAllowed(
        Text("A job is running: it needs what it holds.", "有任务正在运行，需要它占用的显存。"),
        Text("Wait for it, or cancel it first.", "请等它结束，或先取消它。"),
    )
