"""The generation tab and the history as a user sees them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.app.running import RunningStudio, has_colour
from tests.browser.conftest import PHONE, load, open_tab
from webui.estimator.verified import verified_runs
from webui.service.claims import check_shipped

Visit = Callable[..., Page]
RUN_MS = 180_000


def set_number(page: Page, name: str, value: object) -> None:
    """Types into a number field or the number beside a slider, and leaves it."""
    box = page.locator(f"#generate-{name} input[type=number]").first
    box.fill(str(value))
    box.press("Tab")


def pick(page: Page, name: str, option: str) -> None:
    page.locator(f"#generate-{name} input").click()
    page.get_by_role("option", name=option).first.click()


def generate(page: Page, prompt: str) -> None:
    page.locator("#generate-prompt textarea").fill(prompt)
    page.locator("#generate-run").click()


def wait_for_result(page: Page, prompt: str) -> None:
    expect(page.locator("#generate-result .vs-prompt")).to_have_text(prompt, timeout=RUN_MS)
    expect(page.locator("#generate-jobs .vs-job")).to_have_count(0, timeout=RUN_MS)


def figures(page: Page) -> str:
    return page.locator("#generate-panel .vs-phases").inner_text()


@pytest.mark.parametrize(
    ("locale", "generate_label", "fits", "history"),
    [("en-US", "Generate", "Fits", "History"), ("zh-CN", "生成", "放得下", "历史")],
)
def test_the_page_follows_the_browsers_language(
    studio: RunningStudio, visit: Visit, locale: str, generate_label: str, fits: str, history: str
) -> None:
    page = visit(studio, locale)
    expect(page.locator("#generate-run")).to_have_text(generate_label)
    expect(page.locator("#generate-panel .vs-verdict")).to_contain_text(fits)
    expect(page.get_by_role("tab", name=history)).to_be_visible()
    text = page.locator("body").inner_text()
    if locale == "en-US":
        rest = text.replace("中文", "")
        assert not re.findall(r"[\u4e00-\u9fff]+", rest)
    else:
        for sentence in ("Prompt", "Resolution", "Memory settings", "Frames", "auto", "Guidance"):
            assert sentence not in text, sentence


def test_switching_the_language_keeps_what_was_typed(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio)
    page.locator("#generate-prompt textarea").fill("a green star")
    set_number(page, "frames", 9)
    page.locator("#studio-language").click()
    expect(page.locator("#generate-run")).to_have_text("生成")
    expect(page.locator("#generate-prompt textarea")).to_have_value("a green star")
    expect(page.locator("#generate-frames input[type=number]")).to_have_value("9")
    page.locator("#studio-language").click()
    expect(page.locator("#generate-run")).to_have_text("Generate")


def test_every_control_moves_the_panel(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio)
    before = figures(page)
    for name, value in (("frames", 33), ("steps", 40)):
        set_number(page, name, value)
        expect(page.locator("#generate-panel .vs-phases")).not_to_have_text(before)
        page.wait_for_timeout(300)
        assert figures(page) != before, name
        before = figures(page)
    expect(page.locator("#generate-frames-hint")).to_contain_text("33 = ")
    set_number(page, "frames", 99999)
    expect(page.locator("#generate-frames-hint")).to_contain_text("257 = ")
    expect(page.locator("#generate-frames-hint")).to_contain_text("the most that Demo")
    set_number(page, "frames", 1)
    expect(page.locator("#generate-frames-hint")).to_contain_text("picture (PNG)")
    pick(page, "precision", "fp32")
    expect(page.locator("#generate-precision-note")).to_contain_text("set by you")


def test_free_sizes_are_snapped_and_said(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio)
    pick(page, "size", "free entry")
    box = page.locator("#generate-width input")
    box.fill("150")
    expect(page.locator("#generate-size-hint")).to_contain_text("multiples of 16")
    box.press("Tab")
    expect(box).to_have_value(re.compile("^(144|160)$"))


def test_only_settings_that_do_something_are_shown(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio)
    # On a processor there is nothing to offload and no allocator to choose.
    expect(page.locator("#generate-precision")).to_be_visible()
    expect(page.locator("#generate-offload")).not_to_be_visible()
    expect(page.locator("#generate-allocator")).not_to_be_visible()
    pick(page, "model", "Wan2.1 T2V 1.3B")
    pick(page, "card", "RTX 3060 12")
    expect(page.locator("#generate-offload")).to_be_visible()
    expect(page.locator("#generate-offload-note")).to_contain_text("auto: ")
    expect(page.locator("#generate-panel .vs-limit").first).to_be_attached()
    expect(page.locator("#generate-weights")).to_contain_text("not on this machine")
    expect(page.locator("#generate-negative-prompt textarea")).to_have_value(re.compile("色调艳丽"))


def test_what_does_not_fit_says_so_and_an_offer_applies(
    studio: RunningStudio, visit: Visit
) -> None:
    page = visit(studio)
    pick(page, "model", "Wan2.1 T2V 1.3B")
    expect(page.locator("#generate-weights")).to_contain_text("not on this machine")
    pick(page, "card", "RTX 3060 12")
    set_number(page, "vram-gib", 2)
    set_number(page, "frames", 161)
    expect(page.locator("#generate-panel .vs-verdict")).to_contain_text("Does not fit")
    offer = page.locator("#generate-panel .vs-offer").first
    expect(offer).to_be_visible()
    frames = page.locator("#generate-frames input[type=number]").input_value()
    settings = page.locator("#generate-memory-settings").inner_text()
    offer.click()
    page.wait_for_timeout(800)
    changed = (
        page.locator("#generate-frames input[type=number]").input_value() != frames
        or page.locator("#generate-memory-settings").inner_text() != settings
        or page.locator("#generate-size input").input_value() != "832 x 480"
    )
    assert changed


def test_a_button_says_how_far_the_card_goes(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio)
    panel = page.locator("#generate-panel")
    panel.locator("[data-action=limits]").click()
    most = panel.locator("[data-action=apply]").first
    expect(most).to_contain_text(re.compile(r"Up to \d+ frames fit"), timeout=RUN_MS)
    expect(panel).to_contain_text("smallest card")
    frames = re.findall(r"\d+", most.inner_text())[0]
    most.click()
    expect(page.locator("#generate-frames input[type=number]")).to_have_value(frames)
    expect(panel.locator("[data-action=limits]")).to_be_visible()


def test_a_prompt_gives_its_clip_beside_its_estimate(
    studio: RunningStudio, visit: Visit, tmp_path: Path
) -> None:
    page = visit(studio)
    prompt = "a red circle moves to the right"
    page.locator("#generate-examples .vs-button", has_text=prompt).click()
    expect(page.locator("#generate-prompt textarea")).to_have_value(prompt)
    page.locator("#generate-run").click()
    job = page.locator("#generate-jobs .vs-job")
    expect(job).to_be_visible()
    expect(job.locator("img.vs-preview")).to_be_visible(timeout=RUN_MS)
    wait_for_result(page, prompt)
    video = page.locator("#generate-result video")
    expect(video).to_be_visible()
    page.wait_for_function("document.querySelector('#generate-result video').readyState >= 2")
    # The seed that was drawn, and the measured bars beside the estimated ones.
    expect(page.locator("#generate-result .vs-fine")).to_contain_text(re.compile(r"seed \d+"))
    expect(page.locator("#generate-panel .vs-measured-text")).to_have_count(3)
    with page.expect_download() as download:
        page.locator("#generate-result a", has_text="Download").click()
    download.value.save_as(tmp_path / "clip.mp4")
    assert has_colour(tmp_path / "clip.mp4")
    expect(page.locator("#generate-recent img").first).to_be_visible()


def test_two_jobs_queue_and_cancel(studio: RunningStudio, visit: Visit) -> None:
    first, second = visit(studio), visit(studio)
    for page in (first, second):
        set_number(page, "steps", 200)
    generate(first, "a blue square stays still")
    expect(first.locator("#generate-jobs .vs-running")).to_be_visible(timeout=RUN_MS)
    generate(second, "a green star rotates")
    waiting = second.locator("#generate-jobs .vs-queued")
    expect(waiting).to_contain_text("1 job ahead", timeout=RUN_MS)
    # A reloaded page finds its jobs again.
    load(second, studio)
    expect(second.locator("#generate-jobs .vs-queued")).to_be_visible(timeout=RUN_MS)
    second.locator("#generate-jobs .vs-queued button").click()
    expect(second.locator("#generate-jobs .vs-queued")).to_have_count(0, timeout=RUN_MS)
    first.locator("#generate-jobs .vs-running button").click()
    expect(first.locator("#generate-jobs .vs-job")).to_have_count(0, timeout=RUN_MS)


def test_an_empty_prompt_is_one_clear_sentence(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio)
    set_number(page, "steps", 7)
    page.locator("#generate-prompt textarea").fill("")
    page.locator("#generate-run").click()
    expect(page.locator("#generate-message [role=alert]")).to_contain_text("The prompt is empty.")
    expect(page.locator("#generate-steps input[type=number]")).to_have_value("7")


def test_a_download_that_cannot_start_says_why(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio)
    pick(page, "model", "Wan2.1 T2V 1.3B")
    page.locator("#generate-weights .vs-button", has_text="Download").click()
    # No network in tests: either the hub cannot be reached, or the disk has no room.
    alert = page.locator("#generate-weights [role=alert], #generate-message [role=alert]")
    expect(alert).to_be_visible(timeout=RUN_MS)
    expect(page.locator("#generate-weights .vs-button", has_text="Download")).to_be_visible()


def test_history_shows_uses_again_and_deletes(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio)
    set_number(page, "frames", 5)
    set_number(page, "steps", 5)
    set_number(page, "seed", 41)
    prompt = "a <b>blue</b> {{square}} ${1+1}"
    generate(page, prompt)
    wait_for_result(page, prompt)
    set_number(page, "steps", 9)
    page.get_by_role("tab", name="History").click()
    card = page.locator("#history-cards .vs-card").first
    expect(card.locator(".vs-prompt")).to_have_text(prompt)
    expect(card).to_contain_text("seed 41")
    card.locator(".vs-thumb").click()
    expect(page.locator("#history-detail .vs-measured-text").first).to_be_visible()
    run = card.get_attribute("data-run")

    card.get_by_text("Use these settings again").click()
    expect(page.locator("#generate-prompt textarea")).to_be_visible()
    expect(page.locator("#generate-prompt textarea")).to_have_value(prompt)
    expect(page.locator("#generate-steps input[type=number]")).to_have_value("5")
    expect(page.locator("#generate-seed input")).to_have_value("41")

    page.get_by_role("tab", name="History").click()
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator(f"#history-cards [data-run='{run}'] .vs-danger").click()
    expect(page.locator(f"#history-cards [data-run='{run}']")).to_have_count(0)
    assert page.request.get(f"{studio.address}/studio/files/{run}/thumbnail").status == 404


def test_visitors_of_a_public_server_do_not_meet(
    public_studio: RunningStudio, visit: Visit
) -> None:
    mine, other = visit(public_studio), visit(public_studio)
    set_number(mine, "frames", 1)
    set_number(mine, "steps", 4)
    generate(mine, "a red circle")
    wait_for_result(mine, "a red circle")
    address = mine.locator("#generate-result img.vs-media").get_attribute("src")
    assert mine.request.get(f"{public_studio.address}/{address}").status == 200
    assert other.request.get(f"{public_studio.address}/{address}").status == 404
    other.get_by_role("tab", name="History").click()
    expect(other.locator("#history-cards")).to_contain_text("Nothing here yet")
    # Downloads belong to the owner: no button, and the event refuses (tests/app).
    pick_model = other.locator("#generate-weights .vs-button")
    expect(pick_model).to_have_count(0)


def test_a_phone_keeps_the_memory_in_sight(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio, "en-US", PHONE)
    summary = page.locator("#generate-panel .vs-summary")
    expect(summary).to_be_in_viewport()
    page.locator("#generate-sampling").scroll_into_view_if_needed()
    expect(summary).to_be_in_viewport()
    expect(page.locator("#generate-panel .vs-phases")).not_to_be_visible()
    summary.click()
    expect(page.locator("#generate-panel .vs-phases")).to_be_visible()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]


def test_the_cards_tab_shows_what_was_tried(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio)
    page.get_by_role("tab", name="Cards").click()
    tables = page.locator("#cards-tables")
    expect(tables).to_contain_text("GeForce RTX 3060 12 GB")
    tried = tables.locator("section").first.locator("details")
    assert tried.locator("tbody tr").count() == len(verified_runs()) >= 60
    svd = tried.filter(has_text="svd-xt")
    expect(svd.locator("table")).not_to_be_visible()
    svd.locator("summary").click()
    expect(svd.locator("table")).to_contain_text("1024x576x25")
    wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    assert not wide


def test_the_claims_tab_on_a_phone(studio: RunningStudio, visit: Visit) -> None:
    page = visit(studio, size=PHONE)
    open_tab(page, "Claims")
    shown = page.locator("#claims-list")
    # The first time every claim is compared, which takes seconds of the processor.
    expect(shown.locator("details")).to_have_count(5, timeout=RUN_MS)
    assert shown.locator(".vs-claim").count() == len(check_shipped())
    claim = shown.locator("[data-claim='video-fp16/clip-fp16-memory']")
    expect(claim).not_to_be_visible()
    shown.locator("summary").first.click()
    expect(claim).to_contain_text("depends: holds for the weights alone")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
