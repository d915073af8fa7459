"""Jobs as users see them: who may see which, and where their files are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from webui.core.errors import NotFound, StudioError
from webui.core.job import JobState
from webui.core.receipt import Receipt
from webui.core.text import Text
from webui.service.access import LOCAL, Access
from webui.storage import JobRecord, Ledger, Outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run of the history."""

    id: str
    created: str
    """UTC, ISO 8601."""
    state: JobState
    request: dict[str, Any]
    receipt: Receipt | None
    error: StudioError | None
    thumbnail: Path | None
    outputs: tuple[Path, ...]
    """Absolute paths of what it made."""
    input_name: str = ""
    """What its document or video is called."""


class RunLocks:
    """A lock for each run, for as long as somebody holds or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._own = threading.Lock()

    def of(self, run_id: str) -> threading.Lock:
        with self._own:
            return self._locks.setdefault(run_id, threading.Lock())


class Runs:
    """The history, seen by one visitor at a time.

    Args:
        ledger: has the jobs.
        outputs: has their files.
        access: who may do what.
        is_alive: whether a studio on the same folder, by its name, still runs.
    """

    def __init__(
        self,
        ledger: Ledger,
        outputs: Outputs,
        access: Access,
        is_alive: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._ledger = ledger
        self._outputs = outputs
        self._access = access
        self._is_alive = is_alive

    def record(self, job_id: str, visitor: str) -> JobRecord:
        """The visitor's own job.

        Raises:
            NotFound: there is none of that name; another visitor's counts as none.
        """
        job = self._ledger.get(job_id)
        everything = self._access.loopback and visitor == LOCAL
        if job.owner != visitor and not everything:
            raise NotFound(
                Text(f"There is no run '{job_id[:40]}'.", f"没有名为“{job_id[:40]}”的运行。")
            )
        return job

    def left_record(self, job_id: str, visitor: str) -> JobRecord:
        """The same, to go on with: one whose studio ended while it ran has been interrupted.

        Raises:
            NotFound: see `record`.
        """
        self.record(job_id, visitor)
        self._ledger.interrupt_left(job_id, self._is_alive)
        return self.record(job_id, visitor)

    def of(self, visitor: str, limit: int, task: str = "", ended: bool = False) -> list[RunSummary]:
        """The visitor's runs, newest first; on loopback everybody's. Those of a task, or of all."""
        jobs = self._ledger.jobs(self._owner(visitor), limit=limit, task=task, ended=ended)
        return [self.summary(job) for job in jobs]

    def records(self, visitor: str, limit: int) -> list[JobRecord]:
        """The same, as the ledger has them."""
        return self._ledger.jobs(self._owner(visitor), limit=limit)

    def live(self, visitor: str, limit: int, task: str = "") -> list[JobRecord]:
        """Those of a task, or of all, that run or wait, the oldest first: however old they are."""
        return self._ledger.live(self._owner(visitor), limit=limit, task=task)

    def _owner(self, visitor: str) -> str | None:
        """Whose runs somebody sees; None for everybody's."""
        return None if self._access.loopback and visitor == LOCAL else visitor

    def counts(self, states: Iterable[JobState]) -> dict[str, int]:
        """How many jobs of everybody are in each state."""
        return {str(state): self._ledger.count(state) for state in states}

    def summary(self, job: JobRecord) -> RunSummary:
        return RunSummary(
            id=job.id,
            created=job.created,
            state=job.state,
            request=job.request,
            receipt=job.receipt,
            error=job.error,
            thumbnail=self._outputs.thumbnail(job.folder),
            outputs=tuple(self._outputs.files(job.folder)),
            input_name=self.input_name(job),
        )

    def input_name(self, job: JobRecord) -> str:
        """What the visitor calls the file that it works on; empty where there is none."""
        named = job.request.get("task") in ("parse", "upscale")
        return self._outputs.input_name(job.folder) if named else ""
