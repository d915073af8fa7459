"""The comparison tab as a user sees it."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.app.running import RunningStudio
from tests.browser.conftest import open_tab
from tests.browser.test_page import pick

Visit = Callable[..., Page]


def test_what_was_ticked_stays_and_a_shared_error_is_told_once(
    studio: RunningStudio, visit: Visit
) -> None:
    page = visit(studio)
    page.locator("#generate-prompt textarea").fill("a red circle")
    pick(page, "card", "RTX 4090")
    expect(page.locator("#generate-panel")).to_contain_text("RTX 4090")
    open_tab(page, "Compare")
    ticks = page.locator("#compare-values input[type=checkbox]")
    for number in (0, 1):
        ticks.nth(number).check()
    open_tab(page, "Generate")
    open_tab(page, "Compare")
    for number in (0, 1):
        expect(ticks.nth(number)).to_be_checked()
    page.locator("#compare-run").click()
    told = page.locator("#compare-message .vs-alert")
    expect(told).to_have_count(1)
    expect(told).to_contain_text("precision: bf16; precision: fp16: This machine has no GPU")
