"""The tab for presets and settings as its owner sees it."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.app.running import RunningStudio
from tests.browser.conftest import PHONE, open_tab

Visit = Callable[..., Page]
PRESET = "# A star | 一颗星\nmodel: demo\nprompt: a red star\nframes: 5\n"


def open_editor(page: Page, name: str) -> None:
    open_tab(page, name)
    expect(page.locator("#config-panel .vs-summary")).to_be_visible()


def test_an_error_is_seen_with_its_line_while_it_is_typed(
    studio: RunningStudio, visit: Visit
) -> None:
    folder = studio.home / "presets"
    folder.mkdir(exist_ok=True)
    (folder / "a-star.yaml").write_text(PRESET, encoding="utf-8")
    page = visit(studio)
    open_editor(page, "Presets and settings")
    editor = page.locator("#config-editor .cm-content")
    expect(editor).to_contain_text("a red star")
    expect(page.locator("#config-status")).to_contain_text("As it is saved")
    editor.click()
    page.keyboard.press("Control+End")
    page.keyboard.type("\nstepz: 4\n")
    problem = page.locator("#config-problems li")
    expect(problem).to_contain_text("Line 5")
    expect(problem).to_contain_text("Did you mean steps?")
    marked = page.locator("#config-editor .cm-line").nth(4)
    expect(marked).to_contain_text("stepz")
    colour = "element => getComputedStyle(element).backgroundColor"
    assert marked.evaluate(colour) != page.locator("#config-editor .cm-line").nth(3).evaluate(
        colour
    )
    expect(page.locator("#config-diff ins")).to_have_text(["+stepz: 4"])
    for _ in range(len("z: 4\n")):
        page.keyboard.press("Backspace")
    page.keyboard.type("s: 7")
    expect(page.locator("#config-problems")).to_contain_text("No mistakes")
    with page.expect_download() as exported:
        page.locator("#config-export").click()
    assert exported.value.suggested_filename == "a-star.yaml"
    assert exported.value.path().read_text(encoding="utf-8").endswith("steps: 7")
    page.locator("#config-actions [data-action=save]").click()
    expect(page.locator("#config-message")).to_contain_text("Saved.")
    assert (folder / "a-star.yaml").read_text(encoding="utf-8").endswith("frames: 5\nsteps: 7\n")
    page.locator("#config-actions [data-action=use]").click()
    expect(page.locator("#generate-steps input[type=number]").first).to_have_value("7")
    expect(page.locator("#generate-prompt textarea")).to_have_value("a red star")
    expect(page.locator("#generate-run")).to_be_visible()


def test_it_fits_a_phone_in_chinese(studio: RunningStudio, visit: Visit) -> None:
    folder = studio.home / "presets"
    folder.mkdir(exist_ok=True)
    (folder / "a-star.yaml").write_text(PRESET, encoding="utf-8")
    page = visit(studio, "zh-CN", PHONE)
    open_editor(page, "预设与设置")
    text = (
        page.locator("#config-actions").inner_text() + page.locator("#config-status").inner_text()
    )
    assert "保存" in text and "Save" not in text
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
