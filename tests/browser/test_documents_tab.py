"""Reading documents as a user does: boxes and text belong together, and nothing on a page runs."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, expect

from tests.app.running import RunningStudio
from tests.browser.conftest import PHONE, open_tab

Visit = Callable[..., Page]
READ_MS = 120_000
LIT = re.compile("vs-lit")
HOSTILE = (
    "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
    "<a href='javascript:window.ran = 3'>link</a><b onclick='window.ran = 4'>${window.ran = 5}</b>"
    "<iframe srcdoc='<script>parent.ran = 6</script>'></iframe>{{constructor}}"
)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pages: a title with a paragraph below, and a line."""
    font, large = ImageFont.load_default(26), ImageFont.load_default(52)
    first, second = (Image.new("RGB", (700, 420), "white") for _ in range(2))
    pencil = ImageDraw.Draw(first)
    pencil.text((40, 40), "A large title", fill="black", font=large)
    for row, line in enumerate(("The first line of the text", "and a second one below it")):
        pencil.text((40, 240 + 34 * row), line, fill="black", font=font)
    ImageDraw.Draw(second).text((40, 40), "Another page", fill="black", font=font)
    path = tmp_path_factory.mktemp("scan") / "letter.tif"
    first.save(path, save_all=True, append_images=[second])
    return path


def opened(page: Page, name: str = "Documents") -> Page:
    open_tab(page, name)
    expect(page.locator("#parse-panel .vs-summary")).to_be_visible()
    return page


def test_a_document_from_files_to_zip(
    studio: RunningStudio, visit: Visit, scan: Path, tmp_path: Path
) -> None:
    page = opened(visit(studio))
    page.locator("#parse-files input[type=file]").set_input_files(scan)
    expect(page.locator("#parse-input-hint")).to_contain_text("2 pages")
    page.locator("#parse-run").click()
    expect(page.locator("#parse-jobs")).to_contain_text("pages 1-2")
    box, text = page.locator(".vs-box"), page.locator(".vs-block")
    expect(text).to_have_count(2, timeout=READ_MS)
    expect(page.locator("#parse-document")).to_contain_text("2 of 2 pages read", timeout=READ_MS)
    expect(page.locator("#parse-document h3")).to_have_text("letter.tif")

    # The box lies on the words: its place in the picture is theirs.
    left, top, width = page.evaluate(
        """() => {  // at once: the page may still be moving
            const paper = document.querySelector(".vs-paper").getBoundingClientRect();
            const box = document.querySelector(".vs-box").getBoundingClientRect();
            const scale = 700 / paper.width;
            return [(box.x - paper.x) * scale, (box.y - paper.y) * scale, box.width * scale];
        }"""
    )
    assert abs(left - 40) < 14 and 30 < top < 70 and width > 220

    box.nth(1).hover()
    expect(text.nth(1)).to_have_class(LIT)
    text.nth(0).hover()
    expect(box.nth(0)).to_have_class(LIT)
    expect(text.nth(1)).not_to_have_class(LIT)
    text.nth(1).focus()
    page.keyboard.press("Enter")
    page.locator("#parse-search").hover()
    page.locator("#parse-next").focus()
    expect(box.nth(1)).to_have_class(LIT)

    page.locator("#parse-next").click()
    expect(text).to_have_text(["Another page"])
    expect(box).not_to_have_class(LIT)
    field = page.locator(".vs-pager input")
    field.fill("1")
    field.press("Enter")
    expect(text).to_have_count(2)

    page.locator("#parse-search :is(input, textarea)").fill("another")
    page.keyboard.press("Enter")
    page.locator(".vs-hit").click()
    expect(text).to_have_text(["Another page"])
    expect(text).to_have_class(LIT)
    page.get_by_role("button", name="Markdown source").click()
    expect(page.locator(".vs-source")).to_have_text("Another page")

    with page.expect_download() as download:
        page.locator("#parse-download").click()
    download.value.save_as(tmp_path / "all.zip")
    assert {"document.html", "pages/00002.jpg"} <= set(
        zipfile.ZipFile(tmp_path / "all.zip").namelist()
    )

    page.reload()
    opened(page)
    expect(page.locator("#parse-document h3")).to_have_text("letter.tif")


def test_nothing_on_a_page_runs_and_missing_pages_are_read_again(
    studio: RunningStudio, visit: Visit, scan: Path
) -> None:
    page = opened(visit(studio))
    page.locator("#parse-files input[type=file]").set_input_files(scan)
    page.locator("#parse-run").click()
    expect(page.locator("#parse-document")).to_contain_text("2 of 2 pages read", timeout=READ_MS)
    expect(page.locator("#parse-jobs .vs-job")).to_have_count(0)
    run = page.locator("#parse-document section").get_attribute("data-run")
    kept = next((studio.home / "outputs").glob(f"*-{run}")) / "pages"
    data = json.loads((kept / "1.json").read_text())
    data["blocks"][0] |= {"html": HOSTILE, "text": HOSTILE, "markdown": HOSTILE}
    data |= {"document": HOSTILE, "cut_off": True, "tokens": 77}
    (kept / "1.json").write_text(json.dumps(data))
    (kept / "2.json").unlink()

    page.locator("#parse-recent .vs-thumb").first.click()
    expect(page.locator("#parse-document")).to_contain_text("1 of 2 pages read")
    expect(page.locator(".vs-cut-off")).to_contain_text("limit after 77 new tokens")
    expect(page.locator(".vs-block").first).to_contain_text("link${window.ran = 5}{{constructor}}")
    for name in ("Markdown source", "JSON data", "Plain text", "Read"):
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.get_by_role("button", name=name, exact=True)).to_have_attribute(
            "aria-pressed", "true"
        )
        expect(
            page.locator(":is(.vs-side, #parse-document) :is(script, img, iframe)")
        ).to_have_count(0)
    page.locator("#parse-search :is(input, textarea)").fill("window")
    page.keyboard.press("Enter")
    expect(page.locator(".vs-hit").first).to_contain_text("<script>")
    page.locator(".vs-block b").click()
    assert page.evaluate("window.ran") is None

    page.locator("#parse-document [data-action=resume]").click()
    expect(page.locator("#parse-document")).to_contain_text("Done · 2 of 2", timeout=READ_MS)


def test_the_tab_on_a_phone_in_chinese(studio: RunningStudio, visit: Visit) -> None:
    page = opened(visit(studio, "zh-CN", PHONE), "文档")
    expect(page.locator("#parse-run")).to_have_text("识别页面")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["width"]
    text = page.locator("#parse-layout").inner_text()
    for word in ("Pages", "Maximum", "Model", "Resolution", "tokens"):
        assert word not in text, word
