"""The pages of one job: opened for the run when it asks, kept and told when they are read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from webui.core.documents import DocumentRequest, is_page, page_numbers
from webui.core.errors import RunFailed, StudioError
from webui.core.given_name import kept_name
from webui.core.text import Text
from webui.documents.blocks import Block, PageResult
from webui.documents.kept import KeptPages
from webui.documents.pictures import save_page
from webui.documents.sources import Source, refused
from webui.worker.reporting import JobReport


class JobPages:
    """The pages that a job is to read (`webui.pipelines.documents.Pages`).

    Args:
        job: its `pages` are the numbers that are left; all of the request's where it names none.
        request: names the input, by its place or as a file of the run's folder.
        folder: the run's.
        report: hears of each page.

    Raises:
        BadInput: the input cannot be opened.
    """

    def __init__(
        self, job: Mapping[str, Any], request: DocumentRequest, folder: Path, report: JobReport
    ) -> None:
        path = Path(request.input)
        self._kept = KeptPages(folder)
        self._source = Source(
            path if path.is_absolute() else folder / path.name, request.dpi, kept_name(folder)
        )
        named = job.get("pages")
        self.numbers: Sequence[int] = (
            page_numbers(request.pages, self._source.pages) if named is None else list(named)
        )
        self._report = report
        self._opened: dict[int, PageResult] = {}
        self._began = time.perf_counter()

    def close(self) -> None:
        self._source.close()

    def open(self, number: int) -> Image.Image | None:
        document, within = self._source.place(number)
        result = PageResult(number=number, document=document.name, page=within)
        try:
            page = self._source.open(number)
        except StudioError as error:
            self._keep(result.failed(error))
            return None
        if not is_page(page.height, page.width):
            self._keep(result.failed(refused("the page is too narrow", "页面过于狭长")))
            return None
        self._kept.folder.mkdir(exist_ok=True)
        save_page(page, self._kept.picture(number))
        self._opened[number] = replace(result, width=page.width, height=page.height)
        return page

    def done(
        self, number: int, blocks: Sequence[Block], *, tokens: int = 0, cut_off: bool = False
    ) -> None:
        found = replace(
            self._opened.pop(number), blocks=tuple(blocks), tokens=tokens, cut_off=cut_off
        )
        self._keep(found)

    def failed(self, number: int, error: Exception) -> None:
        told = RunFailed(
            Text(
                f"This page could not be read ({type(error).__name__}).",
                f"无法识别这一页（{type(error).__name__}）。",
            ),
            Text("The log has the details.", "详细信息见日志。"),
        )
        self._keep(self._opened.pop(number).failed(told))

    def _keep(self, result: PageResult) -> None:
        now = time.perf_counter()
        result = replace(result, seconds=round(now - self._began, 3))
        self._began = now
        self._kept.write(result)
        self._report.page(result.number, result.error)


class BlankPages:
    """Pages for a run with random weights: nothing stands on them, and nothing is kept."""

    def __init__(self, request: DocumentRequest) -> None:
        self.numbers: Sequence[int] = range(1, request.repeats + 1)
        self._size = (request.width, request.height)

    def close(self) -> None:
        """There is nothing to close."""

    def open(self, number: int) -> Image.Image | None:
        return Image.new("RGB", self._size, (128, 128, 128))

    def done(
        self, number: int, blocks: Sequence[Block], *, tokens: int = 0, cut_off: bool = False
    ) -> None:
        """Nobody reads them."""

    def failed(self, number: int, error: Exception) -> None:
        raise error
