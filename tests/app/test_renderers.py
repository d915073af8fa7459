"""What the page shows in words, from its renderers alone: no app runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from webui.catalogue import find_model, models_of
from webui.core.clip import ClipCard
from webui.core.errors import BadInput
from webui.core.job import JobState
from webui.core.parse import parse_request
from webui.core.work import WorkerRecord, WorkRecord
from webui.hardware import load_cards
from webui.hardware.readings import ProcessReading
from webui.service.compare import Column
from webui.ui import form as forms
from webui.ui import job_panel
from webui.ui.cards import render_known
from webui.ui.compare import CompareTab
from webui.ui.compare_view import render_comparison
from webui.ui.device_panels import _process
from webui.ui.phase_bars import seconds_text
from webui.ui.results import describe, render_result
from webui.ui.work_view import render_work

SETTINGS = {"precision": "bf16", "offload": "leaf", "quantization": "none", "vae_tiling": False}


def _run(**request: object) -> Any:
    return SimpleNamespace(
        id="a", created="2026-11-27T10:20:30", state=JobState.DONE, error=None,
        receipt=None, outputs=(), input_name="",
        request={"model": "demo", "width": 96, "height": 64, "frames": 9, **request},
    )  # fmt: skip


def test_a_run_is_named_by_the_settings_that_are_not_the_default() -> None:
    title = CompareTab._title(_run(prompt="a circle", settings=SETTINGS), "zh")
    assert title.startswith("11-27 10:20 · demo · 96x64x9 · ")
    assert "权重卸载：leaf" in title and title.endswith(" · a circle")
    assert "量化" not in title and "false" not in title and "none" not in title


def test_differences_have_the_labels_of_the_form() -> None:
    differs = {"height": 64, "width": 96, "steps": 2, "precision": "bf16"}
    columns = [Column(run=_run(), differs=differs)]  # type: ignore[arg-type]
    shown = render_comparison(columns, "zh")
    assert "分辨率：96x64 · 步数：2 · 精度：bf16" in shown
    assert "Resolution: 96x64 · Steps: 2 · Precision: bf16" in render_comparison(columns, "en")


def test_several_clips_are_shown_with_their_seeds_and_each_can_be_saved() -> None:
    run = _run(fps=8, steps=2, seed=2**32 - 1, batch=2, prompt="<b>")
    run.outputs = (Path("clip-1.mp4"), Path("clip-2.mp4"))
    run.receipt = SimpleNamespace(
        outputs=("outputs/r/clip-1.mp4", "outputs/r/clip-2.mp4"), attempts=(), measurement=None
    )
    shown = render_result(run, "en")
    assert shown.count("<video") == 2 and "2 clips" in shown and "<b></p>" not in shown
    # After the largest seed comes 0.
    assert "seed 4294967295</figcaption>" in shown and "seed 0</figcaption>" in shown
    assert "Download 1<" in shown and "Download 2<" in shown
    assert "下载第 2 个" in render_result(run, "zh")


def test_a_run_is_named_by_the_file_that_it_was_given() -> None:
    video, document = _run(task="upscale", scale=2), _run(task="parse", pages=3)
    video.input_name, document.input_name = "a<b>.mp4", "letter.pdf"
    assert "a&lt;b&gt;.mp4 · 96 x 64 px → 192 x 128 px" in render_result(video, "en")
    assert '<p class="vs-prompt">letter.pdf</p>' in render_result(document, "zh")


@pytest.mark.parametrize(
    ("units", "en", "zh"),
    [
        (
            57,
            "57 of 100 frames in 40 s, estimated for all 1 min 00 s",
            "100 帧中的 57 帧用时 40 秒",
        ),
        (100, "40 s, estimated 1 min 00 s", "用时 40 秒，预计 1 分 00 秒"),
    ],
)
def test_a_run_that_made_a_part_says_which(units: int, en: str, zh: str) -> None:
    """A worker was lost: what it did took time too."""
    worker = WorkerRecord(
        device="card", pieces=1, units=units, work_s=30.0, load_s=1.0, lost=1, lost_s=10.0
    )
    run = _run(task="upscale", scale=2)
    run.receipt = SimpleNamespace(
        plan={"seconds": 60.0}, attempts=(), outputs=(),
        measurement=SimpleNamespace(seconds=20.0),
        work=WorkRecord(
            unit="frames", elapsed_s=45.0, joining_s=0.0, workers=(worker,), whole=100
        ),
    )  # fmt: skip
    assert en in describe(run, "en") and zh in describe(run, "zh")


def test_durations_are_in_the_language_of_the_page() -> None:
    assert seconds_text(0.001, "zh") == "≤ 0.01 秒" and seconds_text(0.001, "en") == "≤ 0.01 s"
    assert seconds_text(0.25, "zh") == "0.25 秒" and seconds_text(109, "zh") == "1 分 49 秒"


def test_bytes_of_what_holds_no_tensors_are_not_compared() -> None:
    assert job_panel._bytes(0, 0, False, "en") == "–"
    assert job_panel._bytes(0, 512, False, "en").startswith("0 B → 512 B")
    assert job_panel._bytes(1024, None, False, "en") == "1 KiB → –"


def test_a_limit_below_zero_is_refused_and_not_left_out() -> None:
    model = models_of(ClipCard)["demo"]
    form = forms.defaults_of(model)
    assert "vram_gib" not in forms.request_data(form, model)
    with pytest.raises(BadInput) as refused:
        parse_request(forms.request_data(form | {"vram_gib": -3}, model), find_model)
    assert refused.value.field == "vram_gib"


def test_a_process_without_a_name_is_named_once() -> None:
    assert _process(ProcessReading(pid=99, name="", used_bytes=None), None, "en") == "process 99"


def test_the_known_cards_are_folded() -> None:
    shown = render_known(load_cards().values(), "en")
    assert f"<summary>{len(load_cards())} cards</summary>" in shown


def test_who_did_what_is_a_row_for_each_gpu() -> None:
    def worker(**keys: Any) -> WorkerRecord:
        given: dict[str, Any] = {
            "device": "<i>card", "pieces": 2, "units": 300, "work_s": 10.0, "load_s": 4.0,
        }  # fmt: skip
        return WorkerRecord(**given | keys)

    both = (worker(), worker(lost=1, lost_units=7, writing_s=5.0))
    work = WorkRecord(unit="frames", elapsed_s=15.0, joining_s=1.0, workers=both)
    shown = render_work(work, "en")
    assert shown.count("<tr>") == 3 and "GPU 2 · &lt;i&gt;card" in shown and "<i>" not in shown
    assert "<td>300</td><td>30</td>" in shown and "7 frames were made again" in shown
    assert "25% of the time the model waited for the encoder" in shown
    assert "重做了 7 帧" in render_work(work, "zh")
    alone = WorkRecord(unit="frames", elapsed_s=15.0, joining_s=1.0, workers=both[:1])
    assert render_work(alone, "en") == "" == render_work(None, "en")
