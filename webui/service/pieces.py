"""Work that comes in pieces, as those see it who share it out: pages of a document, segments of a
video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from webui.core.errors import StudioError, WorkerLost
from webui.core.text import Text

OnEvent = Callable[[Mapping[str, Any]], None]


class Worker(Protocol):
    """What is needed of a worker process."""

    def run(self, job: Mapping[str, Any], on_event: OnEvent | None = None) -> Mapping[str, Any]: ...

    def send(self, command: Mapping[str, Any]) -> None:
        """Tells it something during a run; only one that `claims` is told anything."""


class Pieces(Protocol):
    """What the pieces of one job are. A piece is known by its number."""

    key: str
    """Under which a worker's job names its pieces."""
    event: str
    """What a worker tells of its progress with them; such an event may have a `count`."""
    unit: str
    """What progress counts: `frames` or `pages`."""
    claims: bool
    """Whether a worker that comes to the end of its pieces asks for more during its turn, by the
    event `claim`."""

    @property
    def notes(self) -> Sequence[Text]:
        """What the user should know of what is worked on."""

    @property
    def numbers(self) -> Sequence[int]:
        """All of the job's, in order."""

    @property
    def units(self) -> int:
        """How many of them the whole job has."""

    def units_of(self, number: int) -> int:
        """The same, of one piece."""

    def done(self) -> set[int]:
        """Those that are kept."""

    def most(self, waiting: int, workers: int, settings: Mapping[str, Any]) -> int:
        """How many of those that wait a worker takes at a time."""

    def give_up(self, number: int, lost: WorkerLost) -> None:
        """A piece cost several workers: it counts as done, and as failed."""

    def put_together(self) -> list[str]:
        """The job's files, of the pieces that are there: their names in the run's folder."""

    def failed(self) -> StudioError | None:
        """Why the whole counts as failed, though no worker said so."""
