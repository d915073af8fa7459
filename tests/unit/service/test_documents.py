"""Documents through the service: from a file to its blocks, on a real worker with the real OCR."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.unit.service.following import OWNER, finish
from webui.catalogue import find_model
from webui.client import WorkerProcess
from webui.core.documents import ScanRequest
from webui.core.errors import BadInput, NotAllowed, NotFound, WorkerLost
from webui.core.job import JobState
from webui.core.pages import PageRequest
from webui.core.parse import parse_request
from webui.core.text import Text
from webui.documents.blocks import PageResult
from webui.documents.kept import KeptPages
from webui.service import Studio
from webui.service.page_work import PagePieces
from webui.service.piece_work import PieceWork
from webui.storage import Limits

VISITOR = "visitor:a"


def sheet(text: str) -> Image.Image:
    page = Image.new("RGB", (420, 160), "white")
    ImageDraw.Draw(page).text((30, 50), text, fill="black", font=ImageFont.load_default(40))
    return page


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pages with words, one that is no picture, and a blank one."""
    folder = tmp_path_factory.mktemp("pages")
    sheet("Hello page one").save(folder / "1.png")
    sheet("Second page 42").save(folder / "3.tif")
    Image.new("RGB", (200, 200), "white").save(folder / "4.png")
    with zipfile.ZipFile(folder / "batch.zip", "w") as packed:
        for name in ("1.png", "3.tif", "4.png"):
            packed.write(folder / name, f"../{name}")
        packed.writestr("2.jpg", b"no picture")
    return folder / "batch.zip"


@pytest.fixture(scope="module")
def read(hosted: Studio, archive: Path) -> str:
    """A run of it, as a visitor's who uploaded it."""
    request = hosted.parse({"task": "parse", "model": "ocr", "input": str(archive)})
    job_id = hosted.submit(request, VISITOR)
    view = finish(hosted, job_id, VISITOR)
    assert view.state is JobState.DONE, view.error
    return job_id


def test_a_batch_becomes_one_document(hosted: Studio, read: str) -> None:
    pages: list[PageResult] = list(hosted.documents.pages(read, VISITOR))
    assert [page.text for page in pages] == ["Hello page one", "", "Second page 42", ""]
    assert [page.document for page in pages] == ["1.png", "2.jpg", "3.tif", "4.png"]
    assert [page.error is not None for page in pages] == [False, True, False, False]
    box = pages[0].blocks[0].box
    assert box is not None
    left, top, right, bottom = box
    assert abs(left - 30) < 20 and top < 70 and 250 < right < 420 and bottom < 130
    run = hosted.run(read, VISITOR)
    files = {path.name: path for path in run.outputs}
    assert run.thumbnail is not None
    data = json.loads(files["document.json"].read_text())
    assert [page["number"] for page in data["pages"]] == [1, 2, 3, 4]
    assert "Hello page one" in files["document.md"].read_text()
    assert "default-src 'none'" in files["document.html"].read_text()
    assert zipfile.ZipFile(files["document.zip"]).testzip() is None
    receipt = run.receipt
    assert [phase.name for phase in receipt.measurement.phases] == ["read"]
    assert receipt.request["pages"] == "1-4" and receipt.request["input"] == "input-document.zip"
    assert hosted.documents.picture(read, VISITOR, 3).is_file()


def test_others_see_nothing_of_it(hosted: Studio, read: str) -> None:
    for ask in (hosted.documents.done, hosted.documents.resume):
        with pytest.raises(NotFound):
            ask(read, "visitor:b")
    with pytest.raises(NotFound):
        hosted.documents.picture(read, VISITOR, 2)


def test_what_is_read_is_not_read_again(hosted: Studio, read: str) -> None:
    folder = next((hosted.home / "outputs").glob(f"*-{read}"))
    kept = KeptPages(folder)
    marked = {n: (folder / "pages" / f"{n}.json").stat().st_mtime_ns for n in (1, 4)}
    (folder / "pages" / "3.json").unlink()
    hosted.documents.resume(read, VISITOR)
    assert finish(hosted, read, VISITOR).state is JobState.DONE
    assert kept.read(3).text == "Second page 42" and kept.read(2).error is not None
    assert marked == {n: (folder / "pages" / f"{n}.json").stat().st_mtime_ns for n in (1, 4)}


def test_a_queue_that_refuses_leaves_the_errors_of_pages(
    hosted: Studio, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptPages(next((hosted.home / "outputs").glob(f"*-{read}")))
    hosted._ledger.set_state(read, JobState.CANCELLED)
    hosted._ledger.record("waits", VISITOR, {}, None, "none")
    try:
        with pytest.raises(NotAllowed, match="1 jobs waiting"):
            hosted.documents.resume(read, VISITOR, Limits(max_queued_per_user=1))
        assert kept.read(2).error is not None
        # Another process took the run after it was looked at.
        monkeypatch.setattr(hosted._ledger, "requeue", lambda job: False)
        with pytest.raises(NotAllowed, match="goes on already"):
            hosted.documents.resume(read, VISITOR)
        assert kept.read(2).error is not None
    finally:
        hosted._ledger.set_state("waits", JobState.CANCELLED)
        hosted._ledger.set_state(read, JobState.DONE)


def test_bad_documents_are_refused_before_anything_runs(hosted: Studio, tmp_path: Path) -> None:
    def refusal(path: Path, visitor: str = OWNER, **keys: object) -> BadInput:
        request = hosted.parse({"task": "parse", "model": "ocr", "input": str(path), **keys})
        with pytest.raises(BadInput) as caught:
            hosted.submit(request, visitor)
        return caught.value

    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 no")
    assert "whole PDF" in refusal(tmp_path / "broken.pdf").message.en
    many = sheet("x").convert("1")
    many.save(tmp_path / "many.tif", save_all=True, append_images=[many] * 200)
    assert refusal(tmp_path / "many.tif", VISITOR).field == "pages"
    assert "has 201" in refusal(tmp_path / "many.tif", pages="202").message.en
    with pytest.raises(BadInput) as caught:
        hosted.submit(hosted.parse({"task": "parse", "model": "ocr"}), VISITOR)
    assert caught.value.field == "input"


class Hands:
    """A worker that keeps pages as one does, and is lost on some of them."""

    def __init__(self, folder: Path, lost_on: dict[int, int]) -> None:
        self.kept, self.lost_on = KeptPages(folder), lost_on
        self.turns: list[list[int]] = []

    def run(self, job, on_event=None):
        self.turns.append(list(job["pages"]))
        for number in job["pages"]:
            if self.lost_on.get(number, 0):
                self.lost_on[number] -= 1
                raise WorkerLost(Text("lost", "丢失"))
            self.kept.write(PageResult(number=number, document="a.pdf", page=number))
            on_event({"event": "page", "id": job["id"], "number": number, "error": None})
        return {"event": "result", "id": job["id"], "measurement": None}


def work(folder: Path, workers: list[Hands], pages: str = "1-6", batch: int = 1):
    keys = {"task": "parse", "model": "logics-parsing-v1", "input": "a.pdf", "pages": pages}
    request = parse_request(keys, find_model)
    assert isinstance(request, PageRequest)
    told: list[tuple[int, int]] = []
    done = PieceWork(
        PagePieces(request, folder), [partial(next, repeat(hands)) for hands in workers]
    ).run(
        {"id": "job", "settings": {"page_batch": batch}},
        lambda event: told.append((event["done"], event["of"])) if "of" in event else None,
    )
    return done, told


def test_a_lost_workers_pages_are_done_again_and_one_that_kills_is_left_out(tmp_path: Path) -> None:
    hands = Hands(tmp_path, {3: 1, 5: 9})
    done, told = work(tmp_path, [hands])
    assert done["event"] == "result" and "document.zip" in done["outputs"]
    assert hands.turns == [[1, 2, 3, 4, 5, 6], [3, 4, 5, 6], [5, 6], [6]]
    pages = list(hands.kept.all())
    assert [page.number for page in pages] == [1, 2, 3, 4, 5, 6]
    assert [page.number for page in pages if page.error is not None] == [5]
    assert told[-1] == (6, 6)  # the page that was left out counts as done


def test_pages_are_shared_between_workers_in_their_order(tmp_path: Path) -> None:
    several = [Hands(tmp_path, {}), Hands(tmp_path, {2: 1})]
    done, told = work(tmp_path, several, batch=2)
    turns = [turn for hands in several for turn in hands.turns]
    assert done["event"] == "result" and {n for turn in turns for n in turn} == set(range(1, 7))
    assert all(len(turn) <= 3 for turn in turns) and len(told) == 6
    numbers = [page["number"] for page in json.loads(
        (tmp_path / "document.json").read_text())["pages"]]  # fmt: skip
    assert numbers == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_two_real_workers_share_a_document_and_one_may_be_lost(
    on_processor: None, archive: Path, tmp_path: Path
) -> None:
    keys = {"task": "parse", "model": "ocr", "input": str(archive), "pages": "1-4"}
    request = parse_request(keys, find_model)
    assert isinstance(request, ScanRequest)
    log = tmp_path / "worker.log"
    first, second = (WorkerProcess(log, device="cpu", threads=1) for _ in range(2))
    killed: list[int] = []

    def make(worker: WorkerProcess) -> WorkerProcess:
        worker.start()
        return worker

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "page" and not killed:
            killed.append(event["number"])
            second.kill()

    job = {"id": "job", "request": request.to_json(), "settings": {}, "output_dir": str(tmp_path)}
    weights = {"kind": "embedded", "folder": ""}
    with first, second:
        done = PieceWork(
            PagePieces(request, tmp_path), [partial(make, first), partial(make, second)]
        ).run({**job, "weights": weights}, on_event)
    assert killed and done["event"] == "result" and done["partial"]
    pages = list(KeptPages(tmp_path).all())
    assert [page.text for page in pages] == ["Hello page one", "", "Second page 42", ""]
    assert sum(phase["seconds"] for phase in done["measurement"]["phases"]) > 0


def test_a_run_without_a_page_that_could_be_read_has_failed(tmp_path: Path) -> None:
    done, _ = work(tmp_path, [Hands(tmp_path, {1: 9})], pages="1")
    assert done["event"] == "failed" and done["error"]["type"] == "WorkerLost"


def test_only_documents_are_resumed(hosted: Studio, read: str) -> None:
    with pytest.raises(NotAllowed):
        hosted._ledger.set_state(read, JobState.RUNNING)
        try:
            hosted.documents.resume(read, VISITOR)
        finally:
            hosted._ledger.set_state(read, JobState.DONE)
