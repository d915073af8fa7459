"""Documents in the service: counted before they are planned, kept in the run's folder, resumed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from webui.catalogue import find_model
from webui.core.documents import MAX_PAGES, DocumentCard, DocumentRequest, page_numbers
from webui.core.errors import NotAllowed, NotFound
from webui.core.job import JobState
from webui.core.request import Request
from webui.core.text import Text
from webui.documents.blocks import PageResult
from webui.documents.gathering import gather
from webui.documents.kept import KeptPages
from webui.service.apart import ask_apart
from webui.service.limits import VisitorTurns, check_pages
from webui.service.runs import RunLocks, Runs
from webui.storage import JobRecord, Ledger, Limits, Outputs
from webui.storage.files import check_free, named_path, write_error

_ENDED = (JobState.INTERRUPTED, JobState.CANCELLED, JobState.FAILED, JobState.DONE)
READ, CUT_OFF, FAILED = "read", "cut off", "failed"
"""How a page came out."""
MOST_FOUND = 50
"""Places of a text that are told."""
MOST_SEARCHED = 200
"""Letters of a text that is looked for."""
AROUND = 40
"""Letters on either side of it that are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A place in a document where a text stands."""

    page: int
    block: int
    """Its place on the page, from 0."""
    before: str
    text: str
    after: str


class Documents:
    """What the pages, the API and the command line may do with documents.

    Args:
        runs: who may see which run.
        ledger: of the runs.
        outputs: their folders.
        requeue: queues a recorded run again, within the limits of a visitor; what it is given last
            is done where the queue takes the run, before it starts.
    """

    def __init__(
        self,
        runs: Runs,
        ledger: Ledger,
        outputs: Outputs,
        requeue: Callable[[JobRecord, Limits | None, Callable[[], None]], None],
    ) -> None:
        self._runs, self._ledger, self._outputs = runs, ledger, outputs
        self._requeue = requeue
        self._resuming = RunLocks()
        self._turns = VisitorTurns()

    @contextmanager
    def one_input(self, files: Sequence[tuple[str, Path]], most_bytes: int) -> Iterator[Path]:
        """Files that were uploaded as one input; it is there until the block ends.

        Args:
            files: what each is called, and where it is; one at least.
            most_bytes: of several together.

        Raises:
            BadInput: they cannot be read together.
            NotEnoughDisk: the disk is full.
        """
        if len(files) == 1:
            yield files[0][1]
            return
        root = self._outputs.root
        check_free(root, sum(path.stat().st_size for _, path in files))
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".files-", dir=root) as folder:
            archive = Path(folder) / "files.zip"
            try:
                gather(files, archive, most_bytes)
            except OSError as error:
                raise write_error(archive, error) from error
            yield archive

    def look(self, request: Request, visitor: str, limits: Limits | None) -> Request:
        """Counts an input's pages before anything runs; visitors wait for their turn.

        Args:
            request: of any task; those of others are given back as they are.
            visitor: who asks.
            limits: as for `counted`.

        Raises:
            BadInput: as `counted` does.
            NotAllowed: too many visitors ask at a time.
        """
        if not isinstance(request, DocumentRequest) or not request.input:
            return request
        with self._turns.turn(limits is None, visitor):
            return self.counted(request, limits)

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
        path = named_path(request.input)
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

    def expected(self, run_id: str, visitor: str) -> list[int]:
        """Numbers of the pages that a run is to read.

        Raises:
            NotFound: the visitor has no such run.
        """
        return _expected(self._runs.record(run_id, visitor).request)

    def outcomes(
        self, run_id: str, visitor: str, known: Mapping[int, str] | None = None
    ) -> dict[int, str]:
        """How each page that is there came out: READ, CUT_OFF or FAILED.

        Args:
            run_id: the run.
            visitor: who asks.
            known: an answer of before, whose pages are not opened again.

        Raises:
            NotFound: the visitor has no such run.
        """
        kept, known = self._kept(run_id, visitor), known or {}
        return {
            number: known.get(number) or _outcome(kept.read(number))
            for number in sorted(kept.done())
        }

    def find(self, run_id: str, visitor: str, text: str) -> list[Found]:
        """Where a text stands in the pages that are read, upper case or lower, in order.

        Raises:
            NotFound: the visitor has no such run.
        """
        wanted = " ".join(text[:MOST_SEARCHED].split())
        pages = self._kept(run_id, visitor).all()
        if not wanted:
            return []
        pattern = re.compile(re.escape(wanted), re.IGNORECASE)
        found: list[Found] = []
        for page in pages:
            for place, block in enumerate(page.blocks):
                line = " ".join(block.text.split())
                for match in pattern.finditer(line):
                    found.append(_found(page.number, place, line, match))
                    if len(found) == MOST_FOUND:
                        return found
        return found

    def resume(self, run_id: str, visitor: str, limits: Limits | None = None) -> None:
        """Goes on with a run that ended before its last page; pages that are read stay.

        Pages that failed are tried again.

        Args:
            run_id: the run.
            visitor: whose it is.
            limits: of a visitor; None for the owner.

        Raises:
            NotFound: the visitor has no such run.
            NotAllowed: it is no run over pages, has not ended, goes on already, or has all of its
                pages; or the queue has no place for a visitor.
        """
        with self._resuming.of(run_id):  # or a second one forgets pages while they are read
            self._resume(run_id, visitor, limits)

    def _resume(self, run_id: str, visitor: str, limits: Limits | None) -> None:
        record = self._runs.left_record(run_id, visitor)
        if record.request.get("task") != "parse" or record.state not in _ENDED:
            raise _nothing_left(
                Text("Only a document that has ended can be resumed.", "只能继续已结束的文档任务。")
            )
        outcomes = self.outcomes(run_id, visitor)
        read = {number for number, outcome in outcomes.items() if outcome != FAILED}
        if record.state is JobState.DONE and read >= set(_expected(record.request)):
            raise _nothing_left(Text("All of its pages are read.", "所有页面都已识别。"))
        # A queue that refuses the run leaves it the errors of its pages.
        self._requeue(record, limits, self._kept(run_id, visitor).forget_failed)

    def _kept(self, run_id: str, visitor: str) -> KeptPages:
        return KeptPages(self._outputs.folder(self._runs.record(run_id, visitor).folder))


def _count(path: Path, request: DocumentRequest) -> dict[str, object]:
    """What the counting process says of an input."""
    asked = request.pages  # a number is so many pages, a text is which of them
    pages = f"1-{asked}" if isinstance(asked, int) else asked
    return ask_apart(
        ["webui.documents", str(path), "--dpi", str(request.dpi), "--pages", pages],
        Text(
            "The document cannot be used: its pages cannot be counted.",
            "无法使用这份文档：无法统计页数。",
        ),
        Text(
            "The file may be damaged. Save it anew, or give its pages as pictures.",
            "文件可能已损坏。请重新保存，或以图片形式提供页面。",
        ),
    )


def _expected(request: Mapping[str, object]) -> list[int]:
    pages = request.get("pages")
    return page_numbers(pages, MAX_PAGES) if isinstance(pages, int | str) else []


def _outcome(page: PageResult | None) -> str:
    if page is None or page.error is not None:
        return FAILED
    return CUT_OFF if page.cut_off else READ


def _found(page: int, block: int, line: str, match: re.Match[str]) -> Found:
    start, end = match.span()
    return Found(
        page=page,
        block=block,
        before=("…" if start > AROUND else "") + line[max(0, start - AROUND) : start],
        text=line[start:end],
        after=line[end : end + AROUND] + ("…" if end + AROUND < len(line) else ""),
    )


def _nothing_left(hint: Text) -> NotAllowed:
    return NotAllowed(Text("There is nothing to go on with.", "没有可以继续的内容。"), hint)


def _no_page(number: int) -> NotFound:
    return NotFound(Text(f"Page {number} is not read yet.", f"第 {number} 页还没有识别。"))
