"""The dashboard as a user sees it: it lives while it is open, fits a phone, and leads on."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.app.running import RunningStudio
from tests.browser.conftest import PHONE, open_tab

Visit = Callable[..., Page]


def test_the_dashboard_asks_only_while_it_is_open(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio)
    page.get_by_role("tab", name="Dashboard").click()
    host = page.locator("#dashboard-devices [data-device=host]")
    expect(host).to_be_visible()
    expect(page.locator("#dashboard-devices")).to_contain_text("no NVIDIA GPU")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    # The element stays, and what it shows changes: that is why nothing flickers.
    host.evaluate("element => { window.firstPanel = element; }")
    drawing = host.locator("svg path").first
    before = drawing.get_attribute("d")
    expect(drawing).not_to_have_attribute("d", before or "", timeout=60_000)
    assert asked and page.evaluate("window.firstPanel.isConnected")
    page.get_by_role("button", name="shipped with the studio").click()
    expect(page.locator("#dashboard-receipts .vs-dot").first).to_be_attached()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    assert download.value.suggested_filename == "receipts.csv"
    page.get_by_role("button", name="The table of cards").click()
    expect(page.locator("#cards-tables table").first).to_be_attached()
    page.wait_for_timeout(2500)  # one more question may have been on its way
    asked.clear()
    page.wait_for_timeout(2500)
    assert asked == []
    page.get_by_role("tab", name="Dashboard").click()
    before = drawing.get_attribute("d")
    expect(drawing).not_to_have_attribute("d", before or "", timeout=60_000)


def test_the_dashboard_fits_a_phone_in_both_languages(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio, locale="zh-CN", size=PHONE)
    open_tab(page, "监控")
    expect(page.locator("#dashboard-devices [data-device=host]")).to_be_visible()
    page.get_by_role("button", name="随工作室提供").click()
    expect(page.locator("#dashboard-receipts .vs-dot").first).to_be_attached()
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
    text = page.locator("#dashboard-devices, #dashboard-receipts h3").all_inner_texts()
    assert not any(word in " ".join(text) for word in ("busy", "free", "ago", "Estimated"))
