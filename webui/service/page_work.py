"""The pages of a document as pieces of work, and its files when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from webui.core.documents import DocumentRequest, page_numbers
from webui.core.errors import RunFailed, StudioError, WorkerLost
from webui.core.text import Text
from webui.documents.blocks import PageResult
from webui.documents.bundle import write_bundle
from webui.documents.kept import KeptPages
from webui.storage.files import write_error
from webui.storage.outputs import THUMBNAIL, write_thumbnail


class PagePieces:
    """Pages (`webui.service.pieces.Pieces`).

    Args:
        request: with the numbers of its pages.
        folder: the run's.
    """

    key, event, unit = "pages", "page", "pages"
    claims = False
    notes: tuple[Text, ...] = ()

    def __init__(self, request: DocumentRequest, folder: Path) -> None:
        self._folder = folder
        self._kept = KeptPages(folder)
        last = int(str(request.pages).replace(",", "-").split("-")[-1])
        self.numbers = page_numbers(request.pages, last)
        self.units = len(self.numbers)

    def units_of(self, number: int) -> int:
        return 1

    def done(self) -> set[int]:
        return self._kept.done()

    def most(self, waiting: int, workers: int, settings: Mapping[str, Any]) -> int:
        """All for a single worker, which fills its batches itself; for several less and less, so
        that all end at about the same time."""
        if workers == 1:
            return waiting
        each = -(-waiting // workers)
        return max(-(-each // 2), min(int(settings.get("page_batch", 1)), each))

    def give_up(self, number: int, lost: WorkerLost) -> None:
        self._kept.write(PageResult(number=number, document="", page=number, error=lost))

    def put_together(self) -> list[str]:
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

    def failed(self) -> StudioError | None:
        """The first page's error, where not one page could be read."""
        first: StudioError | None = None
        for result in self._kept.all():
            if result.error is None:
                return None
            first = first or result.error
        return first or RunFailed(Text("No page was read.", "没有识别任何页面。"))
