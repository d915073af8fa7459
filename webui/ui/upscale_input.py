"""What is to be upscaled: uploaded files, each for a run of its own, looked at before they are
planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.core.errors import BadInput, StudioError, error_from_json
from webui.core.text import Text
from webui.ui.page import Page, Visit
from webui.ui.uploads import received_files

MOST_FILES = 16
"""At a time."""


@dataclass(frozen=True, slots=True)
class Input:
    """One file."""

    name: str
    """Its owner's name for it."""
    path: Path
    facts: Mapping[str, Any]
    """What it is (`Studio.videos.facts`)."""

    @property
    def work(self) -> tuple[int, int]:
        """Pixels of a frame, which decide the memory, and frames."""
        return int(self.facts["height"]) * int(self.facts["width"]), int(self.facts["frames"])


def chosen_files(files: Any) -> list[tuple[str, Path]]:
    """Names and paths of what the browser says it has uploaded.

    Raises:
        BadInput: they were not uploaded here, or are too many.
    """
    received = received_files(files, "input")
    if len(received) > MOST_FILES:
        raise BadInput(
            "input",
            Text(f"{len(received)} files are too many.", f"{len(received)} 个文件太多。"),
            Text(f"Choose at most {MOST_FILES}.", f"最多选择 {MOST_FILES} 个。"),
        )
    return received


def look_at(
    page: Page, files: Any, visit: Visit, before: Sequence[Input] = ()
) -> tuple[list[Input], StudioError | None]:
    """The files and what they are, and why one of them cannot be used.

    Args:
        page: the studio.
        files: what the browser says it has uploaded.
        visit: who asks.
        before: those that were looked at already.
    """
    known = {one.path: one for one in before}
    found: list[Input] = []
    refused: StudioError | None = None
    try:
        received = chosen_files(files)
    except StudioError as error:
        return [], error
    for name, path in received:
        try:
            look = page.studio.videos.look
            found.append(
                known.get(path) or Input(name, path, look(path, visit.owner, visit.visitor))
            )
        except StudioError as error:
            refused = refused or about(error, name, len(received))
    return found, refused


def about(error: StudioError, name: str, files: int) -> StudioError:
    """The error with the name of the file, where it is one of several."""
    if files < 2:
        return error
    message = Text(f"{name}: {error.message.en}", f"{name}：{error.message.zh}")
    return error_from_json({**error.to_json(), "message": message.to_json()})


def largest(inputs: Sequence[Input]) -> Input | None:
    """The file with the largest frames, of those the longest: the plan is for it."""
    return max(inputs, key=lambda one: one.work, default=None)
