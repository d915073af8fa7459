"""The memory panel's button: how far the card goes, on request, and in offers that fit."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from webui.core.errors import NotAllowed
from webui.core.receipt import Measurement, PhaseMeasurement, Receipt
from webui.core.units import format_bytes
from webui.service import Access, Studio
from webui.service.access import LOCAL
from webui.service.limits import VisitorTurns
from webui.service.questions import Questions, has_limits
from webui.storage import StudioConfig
from webui.ui import form as forms
from webui.ui import parse_form, upscale_form
from webui.ui.page import Page, Visit
from webui.ui.panel_content import content_of_plan
from webui.ui.plan_panel import limits_of, limits_panel, plan_panel


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    access = Access()
    studio = Studio(tmp_path, access=access, config=StudioConfig(), resume=False)
    yield Page(studio=studio, access=access)
    studio.close()


def test_visitors_wait_for_a_turn_and_the_owner_does_not(page: Page) -> None:
    model = page.models()["demo"]
    form = forms.defaults_of(model) | {"card": "rtx-4090"}
    turns = VisitorTurns(at_once=1, wait_s=0.05)
    page.studio.questions = Questions(page.studio._planner, turns)
    asks = {
        owner: partial(
            limits_panel, page, form, {}, model, Visit(visitor="", language="en", owner=owner)
        )
        for owner in (True, False)
    }
    with turns.turn(owner=False):
        with pytest.raises(NotAllowed, match="busy"):
            asks[False]()
        assert "frames fit" in asks[True]()
    assert "frames fit" in asks[False]()


@pytest.mark.parametrize(
    ("language", "words"), [("en", ("frames fit", "smallest card")), ("zh", ("帧", "最小的显卡"))]
)
def test_what_the_button_finds_can_be_applied(
    page: Page, language: str, words: tuple[str, ...]
) -> None:
    visit = Visit(visitor=LOCAL, language=language, owner=True)
    model = page.models()["wan2.1-t2v-1.3b"]
    form = forms.defaults_of(model) | {"prompt": "", "card": "rtx-3060-12gb", "vram_gib": 6}
    request = page.studio.parse(forms.request_data(form, model))
    before = plan_panel(page, page.studio.plan(request), visit, None)
    assert 'data-action="limits"' in before and not any(word in before for word in words)
    after = limits_panel(page, form, {}, model, visit)
    assert 'data-action="limits"' not in after
    assert all(word in after for word in words)
    offered = [json.loads(html.unescape(text)) for text in re.findall(r'changes="([^"]+)"', after)]
    assert [set(changes) for changes in offered] == [
        {"frames"}, {"width", "height"}, {"card", "vram_gib"},
    ]  # fmt: skip
    for changes in offered:
        changed = forms.with_changes(form, changes)
        assert page.studio.plan(page.studio.parse(forms.request_data(changed, model))).fits


def test_a_run_stands_beside_what_was_told_before_it(page: Page) -> None:
    """The plan of now has learned from the run: compared with it, every estimate were right."""
    plan = page.studio.plan(page.studio.parse({"model": "demo", "frames": 9}))
    told = plan.to_json() | {"seconds": 12.5}
    phases = tuple(
        PhaseMeasurement(
            name=phase.name, resident_bytes=0, allocated_bytes=1, reserved_bytes=0, seconds=1.0
        )
        for phase in plan.estimate.phases
    )
    measurement = Measurement(
        phases=phases, peak_allocated_bytes=1, peak_reserved_bytes=0, peak_device_bytes=0,
        host_bytes=1, seconds=3.0, load_seconds=0.0, source="cpu",
    )  # fmt: skip
    receipt = Receipt(
        id="a", request=plan.request.to_json(), plan=told, measurement=measurement, outputs=()
    )
    shown = content_of_plan(plan, "this processor", True, receipt)
    assert shown.estimate["seconds"] == 12.5 and shown.measurement is not None
    assert list(shown.reasons) == [each for each in plan.reasons if each not in shown.notes]
    assert content_of_plan(plan, "this processor", True).estimate == plan.to_json()


@pytest.mark.parametrize(
    ("language", "of_host", "whole_process"),
    [("en", "of host memory · ", "whole process"), ("zh", "主机内存 ", "整个进程")],
)
def test_an_engine_without_tensors_shows_the_memory_of_the_process(
    page: Page, language: str, of_host: str, whole_process: str
) -> None:
    visit = Visit(visitor=LOCAL, language=language, owner=True)
    request = page.studio.parse({"task": "parse", "model": "ocr", "card": "cpu"})
    plan = page.studio.plan(request, True)
    panel = plan_panel(page, plan, visit, None, limits=False)
    estimated = format_bytes(plan.estimate.host_bytes)
    (row,) = re.findall(r'<span class="vs-figure">(.+?)</span>', panel)
    assert of_host in row and estimated in row and whole_process in panel
    bars = [float(width) for width in re.findall(r'class="vs-resident" style="width:(.+?)%', panel)]
    assert bars and min(bars) > 1 and ">0 B" not in panel
    # A run's own peak stands beside it.
    measured = Measurement(
        phases=(
            PhaseMeasurement(
                name="read", resident_bytes=0, allocated_bytes=0, reserved_bytes=0, seconds=2.0
            ),
        ),
        peak_allocated_bytes=0, peak_reserved_bytes=0, peak_device_bytes=0,
        host_bytes=plan.estimate.host_bytes * 2, seconds=2.0, load_seconds=0.0, source="cpu",
    )  # fmt: skip
    receipt = Receipt(
        id="r",
        request=plan.request.to_json(),
        plan=plan.to_json(),
        measurement=measured,
        outputs=(),
    )
    told = plan_panel(page, plan, visit, receipt, limits=False)
    assert f"{format_bytes(measured.host_bytes)} (+100 %)" in told


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("pages at once", "without tiles", "a tile", "smallest card")),
        ("zh", ("同时", "不分块", "每块边长", "最小的显卡")),
    ],
)
def test_documents_and_upscaling_say_how_far_the_card_goes(
    page: Page, language: str, words: tuple[str, ...]
) -> None:
    visit = Visit(visitor=LOCAL, language=language, owner=True)
    told = ""
    for tab, model in (
        (parse_form, page.readers()["logics-parsing-v1"]),
        (upscale_form, page.upscalers()["flashvsr-v1.1"]),
    ):
        form = tab.defaults_of(model) | {"card": "rtx-3060-12gb"}
        if tab is upscale_form:
            form |= {"height": 720, "width": 1280, "frames": 21}
        request = page.studio.parse(tab.request_data(form, model))
        assert has_limits(request)
        panel = limits_of(page, request, visit)
        found = [json.loads(html.unescape(t)) for t in re.findall(r'changes="([^"]+)"', panel)]
        assert [set(changes) for changes in found[-3:]] == [  # after the plan's own offers
            {"width", "height"}, {"settings"}, {"card", "vram_gib"},
        ]  # fmt: skip
        for changes in found[-3:]:
            changed = tab.with_changes(form, changes)
            assert page.studio.plan(page.studio.parse(tab.request_data(changed, model))).fits
        told += panel
    assert all(word in told for word in words)
    # What needs nothing of the card is not asked.
    assert not has_limits(page.studio.parse({"task": "parse", "model": "ocr"}))
