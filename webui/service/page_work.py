"""Hands the pages of a document to the workers, and puts their files together.

What one worker is to the flow, one or several are here: each takes pages from the same list, and
the pages of a worker that is lost go back to it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from webui.core.documents import DocumentRequest, page_numbers
from webui.core.errors import RunFailed, StudioError, WorkerLost
from webui.core.receipt import Measurement, PhaseMeasurement
from webui.core.text import Text
from webui.documents.blocks import PageResult
from webui.documents.bundle import write_bundle
from webui.documents.kept import KeptPages
from webui.storage.files import write_error
from webui.storage.outputs import THUMBNAIL, write_thumbnail

MOST_LOSSES = 2
"""A page during which a worker was lost so often is taken to be the cause, and left out."""

OnEvent = Callable[[Mapping[str, Any]], None]


class Worker(Protocol):
    """What is needed of a worker process."""

    def run(self, job: Mapping[str, Any], on_event: OnEvent | None = None) -> Mapping[str, Any]: ...


class PageWork:
    """Runs a job over pages, as a worker would (`webui.service.flow.Worker`).

    Args:
        request: with the numbers of its pages.
        folder: the run's.
        workers: makes each worker, or makes it anew when it was lost.
    """

    def __init__(
        self,
        request: DocumentRequest,
        folder: Path,
        workers: Sequence[Callable[[], Worker]],
    ) -> None:
        self._folder = folder
        self._kept = KeptPages(folder)
        self._workers = workers
        last = int(str(request.pages).replace(",", "-").split("-")[-1])
        self._numbers = page_numbers(request.pages, last)
        self._lock = threading.Lock()
        self._waiting = [n for n in self._numbers if n not in self._kept.done()]
        self._partial = len(self._waiting) < len(self._numbers)
        self._losses: Counter[int] = Counter()

    def run(self, job: Mapping[str, Any], on_event: OnEvent | None = None) -> Mapping[str, Any]:
        """Runs to the end; the last event is that of the worker which ended last.

        Raises:
            WorkerLost: the only worker died and could not be had again.
        """
        tell = _Told(on_event, len(self._numbers), len(self._numbers) - len(self._waiting))
        ends: list[Mapping[str, Any] | StudioError] = []
        threads = [
            threading.Thread(target=self._serve, args=(make, job, tell, ends), daemon=True)
            for make in self._workers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self._ended(job, ends)

    def _serve(
        self,
        make: Callable[[], Worker],
        job: Mapping[str, Any],
        tell: _Told,
        ends: list[Mapping[str, Any] | StudioError],
    ) -> None:
        """One worker's turn after turn, until no page is left."""
        while numbers := self._take(job):
            try:
                worker = make()
            except StudioError as error:  # it cannot be had, or was ended on purpose
                self._end(ends, error)
                return
            try:
                end = worker.run({**job, "pages": numbers}, tell)
            except WorkerLost as lost:
                self._lost(numbers, lost)
                self._back(numbers)
                continue
            except StudioError as error:
                self._end(ends, error)
                return
            self._end(ends, end)
            if end["event"] == "failed":
                return
            self._back(numbers)

    def _end(
        self,
        ends: list[Mapping[str, Any] | StudioError],
        end: Mapping[str, Any] | StudioError,
    ) -> None:
        """How a turn ended; what failed in one is the end of all."""
        with self._lock:
            ends.append(end)
            if isinstance(end, StudioError) or end["event"] == "failed":
                self._waiting = []

    def _take(self, job: Mapping[str, Any]) -> list[int]:
        """The next pages for a worker: all for a single one, which fills its batches itself."""
        with self._lock:
            count = len(self._waiting)
            if len(self._workers) > 1:  # less and less, so that all end at about the same time
                batch = int(job.get("settings", {}).get("page_batch", 1))
                each = -(-count // len(self._workers))
                count = max(-(-each // 2), min(batch, each))
            taken, self._waiting = self._waiting[:count], self._waiting[count:]
            return taken

    def _back(self, numbers: list[int]) -> None:
        """Pages that were given out and are not there are to be read again."""
        with self._lock:
            done = self._kept.done()
            self._waiting = sorted({*self._waiting, *(n for n in numbers if n not in done)})

    def _lost(self, numbers: list[int], lost: WorkerLost) -> None:
        """Notes on which page a worker was lost."""
        done = self._kept.done()
        page = next((number for number in numbers if number not in done), None)
        if page is None:
            return
        self._losses[page] += 1
        if self._losses[page] >= MOST_LOSSES:
            self._kept.write(PageResult(number=page, document="", page=page, error=lost))

    def _ended(
        self, job: Mapping[str, Any], ends: list[Mapping[str, Any] | StudioError]
    ) -> Mapping[str, Any]:
        """The end of the whole: the first that failed, else the last; with the files."""
        outputs = self._bundle()
        raised = next((end for end in ends if isinstance(end, StudioError)), None)
        told = [end for end in ends if isinstance(end, Mapping)]
        if raised is not None and not told:
            raise raised
        last = next((end for end in told if end["event"] == "failed"), told[-1] if told else {})
        last = {"event": "result", "id": job["id"], "measurement": None, **last}
        measured = [end["measurement"] for end in told if end.get("measurement")]
        last |= {"measurement": merged(measured) if measured else None}
        # What took another time than was planned teaches nothing.
        last |= {"partial": self._partial or len(told) != 1 or len(self._workers) > 1}
        if last["event"] == "result":
            last |= _failed_all(self._kept)
        return {**last, "outputs": outputs}

    def _bundle(self) -> list[str]:
        """The document's files, of the pages that are there."""
        if not self._kept.done():
            return []
        for result in self._kept.all():
            if self._kept.picture(result.number).is_file():
                with suppress(StudioError):
                    write_thumbnail(self._kept.picture(result.number), self._folder / THUMBNAIL)
                break
        try:
            return write_bundle(self._kept, self._folder)
        except OSError as error:
            raise write_error(self._folder / "document.zip", error) from error


def merged(measurements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Measurements of several turns, and of several workers, as one: peaks are those of a single
    worker, seconds add up."""
    parts = [Measurement.from_json(data) for data in measurements]
    phases: dict[str, PhaseMeasurement] = {}
    for phase in (phase for part in parts for phase in part.phases):
        before = phases.get(phase.name)
        phases[phase.name] = phase if before is None else _both(before, phase)
    return replace(
        parts[-1],
        phases=tuple(phases.values()),
        peak_allocated_bytes=max(part.peak_allocated_bytes for part in parts),
        peak_reserved_bytes=max(part.peak_reserved_bytes for part in parts),
        peak_device_bytes=max(part.peak_device_bytes for part in parts),
        host_bytes=max(part.host_bytes for part in parts),
        seconds=sum(part.seconds for part in parts),
        load_seconds=max(part.load_seconds for part in parts),
        others_bytes=max(part.others_bytes for part in parts),
    ).to_json()


def _both(one: PhaseMeasurement, other: PhaseMeasurement) -> PhaseMeasurement:
    return replace(
        one,
        resident_bytes=max(one.resident_bytes, other.resident_bytes),
        allocated_bytes=max(one.allocated_bytes, other.allocated_bytes),
        reserved_bytes=max(one.reserved_bytes, other.reserved_bytes),
        seconds=one.seconds + other.seconds,
    )


def _failed_all(kept: KeptPages) -> dict[str, Any]:
    """The event's changes where not one page could be read."""
    first: StudioError | None = None
    for result in kept.all():
        if result.error is None:
            return {}
        first = first or result.error
    if first is None:
        first = RunFailed(Text("No page was read.", "没有识别任何页面。"))
    return {"event": "failed", "error": first.to_json()}


class _Told:
    """Passes a worker's events on, with how many pages of all are there."""

    def __init__(self, on_event: OnEvent | None, pages: int, done: int) -> None:
        self._on_event, self._pages, self._done = on_event, pages, done
        self._lock = threading.Lock()

    def __call__(self, event: Mapping[str, Any]) -> None:
        if self._on_event is None or event["event"] in ("result", "failed"):
            return
        with self._lock:
            if event["event"] == "page":
                self._done += 1
                event = {**event, "done": self._done, "pages": self._pages}
            self._on_event(event)
