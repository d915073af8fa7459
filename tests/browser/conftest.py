"""A headless Chromium on the running app."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.app.running import RunningStudio, running_studio

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
WAIT_MS = 90_000
"""On two busy cores; a free one answers in tenths of a second."""
expect.set_options(timeout=WAIT_MS)
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStudio]:
    with running_studio(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="session")
def public_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStudio]:
    with running_studio(tmp_path_factory.mktemp("public-browser"), host="0.0.0.0") as running:
        yield running


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the page as a new visitor; a script error or a foreign request fails the test."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_page(running: RunningStudio, locale: str = "en-US", size: Any = DESKTOP) -> Page:
        context = browser.new_context(
            locale=locale, viewport=size, accept_downloads=True,
        )  # fmt: skip
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
        page.on("request", lambda request: _check(request.url, running, problems))
        load(page, running)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


def load(page: Page, running: RunningStudio) -> None:
    """Opens or reloads the page and waits for the first plan."""
    page.goto(running.address)
    expect(page.locator("#generate-panel .vs-summary")).to_be_visible(timeout=WAIT_MS)


def _check(address: str, running: RunningStudio, problems: list[str]) -> None:
    if not address.startswith((running.address, "data:", "blob:")):
        problems.append(f"foreign request: {address}")


def open_tab(page: Page, name: str) -> None:
    """Opens a tab by its name; on a phone the last ones wait in a menu."""
    tab = page.get_by_role("tab", name=name)
    expect(page.get_by_role("tab").first).to_be_visible()
    if not tab.is_visible():
        page.locator(".overflow-menu > button").click()
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.click()
