"""What the upscaling and the documents tabs keep right, asked of their handlers themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.utils import get_upload_folder

from webui.core.errors import BadInput, NotEnoughDisk
from webui.core.job import JobState, JobView
from webui.documents.blocks import PageResult
from webui.documents.kept import KeptPages
from webui.service import Access, Studio
from webui.service.access import LOCAL
from webui.storage import Ledger, Outputs, StudioConfig, files
from webui.ui import api, api_answers, parse_form, upscale_form
from webui.ui import form as forms
from webui.ui.generate import GenerateTab
from webui.ui.page import LIVE_RUNS, Page, Visit
from webui.ui.parse import ParseTab
from webui.ui.parse_controls import build_controls
from webui.ui.parse_input import chosen_input
from webui.ui.parse_viewer import DocumentViewer
from webui.ui.task_controls import build_memory
from webui.ui.upscale import UpscaleTab

ME = Visit(visitor=LOCAL, language="en", owner=True)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    access = Access()
    studio = Studio(tmp_path, access=access, config=StudioConfig(), resume=False)
    yield Page(studio=studio, access=access)
    studio.close()


@pytest.fixture
def tab(page: Page) -> UpscaleTab:
    with gr.Blocks():
        return UpscaleTab(page, build_memory("upscale"))


def recorded(home: Path, job_id: str, state: JobState, **request: Any) -> Path:
    """A run of the past, with its folder."""
    ledger = Ledger(home / "outputs" / "ledger.sqlite")
    folder = Outputs(home / "outputs").new_folder(job_id)
    ledger.record(job_id, LOCAL, request, None, folder.name)
    ledger.set_state(job_id, state)
    ledger.close()
    return folder


def test_an_inputs_sizes_come_back_after_other_settings(tab: UpscaleTab) -> None:
    model = tab.page.upscalers()["swin2sr-demo"]
    form = upscale_form.defaults_of(model) | {"frames": 500, "height": 480, "width": 640}
    facts = {"frames": 20, "height": 32, "width": 64}
    updates = tab.plan_updates(form, ME, {"facts": facts})
    told = {key: updates[tab.controls.fields[key]]["value"] for key in facts}
    assert told == facts and updates[tab.controls.memory].items() >= facts.items()
    assert "128 x 64 px" in updates[tab.controls.size_hint]
    assert tab.controls.fields["width"] not in tab.plan_updates(form, ME, {"facts": {}})


def test_segments_are_told_as_the_cards_share_them(tab: UpscaleTab) -> None:
    model = tab.page.upscalers()["swin2sr-demo"]
    form = upscale_form.defaults_of(model) | {"frames": 480, "card": "h200"}
    shared = form | {forms.SETTING + "gpus": "4"}
    hint = tab.controls.size_hint
    assert "segments" not in tab.plan_updates(form, ME, {"facts": {}})[hint]
    assert "4 segments" in tab.plan_updates(shared, ME, {"facts": {}})[hint]


def received(name: str, folder: Path) -> dict[str, Any]:
    """What gradio's client sends for a file that it has uploaded."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"anything")
    return {"path": str(path), "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def test_uploads_outlast_the_page_while_they_are_there(page: Page, tmp_path: Path) -> None:
    """A switch of the language opens it anew; no other file comes in by what a browser keeps."""
    mine = Path(get_upload_folder()) / tmp_path.name
    with gr.Blocks():
        upscaling = UpscaleTab(page, build_memory("upscale"))
        parsing = ParseTab(page, build_memory("parse"))
        making = GenerateTab(page)
    one, two, other = received("a.mp4", mine), received("b.png", mine), received("c.mp4", tmp_path)
    try:
        for tab, part, given, back in (
            (upscaling, upscaling.controls.file, [one], [one["path"]]),
            (parsing, parsing.controls.files, [two, one], [two["path"], one["path"]]),
            (making, making.controls.pictures["image"], two, two["path"]),
            (upscaling, upscaling.controls.file, [other], None),
            (parsing, parsing.controls.files, [one, other], None),
            (parsing, parsing.controls.files, None, None),
        ):
            left = dict.fromkeys(tab.kept_inputs()) | {part: given}
            left |= {tab.controls.fields["model"]: next(iter(tab.models()))}
            saved = tab.on_leave(left)[tab.controls.memory]
            # Gradio would look into files that a browser sends, and refuse the whole page.
            assert "FileData" not in json.dumps(saved)
            _, updates = tab._loaded(json.loads(json.dumps(saved)), ME)
            assert part in tab.load_outputs()
            assert updates.get(part, {}).get("value") == back
        gone = f"{tmp_path.name}/a.mp4"
        Path(one["path"]).unlink()
        outside = ["../" * 9 + "etc/passwd", "/etc/passwd", "\0", 7, "", tmp_path.name]
        for uploads in ({"file": [gone, *outside]}, {"file": gone}, [gone], "x", None):
            _, updates = upscaling._loaded({"model": "swin2sr-demo", "uploads": uploads}, ME)
            assert upscaling.controls.file not in updates
    finally:
        shutil.rmtree(mine)


@pytest.mark.parametrize("changes", ["{", "[1]", "[" * 100_000])
def test_an_offer_that_is_none_is_refused(tab: UpscaleTab, changes: str) -> None:
    form = upscale_form.defaults_of(tab.page.upscalers()["swin2sr-demo"])
    with pytest.raises(BadInput, match="not valid any more"):
        tab._act({"action": "apply", "changes": changes}, form, ME, {})


@pytest.mark.parametrize("bad", [[], {}])
def test_memories_of_another_shape_do_no_harm(page: Page, bad: Any) -> None:
    readers, upscalers, makers = page.readers(), page.upscalers(), page.models()
    for key in ("model", "card"):
        given: tuple[tuple[Any, Any], ...] = (
            (readers, parse_form.restored),
            (upscalers, upscale_form.restored),
            (makers, forms.restored),
        )
        for models, restore in given:
            saved = {"model": next(iter(models)), key: bad}
            form = restore(saved, models, {"h200"})
            assert form is None if key == "model" else form["card"] == "detected"


def test_pages_are_told_in_parts_and_once(page: Page, tmp_path: Path) -> None:
    folder = recorded(tmp_path, "abc", JobState.DONE, task="parse", pages="1-51")
    kept = KeptPages(folder)
    for number in range(1, 52):
        kept.write(PageResult(number=number, document="a.pdf", page=number))
    told = api._ToldPages(page, "abc", ME)
    parts = [[each["number"] for each in told.new()] for _ in range(3)]
    assert parts == [list(range(1, 51)), [51], []]


def test_pages_of_a_document_that_ended_are_opened_once(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recorded(tmp_path, "abc", JobState.DONE, task="parse", pages="1-9")
    for number in range(1, 10):
        KeptPages(folder).write(PageResult(number=number, document="a.pdf", page=number))
    with gr.Blocks():
        viewer = DocumentViewer(page, build_controls(page, build_memory("parse")))
    updates = viewer.show("abc", ME, {})
    shown, known = updates[viewer.controls.shown], updates[viewer.controls.known]
    opened: list[int] = []
    read = KeptPages.read

    def counted(self: KeptPages, number: int) -> PageResult | None:
        opened.append(number)
        return read(self, number)

    monkeypatch.setattr(KeptPages, "read", counted)
    again = viewer.act({"action": "page", "page": "4"}, ME, shown, known)
    assert opened == [4] and again[viewer.controls.known]["outcomes"] == known["outcomes"]
    # What was known while it was read is not all: pages that came last, or were tried again.
    viewer.act({"action": "page", "page": "4"}, ME, shown, {**known, "final": False})
    assert len(opened) > 2


def test_a_past_document_is_planned_beside_its_measurement(page: Page, tmp_path: Path) -> None:
    recorded(tmp_path, "abc", JobState.DONE, task="parse", pages="1")
    with gr.Blocks():
        tab = ParseTab(page, build_memory("parse"))
    form = parse_form.defaults_of(page.readers()["ocr"])
    state: dict[str, Any] = {"shown": {}, "known": {}}
    updates = tab._act({"action": "show", "run": "abc"}, form, ME, state)
    assert updates[tab.controls.revision] and updates[tab.controls.shown]["run"] == "abc"


def test_a_long_job_behind_many_newer_ones_is_shown(page: Page, tmp_path: Path) -> None:
    recorded(tmp_path, "long", JobState.RUNNING, task="upscale")
    for number in range(LIVE_RUNS + 1):
        recorded(tmp_path, f"n{number}", JobState.QUEUED, task="clip")
    assert [job.id for job in page.live_jobs(LOCAL, "upscale")] == ["long"]
    assert page.live_jobs(LOCAL)[0].id == "long"


def test_a_copy_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    monkeypatch.setattr(files, "free_bytes", lambda folder: 4)
    with pytest.raises(NotEnoughDisk):
        api_answers.downloaded_file(str(tmp_path / "a.mp4"))


@pytest.mark.parametrize("task, unit", [("parse", "pages"), ("upscale", "frames")])
def test_progress_counts_what_the_task_makes(task: str, unit: str) -> None:
    told: list[dict[str, Any]] = []
    job = JobView(id="a", state=JobState.RUNNING, step=1, steps=9, request={"task": task})
    api_answers.report(lambda *_, **named: told.append(named), job, ME)  # type: ignore[arg-type]
    assert told[0]["unit"] == unit


@pytest.mark.parametrize("task, model", [("parse", "ocr"), ("upscale", "swin2sr-demo")])
def test_nobodys_home_is_bad_input(page: Page, task: str, model: str) -> None:
    asked = page.studio.parse({"task": task, "model": model, "input": "~nobody-of-that-name/a"})
    counted = page.studio.documents.counted if task == "parse" else page.studio.videos.counted
    with pytest.raises(BadInput, match="home folder"):
        counted(asked)


def test_nobodys_home_is_bad_input_on_the_page(page: Page) -> None:
    form = {"folder": "~nobody-of-that-name/a"}
    with pytest.raises(BadInput, match="home folder"), chosen_input(page, form, None, ME):
        pass
