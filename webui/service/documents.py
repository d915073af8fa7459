"""Documents in the service: counted before they are planned, kept in the run's folder, resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from webui.catalogue import find_model
from webui.core.documents import DocumentCard, DocumentRequest
from webui.core.errors import NotAllowed, NotFound
from webui.core.job import JobState
from webui.core.request import Request
from webui.core.text import Text
from webui.documents.blocks import PageResult
from webui.documents.kept import KeptPages
from webui.service.apart import ask_apart
from webui.service.limits import check_pages
from webui.service.runs import Runs
from webui.storage import JobRecord, Ledger, Limits, Outputs

_ENDED = (JobState.INTERRUPTED, JobState.CANCELLED, JobState.FAILED, JobState.DONE)


class Documents:
    """What the pages, the API and the command line may do with documents.

    Args:
        runs: who may see which run.
        ledger: of the runs.
        outputs: their folders.
        requeue: queues a recorded run again.
    """

    def __init__(
        self, runs: Runs, ledger: Ledger, outputs: Outputs, requeue: Callable[[JobRecord], None]
    ) -> None:
        self._runs, self._ledger, self._outputs = runs, ledger, outputs
        self._requeue = requeue

    def counted(self, request: Request, limits: Limits | None = None) -> Request:
        """The request with the pages that its input has, and the size of the largest of them.

        Opens the input: only for paths that the owner named, or that were uploaded.

        Args:
            request: of any task; those of others are given back as they are.
            limits: of a visitor; None for the owner.

        Raises:
            BadInput: it cannot be used, has no such pages, or more than a visitor may have read.
        """
        if not isinstance(request, DocumentRequest) or not request.input:
            return request
        path = Path(request.input).expanduser().absolute()
        found = _count(path, request)
        card = find_model(request.model, request.task)
        assert isinstance(card, DocumentCard)
        least = card.size_multiple
        known = request.with_changes(
            input=str(path),
            pages=str(found["pages"]),
            height=max(least, int(str(found["height"]))),
            width=max(least, int(str(found["width"]))),
        )
        if limits is not None:
            check_pages(known, limits)
        return known

    def pages(self, run_id: str, visitor: str) -> Iterator[PageResult]:
        """The pages of a visitor's run that are read, in order, while it runs and afterwards.

        Raises:
            NotFound: the visitor has no such run.
        """
        return self._kept(run_id, visitor).all()

    def page(self, run_id: str, visitor: str, number: int) -> PageResult:
        """One of them.

        Raises:
            NotFound: the visitor has no such run, or the page is not read yet.
        """
        result = self._kept(run_id, visitor).read(number)
        if result is None:
            raise _no_page(number)
        return result

    def picture(self, run_id: str, visitor: str, number: int) -> Path:
        """The kept picture of a page, a JPEG.

        Raises:
            NotFound: the visitor has no such run, or the page is not read yet.
        """
        path = self._kept(run_id, visitor).picture(number)
        if path.is_symlink() or not path.is_file():
            raise _no_page(number)
        return path

    def done(self, run_id: str, visitor: str) -> list[int]:
        """Numbers of the pages that are there.

        Raises:
            NotFound: the visitor has no such run.
        """
        return sorted(self._kept(run_id, visitor).done())

    def resume(self, run_id: str, visitor: str) -> None:
        """Goes on with a run that ended before its last page; pages that are read stay.

        Pages that failed are tried again.

        Raises:
            NotFound: the visitor has no such run.
            NotAllowed: it is no run over pages, or has not ended.
        """
        record = self._runs.record(run_id, visitor)
        if record.request.get("task") != "parse" or record.state not in _ENDED:
            raise NotAllowed(
                Text("There is nothing to go on with.", "没有可以继续的内容。"),
                Text(
                    "Only a document that has ended can be resumed.", "只能继续已结束的文档任务。"
                ),
            )
        self._kept(run_id, visitor).forget_failed()
        self._requeue(record)

    def _kept(self, run_id: str, visitor: str) -> KeptPages:
        return KeptPages(self._outputs.folder(self._runs.record(run_id, visitor).folder))


def _count(path: Path, request: DocumentRequest) -> dict[str, object]:
    """What the counting process says of an input."""
    return ask_apart(
        ["webui.documents", str(path), "--dpi", str(request.dpi), "--pages", str(request.pages)],
        Text(
            "The document cannot be used: its pages cannot be counted.",
            "无法使用这份文档：无法统计页数。",
        ),
        Text(
            "The file may be damaged. Save it anew, or give its pages as pictures.",
            "文件可能已损坏。请重新保存，或以图片形式提供页面。",
        ),
    )


def _no_page(number: int) -> NotFound:
    return NotFound(Text(f"Page {number} is not read yet.", f"第 {number} 页还没有识别。"))
