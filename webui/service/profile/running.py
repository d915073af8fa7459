"""Runs a matrix: each row through the normal flow, its files into a folder of its own."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.core.errors import BadInput, Cancelled, NotAllowed, StudioError
from webui.core.job import JobView
from webui.core.parse import PATH_KEYS
from webui.core.receipt import Receipt
from webui.core.request import Request
from webui.core.text import Text
from webui.service.profile.matrix import read_matrix
from webui.service.profile.report import report
from webui.service.profile.results import Result, finished, own_failure, refused, told
from webui.service.profile.rows import Row
from webui.service.profile.surroundings import surroundings
from webui.service.profile.switching import model_switches
from webui.service.profile.warming import warm_up
from webui.storage.profiles import MATRIX, REPORT, SUMMARY, Profiles, write_json, write_text

if TYPE_CHECKING:
    from webui.service.studio import Studio

WATCH_S = 0.3
OnChange = Callable[["ProfileRun"], None]


@dataclass(slots=True)
class ProfileRun:
    """A matrix on its way; read from other threads while it runs."""

    name: str
    """Of its folder."""
    folder: Path
    profiles: Profiles
    """Where its folder is."""
    rows: Sequence[Row]
    environment: dict[str, Any]
    """Known before the first row, with the other processes on the cards."""
    created: str
    """UTC, ISO 8601."""
    results: list[Result] = field(default_factory=list)
    receipts: list[Receipt | None] = field(default_factory=list)
    """Beside each result; None for what did not run."""
    view: JobView | None = None
    """The running row's job, or that of a warm-up."""
    warming: bool = False
    stopping: bool = False
    ended: bool = False
    error: StudioError | None = None
    """What ended the whole matrix, a full disk, say."""

    def summary(self) -> dict[str, Any]:
        """What its file holds."""
        return {
            "schema": "vram-studio/profile",
            "version": 1,
            "name": self.name,
            "created": self.created,
            "environment": self.environment,
            "rows": self.results,
            "model_switches": [],
        }

    @property
    def running(self) -> Row | None:
        """The row under way."""
        done = len(self.results)
        return self.rows[done] if not self.ended and done < len(self.rows) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A matrix that has ended."""

    name: str
    folder: Path
    summary: Mapping[str, Any]
    receipts: tuple[Receipt | None, ...]


class Profiler:
    """Runs matrices on a studio, one at a time, and knows those of the past.

    Args:
        studio: runs the rows.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._lock = threading.Lock()
        self._current: ProfileRun | None = None
        self.profiles = Profiles(studio.home / "outputs" / "profiles")

    @property
    def current(self) -> ProfileRun | None:
        """The newest matrix of this studio: under way, or ended."""
        return self._current

    def read(self, text: str, name: str = "matrix") -> list[Row]:
        """The rows of a matrix.

        Raises:
            BadInput: not YAML, no rows, or too many.
        """
        return read_matrix(text, name, self._studio.detected().kind)

    def start(self, text: str, visitor: str) -> ProfileRun:
        """Runs a matrix in the background; for the page.

        Args:
            text: YAML.
            visitor: who asks.

        Raises:
            NotAllowed: not the owner, or one is running.
            BadInput: not YAML, no rows, too many, or no row that can run.
        """
        self._check_owner(visitor)
        rows = [_without_paths(row) for row in self.read(text)]
        if all(row.error is not None for row in rows):
            assert rows[0].error is not None
            raise rows[0].error
        with self._lock:
            if self._current is not None and not self._current.ended:
                raise NotAllowed(
                    Text("A profile is running already.", "已有一个性能分析在运行。"),
                    Text("Wait for it, or cancel it.", "请等待或取消它。"),
                )
            run = self._current = self._new(rows, rows[0].name, text, self.profiles)
        threading.Thread(
            target=self._run_safely, args=(run, visitor), name="profile", daemon=True
        ).start()
        return run

    def cancel(self, visitor: str) -> None:
        """Stops the running matrix: its row is cancelled, the others do not begin.

        Raises:
            NotAllowed: not the owner.
        """
        self._check_owner(visitor)
        run = self._current
        if run is not None:
            self._stop(run, visitor)

    def run(
        self,
        rows: Sequence[Row],
        name: str,
        text: str,
        visitor: str,
        output: Path | None = None,
        on_change: OnChange = lambda run: None,
    ) -> Outcome:
        """Runs a matrix to its end; for the command line.

        Args:
            rows: as `read` gave them.
            name: of the matrix.
            text: the matrix itself, kept beside the results.
            visitor: whose runs they are.
            output: the folder for profiles; the studio's own when left out.
            on_change: told whenever something happened.

        Raises:
            NotEnoughDisk, StudioError: the folder cannot be written.
        """
        profiles = self.profiles if output is None else Profiles(output)
        run = self._current = self._new(rows, name, text, profiles)
        try:
            summary = self._run(run, visitor, on_change)
        except KeyboardInterrupt:
            self._stop(run, visitor)
            raise
        finally:
            run.ended = True
        return Outcome(
            name=run.name, folder=run.folder, summary=summary, receipts=tuple(run.receipts)
        )

    def request_of(self, row: Row) -> Request:
        """The row's request; of a configuration with every setting that it leaves open.

        Raises:
            BadInput: names the first wrong field.
        """
        request = self._studio.parse(row.request)
        if not row.as_written:
            return request
        settings = self._studio.estimate(request).settings
        return request.with_changes(settings={**settings, **request.settings})

    def profile_of(self, row: Row, request: Request, folder: Path) -> dict[str, Any]:
        """What the worker is told to record of a row.

        The phase to trace is, unless the row names one, that which takes the most under the
        settings that will run: the plan's, or those of a configuration.
        """
        if not row.options.trace or row.options.trace_phase:
            return row.options.to_job(folder, "")
        studio = self._studio
        plan = studio.estimate(request) if row.as_written else studio.plan(request)
        largest = max(plan.estimate.phases, key=lambda phase: phase.allocated_bytes)
        return row.options.to_job(folder, largest.name)

    def run_row(
        self,
        request: Request,
        profile: Mapping[str, Any],
        visitor: str,
        on_view: Callable[[JobView], None],
    ) -> Receipt:
        """One run through the normal flow.

        Raises:
            StudioError: it was refused before it ran, or its record is gone.
        """
        return self.run_timed(request, profile, visitor, on_view)[0]

    def run_timed(
        self,
        request: Request,
        profile: Mapping[str, Any],
        visitor: str,
        on_view: Callable[[JobView], None],
    ) -> tuple[Receipt, float]:
        """`run_row`, with the seconds from the queue to the end of the job."""
        job_id = self._studio.submit(request, visitor, profile)
        started = time.perf_counter()
        view = None
        for view in self._studio.watch(job_id, visitor, WATCH_S):
            on_view(view)
        if view is None or view.receipt is None:
            raise (view.error if view else None) or Cancelled()
        return view.receipt, time.perf_counter() - started

    def forget(self, run_id: str, visitor: str) -> None:
        """Removes a run that was made to be thrown away."""
        self._studio.delete(run_id, visitor)

    def delete(self, name: str, visitor: str) -> None:
        """Deletes a profile with all of its files; the runs of its rows stay.

        Raises:
            NotAllowed: not the owner, or it is the one that runs.
            NotFound: there is none.
        """
        self._check_owner(visitor)
        run = self._current
        if run is not None and not run.ended and run.name == name:
            raise NotAllowed(
                Text("This profile is still running.", "该性能分析仍在运行。"),
                Text("Cancel it first.", "请先取消。"),
            )
        self.profiles.delete(name)

    def _new(self, rows: Sequence[Row], name: str, text: str, profiles: Profiles) -> ProfileRun:
        folder = profiles.new(name)
        write_text(folder / MATRIX, text)
        run = ProfileRun(
            name=folder.name,
            folder=folder,
            profiles=profiles,
            rows=rows,
            environment=surroundings(self._studio),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        # Before anybody can ask for it.
        write_json(folder / SUMMARY, run.summary())
        return run

    def _run_safely(self, run: ProfileRun, visitor: str) -> None:
        try:
            self._run(run, visitor, lambda run: None)
        except StudioError as error:
            run.error = error
        except Exception as error:
            traceback.print_exc()
            run.error = own_failure(error)
        finally:
            run.ended = True

    def _run(self, run: ProfileRun, visitor: str, on_change: OnChange) -> dict[str, Any]:
        summary, around = run.summary(), run.environment
        on_change(run)
        if around["kind"] == "cuda":
            on_view = self._follower(run, visitor, on_change)
            run.warming = True
            around["warm_up"] = warm_up(self, run.rows, visitor, on_view, lambda: run.stopping)
            run.warming, run.view = False, None
        for row in run.rows:
            result, receipt = self._row(run, row, visitor, on_change)
            if receipt is not None and receipt.versions:
                around["versions"] |= receipt.versions
            run.view = None
            run.receipts.append(receipt)
            run.results.append(result)
            summary["model_switches"] = model_switches(run.results, run.receipts)
            # After each row: a long matrix may be stopped half way.
            write_json(run.folder / SUMMARY, summary)
            write_text(run.folder / REPORT, report(summary))
            on_change(run)
        return summary

    def _row(
        self, run: ProfileRun, row: Row, visitor: str, on_change: OnChange
    ) -> tuple[Result, Receipt | None]:
        folder = run.folder / row.folder
        try:
            if run.stopping:
                raise Cancelled()
            if row.error is not None:
                raise row.error
            request = self.request_of(row)
            run.profiles.check_room()
            folder.mkdir(exist_ok=True)
            profile = self.profile_of(row, request, folder)
            on_view = self._follower(run, visitor, on_change)
            receipt = self.run_row(request, profile, visitor, on_view)
        except Exception as error:
            return refused(row, told(error)), None
        try:
            return finished(row, receipt, folder), receipt
        except Exception as error:  # it ran: its receipt is not lost with its files
            return {**refused(row, told(error)), "state": "failed"}, receipt

    def _follower(
        self, run: ProfileRun, visitor: str, on_change: OnChange
    ) -> Callable[[JobView], None]:
        """What follows a job of the matrix, and cancels it once the matrix is."""

        def on_view(view: JobView) -> None:
            run.view = view
            if run.stopping:
                self._studio.cancel(view.id, visitor)
            on_change(run)

        return on_view

    def _stop(self, run: ProfileRun, visitor: str) -> None:
        run.stopping = True
        view = run.view
        if view is not None and not view.state.final:
            with suppress(StudioError):
                self._studio.cancel(view.id, visitor)

    def _check_owner(self, visitor: str) -> None:
        if not self._studio.access.is_owner(visitor):
            raise NotAllowed(
                Text(
                    "Only the owner of this machine can profile.",
                    "只有本机的所有者可以做性能分析。",
                )
            )


def _without_paths(row: Row) -> Row:
    """Refuses a row that names files: a text of the page becomes no path."""
    named = next((key for key in PATH_KEYS if row.request.get(key)), None)
    if named is None or row.error is not None:
        return row
    error = BadInput(
        named,
        Text(
            f"{named} names a file, which the page does not open.",
            f"{named} 指定了文件，网页不会打开它。",
        ),
        Text("Use the command line, or random_weights.", "请用命令行，或 random_weights。"),
    )
    return Row(name=row.name, folder=row.folder, description=row.description, error=error)
