"""The pages of a run in its folder: one file of JSON and one picture each, written when it is read.

A page that has its file is done: a run that goes on after a restart, or that lost its worker, reads
only the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from webui.documents.blocks import PageResult

FOLDER = "pages"
"""Within the run's folder."""


class KeptPages:
    """The pages of one run.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    def done(self) -> set[int]:
        """Numbers of the pages that are there, those that failed for themselves included."""
        return {int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdecimal()}

    def write(self, result: PageResult) -> None:
        """Keeps a page; it is there whole or not at all.

        Raises:
            OSError: the disk is full.
        """
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{result.number}.json"
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_text(json.dumps(result.to_json(), ensure_ascii=False), encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def read(self, number: int) -> PageResult | None:
        """A page, or None where it is not there yet."""
        try:
            data = json.loads((self.folder / f"{number}.json").read_text(encoding="utf-8"))
            return PageResult.from_json(data)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget_failed(self) -> None:
        """Lets pages that failed be tried again."""
        for result in self.all():
            if result.error is not None:
                (self.folder / f"{result.number}.json").unlink(missing_ok=True)

    def all(self) -> Iterator[PageResult]:
        """The pages that are there, in order, one at a time."""
        for number in sorted(self.done()):
            result = self.read(number)
            if result is not None:
                yield result

    def picture(self, number: int) -> Path:
        """Where a page's picture is, or will be."""
        return self.folder / f"{number}.jpg"
