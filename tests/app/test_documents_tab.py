"""The documents tab through its own events: counted, read, searched, resumed, and by whom."""

from __future__ import annotations

import io
import re
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image, ImageDraw, ImageFont

from tests.app.events import Refused, Visitor
from tests.app.running import ROOT, RunningStudio

WAIT_S = 120
LOCKED = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\n"
    b"4 0 obj<</Filter/Standard/V 1/R 2/P -44/O<" + b"41" * 32 + b">/U<" + b"42" * 32
    + b">>>endobj\ntrailer<</Root 1 0 R/Size 5/Encrypt 4 0 R"
    b"/ID[<41414141414141414141414141414141><41414141414141414141414141414141>]>>\n%%EOF"
)  # fmt: skip


def sheet(text: str = "", size: tuple[int, int] = (420, 160)) -> Image.Image:
    page = Image.new("RGB", size, "white")
    ImageDraw.Draw(page).text((30, 50), text, fill="black", font=ImageFont.load_default(40))
    return page


def saved(page: Image.Image, kind: str, *more: Image.Image) -> bytes:
    file = io.BytesIO()
    several: dict[str, Any] = {"save_all": True, "append_images": more} if more else {}
    page.save(file, kind, **several)
    return file.getvalue()


def choose(visitor: Visitor, **files: bytes) -> dict[str, Any]:
    """Puts files into the field, as a browser does; `_` in a name stands for its dot."""
    sent = [visitor.send(content, name.replace("_", ".")) for name, content in files.items()]
    visitor.values["parse-files"] = sent
    return visitor.trigger("parse-files", "change")


def read(visitor: Visitor, run_id: str = "") -> str:
    """Reads what is chosen to the end, or waits for a run; gives its id."""
    if not run_id:
        shown = visitor.trigger("parse-run", "click")
        found = re.search(r'data-job="(\w+)"', shown["parse-jobs"])
        assert found, shown
        run_id = found[1]
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        shown = visitor.trigger("parse-recent", "click", action="show", run=run_id)
        if "Running" not in shown["parse-document"] and "Waiting" not in shown["parse-document"]:
            return run_id
        time.sleep(0.2)
    raise AssertionError(shown)


@pytest.fixture(scope="module")
def owner(studio: RunningStudio) -> Visitor:
    return Visitor(studio, "documents-owner")


@pytest.fixture(scope="module")
def run_id(owner: Visitor) -> str:
    """Two pictures and a PDF of a page, chosen together."""
    pdf = saved(sheet("Third page < 3"), "PDF")
    pages = {"b10_png": saved(sheet("And the second"), "PNG")}
    shown = choose(owner, **pages, b2_png=saved(sheet("First page here"), "PNG"), c_pdf=pdf)
    assert "3 pages" in shown["parse-input-hint"] and "vs-fits" in shown["parse-panel"]
    return read(owner)


def test_several_files_are_one_document_page_by_page(owner: Visitor, run_id: str) -> None:
    shown = owner.trigger("parse-recent", "click", action="show", run=run_id)
    assert "3 of 3 pages read" in shown["parse-document"] and "b2.png" in shown["parse-document"]
    page = shown["parse-reader"]
    assert "First page here" in page and "And the second" not in page
    assert page.count('class="vs-box"') == page.count('class="vs-block"') == 1
    assert f"studio/pages/{run_id}/1" in page
    last = owner.trigger("parse-pager", "click", action="page", page="3")
    assert "Third page &lt; 3" in last["parse-reader"] and "c.pdf" in last["parse-document"]
    source = owner.trigger("parse-reader", "click", action="view", view="json")
    assert "&quot;blocks&quot;" in source["parse-reader"] and 'vs-block"' not in last["parse-pager"]


def test_words_are_found_on_all_pages_and_lead_to_their_block(owner: Visitor, run_id: str) -> None:
    owner.trigger("parse-recent", "click", action="show", run=run_id)
    owner.values["parse-search"] = "page"
    found = owner.trigger("parse-search", "submit")["parse-found"]
    assert re.findall(r'data-page="(\d)" data-place="(\d)"', found) == [("1", "0"), ("3", "0")]
    assert "Third <mark>page</mark> &lt; 3" in found
    hit = owner.trigger("parse-found", "click", action="hit", page="3", place="0")
    assert 'data-marked="0"' in hit["parse-reader"] and "Third page" in hit["parse-reader"]
    owner.values["parse-search"] = "<b>nowhere"
    assert "&lt;b&gt;nowhere" in owner.trigger("parse-search", "submit")["parse-found"]


def test_the_measurement_stands_beside_the_plan(owner: Visitor, run_id: str) -> None:
    owner.trigger("parse-recent", "click", action="show", run=run_id)
    owner.values["parse-revision"] = "again"
    assert "vs-measured-text" in owner.trigger("parse-revision", "change")["parse-panel"]
    owner.values["parse-max-pixels"] = 1024 * 1024
    assert "vs-measured-text" not in owner.trigger("parse-max-pixels", "input")["parse-panel"]


def test_a_document_is_resumed_without_reading_its_pages_again(
    studio: RunningStudio, owner: Visitor, run_id: str, client: Client
) -> None:
    folder = next((studio.home / "outputs").glob(f"*-{run_id}")) / "pages"
    before = (folder / "1.json").stat().st_mtime_ns
    (folder / "2.json").unlink()
    shown = owner.trigger("parse-recent", "click", action="show", run=run_id)
    assert "2 of 3 pages" in shown["parse-document"]
    assert 'data-action="resume"' in shown["parse-document"]
    waiting = owner.trigger("parse-pager", "click", action="page", page="2")
    assert "was not read" in waiting["parse-reader"]
    owner.trigger("parse-document", "click", action="resume", run=run_id)
    read(owner, run_id)
    assert (folder / "1.json").stat().st_mtime_ns == before
    (folder / "3.json").unlink()
    job = client.submit(id=run_id, api_name="/resume")
    assert job.result(timeout=WAIT_S)["state"] == "done"
    told = [page["number"] for answer in job.outputs() for page in answer.get("pages", ())]
    assert sorted(told) == [1, 2, 3]
    with pytest.raises(AppError, match="All of its pages are read"):
        client.predict(id=run_id, api_name="/resume")


def test_a_model_that_writes_shows_what_it_takes_and_offers(owner: Visitor) -> None:
    owner.values["parse-model"] = "logics-parsing-v1"
    shown = owner.trigger("parse-model", "input")
    assert shown["parse-new-tokens"]["visible"] and shown["parse-max-pixels"]["value"] == 1048576
    assert "not on this machine" in shown["parse-weights"]
    owner.values |= {"parse-card": "rtx-4090", "parse-largest": True}
    planned = owner.trigger("parse-largest", "input")
    phases = re.findall(r'data-phase="(\w+)"', planned["parse-panel"])
    assert {"vision", "prefill", "generate"} <= set(phases)
    assert "max_pixels: auto became" in planned["parse-panel"]
    refused = owner.trigger("parse-run", "click")
    assert 'role="alert"' in refused["parse-message"]
    owner.values |= {"parse-model": "ocr", "parse-card": "detected", "parse-largest": False}
    owner.trigger("parse-model", "input")


def test_the_guides_cards_and_past_documents_open_in_the_tab(owner: Visitor, run_id: str) -> None:
    """A preset of a guide's table fills the form; the history leads to the pages."""
    owner.values["config-editor"] = (ROOT / "presets" / "documents-12gb.yaml").read_text()
    used = owner.trigger("config-actions", "click", action="use")
    assert used["studio-tabs"]["selected"] == "documents"
    assert used["parse-max-pixels"]["value"] == 524288 and used["parse-new-tokens"]["value"] == 1024
    assert used["parse-precision"]["value"] == "fp16"
    assert used["parse-card"]["value"] == "rtx-3060-12gb"
    past = owner.trigger("history-cards", "click", action="read", run=run_id)
    assert past["studio-tabs"]["selected"] == "documents" and "First page" in past["parse-reader"]
    again = owner.trigger("history-cards", "click", action="again", run=run_id)
    assert again["parse-model"]["value"] == "ocr"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("locked_pdf", LOCKED, "has a password"),
        ("broken_pdf", b"%PDF-1.4 nothing", "not a whole PDF"),
        ("bomb_png", saved(Image.new("1", (30_000, 30_000)), "PNG"), "more than 100 million"),
        ("a_zip", b"PK no archive", "not a whole ZIP"),
        ("text_txt", b"plain", "holds no pages"),
    ],
)
def test_bad_files_are_told_when_they_are_chosen(
    owner: Visitor, name: str, content: bytes, says: str
) -> None:
    assert says in choose(owner, **{name: content})["parse-message"]
    # The form stays, and the plan is for one page again.
    assert "Planned for one page" in owner.trigger("parse-dpi", "release")["parse-input-hint"]
    assert says in owner.trigger("parse-run", "click")["parse-message"]


def test_a_page_that_fails_is_listed_and_the_others_are_read(owner: Visitor) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../1.png", saved(sheet("Good page"), "PNG"))
        archive.writestr("../2.png", b"no picture")
        archive.writestr("3.png", saved(sheet(), "PNG"))
    assert "3 pages" in choose(owner, a_zip=packed.getvalue())["parse-input-hint"]
    run = read(owner)
    shown = owner.trigger("parse-recent", "click", action="show", run=run)
    assert "2 of 3 pages read" in shown["parse-document"]
    assert "Could not be read:" in shown["parse-document"] and "Good page" in shown["parse-reader"]
    failed = owner.trigger("parse-document", "click", action="page", page="2")
    assert "not a whole picture" in failed["parse-reader"]
    blank = owner.trigger("parse-pager", "click", action="page", page="3")
    assert "Nothing was found on this page" in blank["parse-reader"]
    both = choose(owner, a_zip=packed.getvalue(), b_png=saved(sheet("x"), "PNG"))
    assert "cannot be read together" in both["parse-message"]
    gone = owner.trigger("parse-document", "click", action="delete", run=run)
    assert "parse-reader" in gone and run not in gone["parse-recent"]


@pytest.fixture(scope="module")
def strangers(public_studio: RunningStudio) -> Iterator[Callable[[str], Visitor]]:
    def stranger(letter: str) -> Visitor:
        return Visitor(public_studio, f"documents-{letter}", f"studio_visitor={letter * 32}")

    yield stranger


def test_visitors_see_only_their_own_pages_and_name_no_folders(
    public_studio: RunningStudio, strangers: Callable[[str], Visitor], tmp_path: Path
) -> None:
    mine, other = strangers("a"), strangers("b")
    choose(mine, a_png=saved(sheet("Only mine"), "PNG"))
    run = read(mine)
    assert "Only mine" in str(mine.trigger("parse-recent", "click", action="show", run=run))
    for action in ("show", "resume", "delete", "again"):
        answer = str(other.trigger("parse-document", "click", action=action, run=run))
        assert "There is no run" in answer and "Only mine" not in answer
    address = f"{public_studio.address}/studio/pages/{run}/1"
    for letter, seen in (("a", 200), ("b", 404)):
        request = urllib.request.Request(
            address, headers={"Cookie": f"studio_visitor={letter * 32}"}
        )
        try:
            with urllib.request.urlopen(request) as picture:
                status = picture.status
        except urllib.error.HTTPError as error:
            status = error.code
        assert status == seen
    (tmp_path / "1.png").write_bytes(saved(sheet("secret"), "PNG"))
    other.values["parse-folder"] = str(tmp_path)
    for event in (("parse-folder", "submit"), ("parse-run", "click")):
        assert "Only the owner" in other.trigger(*event)["parse-message"]
    other.values |= {"parse-folder": "", "parse-files": [{"path": str(tmp_path / "1.png"),
                     "meta": {"_type": "gradio.FileData"}}]}  # fmt: skip
    with pytest.raises(Refused):
        other.trigger("parse-files", "change")


def test_the_owner_reads_a_folder_where_it_lies(owner: Visitor, tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(saved(sheet(f"Scan {number}"), "PNG"))
    owner.values |= {"parse-files": None, "parse-folder": str(tmp_path), "parse-pages": "2"}
    assert "1 page of 420" in owner.trigger("parse-folder", "submit")["parse-input-hint"]
    run = read(owner)
    assert "Scan 2" in str(owner.trigger("parse-recent", "click", action="show", run=run))
