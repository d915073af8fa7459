"""What can go wrong, as one tree. Each error is one clear sentence and a hint, in both languages.

StudioError
├── BadInput            a field is wrong: which one, and what is allowed
├── DoesNotFit          needed and available bytes, and the nearest request that fits
├── NotFound            no such run, job, file
├── Conflict            somebody else saved the same file in between
├── NotAllowed          belongs to the owner of the machine, or to another user
├── MissingDependency   the extra that brings it
├── MissingWeights      the repository, its size, where the files would go
├── NotEnoughDisk       needed and free bytes
├── OutOfMemory         the device or the host ran out while running
├── WorkerLost          the worker process died
├── Cancelled           the user stopped it
└── RunFailed           anything else that a model did
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webui.core.text import EMPTY, Text


class StudioError(Exception):
    """Base of all errors that are shown to users.

    Args:
        message: what is wrong, one sentence.
        hint: what to do about it.
        field: the request key that is wrong, or "".
    """

    exit_code = 1

    def __init__(self, message: Text, hint: Text = EMPTY, field: str = "") -> None:
        super().__init__(message.en)
        self.message = message
        self.hint = hint
        self.field = field

    def to_json(self) -> dict[str, Any]:
        """Both languages, for the ledger and between processes."""
        return {
            "type": type(self).__name__,
            "field": self.field,
            "message": self.message.to_json(),
            "hint": self.hint.to_json(),
        }

    def to_contract(self) -> dict[str, str]:
        """The form of the command line and the API: English strings."""
        return {"field": self.field, "message": self.message.en, "hint": self.hint.en}


class BadInput(StudioError):
    """A field of the request is wrong."""

    exit_code = 2

    def __init__(self, field: str, message: Text, hint: Text = EMPTY) -> None:
        super().__init__(message, hint, field)


class DoesNotFit(StudioError):
    """No setting left open makes the request fit the card."""

    exit_code = 3


class NotFound(StudioError):
    """There is no such run, job or file."""


class Conflict(StudioError):
    """Somebody else saved the same file in between; neither text is lost.

    Args:
        message: which file.
        hint: what to do.
        field: as of any error.
        text: what the file holds now.
        seen: its fingerprint, for whoever overwrites it knowingly.
    """

    def __init__(
        self, message: Text, hint: Text = EMPTY, field: str = "", *, text: str = "", seen: str = ""
    ) -> None:
        super().__init__(message, hint, field)
        self.text = text
        self.seen = seen


class NotAllowed(StudioError):
    """Only the owner of the machine, or of the run, may do this."""


class MissingDependency(StudioError):
    """A package is not installed; the hint names the extra that brings it."""


class MissingWeights(StudioError):
    """The weights are not on this machine; the hint says how to get them."""


class NotEnoughDisk(StudioError):
    """The disk has no room for a download or an output."""


class OutOfMemory(StudioError):
    """The device or the host ran out of memory during a run."""


class WorkerLost(StudioError):
    """The worker process died during a run."""


class Cancelled(StudioError):
    """The user stopped the job."""

    def __init__(self, message: Text | None = None, hint: Text = EMPTY, field: str = "") -> None:
        super().__init__(message or Text("The job was cancelled.", "任务已取消。"), hint, field)


class RunFailed(StudioError):
    """A model failed in a way that has no name of its own."""


_KINDS: tuple[type[StudioError], ...] = (StudioError, *StudioError.__subclasses__())
_TREE = {kind.__name__: kind for kind in _KINDS}


def error_from_json(data: Mapping[str, Any]) -> StudioError:
    """The error that `StudioError.to_json` wrote; an unknown type becomes `RunFailed`."""
    kind = _TREE.get(str(data.get("type", "")), RunFailed)
    error = kind.__new__(kind)
    StudioError.__init__(
        error,
        Text.from_json(data["message"]),
        Text.from_json(data.get("hint", "")),
        str(data.get("field", "")),
    )
    return error
