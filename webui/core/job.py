"""A job: a request on its way through the queue and the worker, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from webui.core.errors import StudioError
from webui.core.receipt import Receipt
from webui.core.text import EMPTY, Text
from webui.core.work import WorkRecord


class JobState(StrEnum):
    """Life of a job. The last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """The app was ended while it ran."""

    @property
    def final(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A snapshot of a job for the page, the API and the command line."""

    id: str
    state: JobState
    place: int = 0
    """Jobs ahead of it in the queue."""
    phase: str = ""
    """starting, loading, encode, denoise, decode, save; empty while queued."""
    step: int = 0
    steps: int = 0
    fraction: float = 0.0
    """Done of the whole job, 0 to 1, by predicted time."""
    pieces: tuple[int, int] | None = None
    """Of a document or a video: how many pages or frames are made, and of how many; None before the
    first."""
    seconds_left: float | None = None
    rate: float | None = None
    """Pages or frames a second, where the job is made of them."""
    preview: bytes | None = None
    """The newest preview as a JPEG."""
    receipt: Receipt | None = None
    error: StudioError | None = None
    worker_pid: int | None = None
    attempt: int = 1
    """Which one is running: after an earlier one ran out of memory, 2 or more."""
    attempts: int = 1
    """How many there may be."""
    changed: Text = EMPTY
    """What this attempt does otherwise than the one before, and why."""
    told: Text = EMPTY
    """What the run changed by itself last, e.g. how many tiles go together."""
    work: WorkRecord | None = None
    """Who does what, where several workers share the job or could."""
    request: dict[str, Any] | None = None
    input_name: str = ""
    """What the visitor calls the file that it works on."""
