"""The upscaling tab as a user sees it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.app.running import RunningStudio
from tests.browser.conftest import PHONE, open_tab
from tests.unit.video.clips import clip

Visit = Callable[..., Page]
FRAMES, HEIGHT, WIDTH = 6, 16, 32
RUN_MS = 180_000


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES, size=(HEIGHT, WIDTH))


def test_a_video_is_planned_upscaled_and_compared(
    studio: RunningStudio, visit: Visit, video: Path
) -> None:
    page = visit(studio)
    open_tab(page, "Upscale")
    expect(page.locator("#upscale-panel .vs-verdict")).to_contain_text("Fits")
    before = page.locator("#upscale-panel .vs-phases").inner_text()
    page.locator("#upscale-input input[type=file]").set_input_files(video)
    expect(page.locator("#upscale-input-hint")).to_contain_text(f"{FRAMES} frames of 32 x 16 px")
    expect(page.locator("#upscale-width input")).to_have_value("32")
    expect(page.locator("#upscale-width input")).to_be_disabled()
    expect(page.locator("#upscale-panel .vs-phases")).not_to_have_text(before)

    page.locator("#studio-language").click()
    expect(page.get_by_role("tab", name="放大")).to_be_visible()  # it is opened anew
    open_tab(page, "放大")
    expect(page.locator("#upscale-input-hint")).to_contain_text(f"{FRAMES} 帧")
    named = page.locator("#upscale-input").get_by_role("cell", name="clip.mp4")
    expect(named).to_be_visible()
    page.locator("#studio-language").click()
    expect(page.get_by_role("tab", name="Upscale")).to_be_visible()
    open_tab(page, "Upscale")
    expect(page.locator("#upscale-input-hint")).to_contain_text(f"{FRAMES} frames of 32 x 16 px")

    page.locator("#upscale-run").click()
    expect(page.locator("#upscale-jobs .vs-job")).to_be_visible()
    expect(page.locator("#upscale-result video")).to_be_visible(timeout=RUN_MS)
    expect(page.locator("#upscale-jobs .vs-job")).to_have_count(0)
    expect(page.locator("#upscale-result .vs-prompt")).to_have_text(
        "clip.mp4 · 32 x 16 px → 64 x 32 px"
    )
    expect(page.locator("#upscale-panel .vs-measured-text").first).to_be_visible()
    sides = page.locator("#upscale-pair img")
    expect(sides).to_have_count(2)
    number = page.locator("#upscale-frame input[type=number]").first
    number.fill("5")
    number.press("Tab")
    expect(page.locator("#upscale-pair")).to_contain_text("Frame 5, before and after")
    page.wait_for_function(
        "[...document.querySelectorAll('#upscale-pair img')].every(one => one.naturalWidth == 64)"
    )

    page.get_by_role("tab", name="History").click()
    card = page.locator("#history-cards .vs-card").first
    expect(card.locator(".vs-prompt")).to_have_text("clip.mp4 · 32 x 16 px → 64 x 32 px")
    expect(card.locator("img")).to_be_visible()
    card.get_by_text("Use these settings again").click()
    expect(page.locator("#upscale-result video")).to_be_visible()


def test_on_a_phone_in_chinese(studio: RunningStudio, visit: Visit, tmp_path: Path) -> None:
    page = visit(studio, "zh-CN", PHONE)
    open_tab(page, "放大")
    expect(page.locator("#upscale-panel .vs-summary")).to_be_in_viewport()
    text = page.locator("#upscale-layout").inner_text()
    assert not re.findall(r"Tile|Frames|Upscale|auto\b|Segments", text)
    (tmp_path / "page.mp4").write_text("<html>")
    page.locator("#upscale-input input[type=file]").set_input_files(tmp_path / "page.mp4")
    alert = page.locator("#upscale-message [role=alert]")
    expect(alert).to_contain_text("视频", timeout=RUN_MS)
    page.locator("#upscale-run").click()
    expect(alert).to_contain_text("视频", timeout=RUN_MS)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
