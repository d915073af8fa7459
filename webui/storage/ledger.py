"""The ledger: every job is written here before it runs, and its receipt when it ends (SQLite)."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from webui.core.errors import NotFound, StudioError, error_from_json
from webui.core.job import JobState
from webui.core.receipt import Receipt
from webui.core.text import Text
from webui.storage.database import explained, open_database
from webui.storage.interruptions import profile_ended, studio_ended

_COLUMNS = "id, owner, created, state, request, plan, receipt, error, folder, profiled"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job as the ledger has it."""

    id: str
    owner: str
    created: str
    """UTC, ISO 8601."""
    state: JobState
    request: dict[str, Any]
    plan: dict[str, Any] | None
    receipt: Receipt | None
    error: StudioError | None
    folder: str
    """Name of the run folder inside the outputs."""
    profiled: bool = False
    """A row of a profile: only the profile itself can run it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What a start found of the time before."""

    queued: tuple[JobRecord, ...]
    """Still to be run, in the order of submission."""
    interrupted: tuple[JobRecord, ...]
    """Were running when the app ended, or were rows of a profile that ended with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedSample:
    """Estimated and measured seconds of one phase of one run."""

    estimated_s: float
    measured_s: float
    settings: dict[str, Any]


class Ledger:
    """Jobs and receipts in one SQLite file; safe to use from any thread.

    Args:
        path: the file; made with its folder when it is not there.
        studio: the name of the studio that records jobs here.

    Raises:
        StudioError: locked by another program, not readable, or made by a newer version.
        NotEnoughDisk: the disk is full.
    """

    def __init__(self, path: Path, studio: str = "") -> None:
        self.path = path
        self._studio = studio
        self.notice: Text | None = None
        """Set when a damaged file was put aside."""
        self._lock = threading.RLock()
        self._connection, aside = open_database(path)
        if aside is not None:
            self.notice = Text(
                f"The history was damaged; it was kept as {aside.name} and a new one was begun. "
                "The files in the outputs are untouched.",
                f"历史记录已损坏，已另存为 {aside.name} 并重新开始。输出文件没有变动。",
            )

    def close(self) -> None:
        """Ends the connection; the write-ahead log is merged into the file."""
        with self._lock:
            self._connection.close()

    def record(
        self,
        job_id: str,
        owner: str,
        request: Mapping[str, Any],
        plan: Mapping[str, Any] | None,
        folder: str,
        profiled: bool = False,
    ) -> JobRecord:
        """Writes a queued job, before anything runs."""
        created = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO jobs (id, owner, created, state, request, plan, folder, studio, "
                "profiled) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job_id,
                    owner,
                    created,
                    JobState.QUEUED.value,
                    _dump(request),
                    _dump(plan) if plan is not None else None,
                    folder,
                    self._studio,
                    profiled,
                ),
            )
        return self.get(job_id)

    def set_state(self, job_id: str, state: JobState, error: StudioError | None = None) -> None:
        """Moves a job to another state, with the error that ended it if there is one.

        Raises:
            NotFound: no such job.
        """
        with self._writing() as connection:
            changed = connection.execute(
                "UPDATE jobs SET state = ?, error = ? WHERE id = ?",
                (state.value, _dump(error.to_json()) if error else None, job_id),
            )
            if not changed.rowcount:
                raise _not_found(job_id)

    def requeue(self, job: JobRecord) -> bool:
        """Moves a job to QUEUED, if it still is in the state that the record has.

        Returns:
            Whether it was: of two that ask at once, one.
        """
        with self._writing() as connection:
            changed = connection.execute(
                "UPDATE jobs SET state = ?, error = NULL WHERE id = ? AND state = ?",
                (JobState.QUEUED.value, job.id, job.state.value),
            )
            return changed.rowcount > 0

    def finish(
        self,
        job_id: str,
        state: JobState,
        receipt: Receipt,
        *,
        error: StudioError | None = None,
        base_seconds: Mapping[str, float] | None = None,
    ) -> None:
        """Writes how a job ended, and its speeds for calibration when it is done.

        Args:
            job_id: the job.
            state: a final state.
            receipt: the record of the run.
            error: what ended it, or None.
            base_seconds: uncalibrated estimate of each phase; the plan's seconds when left out.

        Raises:
            NotFound: no such job.
        """
        with self._writing() as connection:
            changed = connection.execute(
                "UPDATE jobs SET state = ?, receipt = ?, error = ? WHERE id = ?",
                (
                    state.value,
                    _dump(receipt.to_json()),
                    _dump(error.to_json()) if error else None,
                    job_id,
                ),
            )
            if not changed.rowcount:
                raise _not_found(job_id)
            if state is JobState.DONE:
                connection.executemany(
                    "INSERT INTO speeds (device, model, phase, estimated_s, measured_s, settings) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    _speed_rows(receipt, base_seconds),
                )

    def get(self, job_id: str) -> JobRecord:
        """One job.

        Raises:
            NotFound: no such job.
        """
        rows = self._read(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,))
        if not rows:
            raise _not_found(job_id)
        return _record(rows[0])

    def jobs(
        self,
        owner: str | None = None,
        *,
        limit: int = 50,
        state: JobState | None = None,
        task: str = "",
        ended: bool = False,
    ) -> list[JobRecord]:
        """Jobs, newest first.

        Args:
            owner: only this owner's; None for everybody's.
            limit: how many at most.
            state: only those in this state.
            task: only those of this task; of all when left out.
            ended: only those that neither run nor wait.
        """
        live = (JobState.RUNNING.value, JobState.QUEUED.value)
        rows = self._read(
            f"SELECT {_COLUMNS} FROM jobs WHERE (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR "
            "state = ?2) AND (?4 = '' OR json_extract(request, '$.task') = ?4) "
            "AND (NOT ?5 OR state NOT IN (?6, ?7)) ORDER BY number DESC LIMIT ?3",
            (owner, state.value if state else None, limit, task, ended, *live),
        )
        return [_record(row) for row in rows]

    def live(self, owner: str | None = None, *, limit: int = 50, task: str = "") -> list[JobRecord]:
        """Jobs that run or wait, the oldest first: however many newer ones have ended.

        Args:
            owner: only this owner's; None for everybody's.
            limit: how many at most; those that run, and the newest that wait.
            task: only those of this task; of all when left out.
        """
        # One query: a job that begins to run between two of them would be in neither.
        rows = self._read(
            f"SELECT {_COLUMNS} FROM (SELECT * FROM jobs WHERE state IN (?1, ?2) "
            "AND (?3 IS NULL OR owner = ?3) "
            "AND (?4 = '' OR json_extract(request, '$.task') = ?4) "
            "ORDER BY state = ?1 DESC, number DESC LIMIT ?5) ORDER BY number",
            (JobState.RUNNING.value, JobState.QUEUED.value, owner, task, limit),
        )
        return [_record(row) for row in rows]

    def count(self, state: JobState, owner: str | None = None) -> int:
        """How many jobs are in a state, of one owner or of all."""
        rows = self._read(
            "SELECT count(*) FROM jobs WHERE state = ?1 AND (?2 IS NULL OR owner = ?2)",
            (state.value, owner),
        )
        return int(rows[0][0])

    def delete(self, job_id: str) -> None:
        """Forgets a job; the speeds that it taught stay (they hold no text of the user).

        Raises:
            NotFound: no such job.
        """
        with self._writing() as connection:
            if not connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,)).rowcount:
                raise _not_found(job_id)

    def recover(self, is_alive: Callable[[str], bool] = lambda _: False) -> Recovery:
        """On start, of the jobs whose studio has ended: what was running is marked as interrupted,
        what was queued is given back and belongs to this studio from now on. Rows of a profile are
        not: nobody is left to record them.

        Args:
            is_alive: whether a studio, by its name, still runs.
        """
        left = self._left_by_others(is_alive)
        for job in left[JobState.RUNNING]:
            self.set_state(job.id, JobState.INTERRUPTED, studio_ended())
        rows = [job for job in left[JobState.QUEUED] if job.profiled]
        for job in rows:
            self.set_state(job.id, JobState.INTERRUPTED, profile_ended())
        return Recovery(
            queued=tuple(job for job in left[JobState.QUEUED] if not job.profiled),
            interrupted=tuple(self.get(job.id) for job in (*left[JobState.RUNNING], *rows)),
        )

    def interrupt_left(self, job_id: str, is_alive: Callable[[str], bool]) -> None:
        """Marks one job as interrupted if it runs or waits and its studio has ended.

        Args:
            job_id: the job.
            is_alive: whether a studio, by its name, still runs.
        """
        rows = self._read("SELECT studio, state FROM jobs WHERE id = ?", (job_id,))
        for studio, state in rows:
            if not JobState(state).final and not is_alive(studio):
                self.set_state(job_id, JobState.INTERRUPTED, studio_ended())

    def _left_by_others(self, is_alive: Callable[[str], bool]) -> dict[JobState, list[JobRecord]]:
        """Unfinished jobs without a living studio, in the order of submission, now this one's."""
        taken: dict[JobState, list[JobRecord]] = {JobState.RUNNING: [], JobState.QUEUED: []}
        with self._writing() as connection:
            rows = connection.execute(
                f"SELECT studio, {_COLUMNS} FROM jobs WHERE state IN (?, ?) ORDER BY number",
                tuple(state.value for state in taken),
            ).fetchall()
            for studio, *row in rows:
                if not is_alive(studio):
                    job = _record(tuple(row))
                    connection.execute(
                        "UPDATE jobs SET studio = ? WHERE id = ?", (self._studio, job.id)
                    )
                    taken[job.state].append(job)
        return taken

    def speeds(self, device: str, model: str, phase: str, limit: int = 20) -> list[SpeedSample]:
        """Recent pairs of estimated and measured seconds, newest first."""
        rows = self._read(
            "SELECT estimated_s, measured_s, settings FROM speeds "
            "WHERE device = ? AND model = ? AND phase = ? ORDER BY number DESC LIMIT ?",
            (device, model, phase, limit),
        )
        return [
            SpeedSample(estimated_s=row[0], measured_s=row[1], settings=json.loads(row[2]))
            for row in rows
        ]

    def revision(self) -> tuple[int, int]:
        """Changes when a run has ended or was deleted; until then what was read may be kept."""
        rows = self._read(
            "SELECT (SELECT coalesce(max(number), 0) FROM speeds), "
            "(SELECT count(*) FROM jobs WHERE state IN (?, ?))",
            (JobState.DONE.value, JobState.FAILED.value),
        )
        return int(rows[0][0]), int(rows[0][1])

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise explained(self.path, error) from error

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise explained(self.path, error) from error


def _speed_rows(
    receipt: Receipt, base_seconds: Mapping[str, float] | None
) -> list[tuple[str, str, str, float, float, str]]:
    if receipt.measurement is None:
        return []
    if base_seconds is None:
        base_seconds = {phase["name"]: phase["seconds"] for phase in receipt.plan.get("phases", ())}
    settings = _dump(receipt.plan.get("settings", {}))
    model = str(receipt.request.get("model", ""))
    return [
        (receipt.device, model, phase.name, base_seconds[phase.name], phase.seconds, settings)
        for phase in receipt.measurement.phases
        if base_seconds.get(phase.name, 0) > 0 and phase.seconds > 0
    ]


def _record(row: tuple[Any, ...]) -> JobRecord:
    job_id, owner, created, state, request, plan, receipt, error, folder, profiled = row
    return JobRecord(
        id=job_id,
        owner=owner,
        created=created,
        state=JobState(state),
        request=json.loads(request),
        plan=json.loads(plan) if plan else None,
        receipt=Receipt.from_json(json.loads(receipt)) if receipt else None,
        error=error_from_json(json.loads(error)) if error else None,
        folder=folder,
        profiled=bool(profiled),
    )


def _dump(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _not_found(job_id: str) -> NotFound:
    return NotFound(
        Text(f"There is no run '{job_id[:60]}'.", f"没有编号为“{job_id[:60]}”的运行记录。")
    )
