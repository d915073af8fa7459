"""What stands beside a plan: this computer's own memory, the card that `vram_gib` stands for."""

from __future__ import annotations

from typing import Any

import pytest

from webui.core.units import GIB
from webui.optimizer.faster import MUCH_FASTER
from webui.service import Access, Studio
from webui.service.account import frontier_text


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    studio = Studio(tmp_path_factory.mktemp("home"), access=Access(loopback=True), resume=False)
    yield studio
    studio.close()


def notes(studio: Studio, data: dict[str, Any]) -> str:
    plan = studio.plan(studio.parse(data))
    return " ".join(f"{note.en} {note.zh}" for note in plan.estimate.notes)


def test_a_size_without_a_card_says_which_card_stands_for_it(studio):
    asked = {"model": "wan2.1-t2v-1.3b", "vram_gib": 8}
    assert "RTX 3060 Ti stands for its speed" in notes(studio, asked)
    assert "stands for" not in notes(studio, {**asked, "card": "rtx-4090"})
    assert "stands for" not in notes(studio, {"model": "demo"})


def test_too_little_memory_of_this_computer_is_said(studio, monkeypatch):
    asked = {"model": "wan2.1-t2v-1.3b", "card": "cpu"}
    monkeypatch.setattr("webui.service.plan_notes.host_memory_bytes", lambda: 4 * GIB)
    said = notes(studio, asked)
    assert "This computer has 4.00 GiB of memory" in said and "本机内存为 4.00 GiB" in said
    # What another machine has is not known here.
    assert "This computer" not in notes(studio, {**asked, "card": "rtx-4090"})
    monkeypatch.setattr("webui.service.plan_notes.host_memory_bytes", lambda: 4096 * GIB)
    assert "This computer" not in notes(studio, asked)


def test_another_computer_may_have_too_little_memory(studio):
    streamed = {"model": "wan2.1-t2v-14b", "card": "rtx-4060"}
    said = notes(studio, streamed)
    assert "The computer needs about 39.6" in said and "超过许多电脑的 32.00 GiB" in said
    assert "The computer needs" not in notes(studio, {**streamed, "model": "wan2.1-t2v-1.3b"})


def test_what_an_estimate_leaves_out_is_said(studio):
    def said(**more):
        request = studio.parse({"model": "wan2.1-t2v-14b", "card": "h200", **more})
        return [note.en for note in studio.estimate(request).estimate.notes]

    (note,) = [note for note in said() if "text encoder" in note]
    assert "10.58 GiB" in note and "text_encoder: gpu" in note
    for place in ("absent", "gpu"):
        assert not [note for note in said(settings={"text_encoder": place}) if "encoder" in note]


def test_the_answers_that_a_time_is_of_are_said(studio):
    pages = {"task": "parse", "model": "logics-parsing-v2", "card": "h200", "new_tokens": 700}
    script = {"task": "generate", "model": "qwen3-4b", "card": "h200", "new_tokens": 900}
    assert "the longest answer, 700 tokens" in notes(studio, pages)
    assert "最长的回答 900 个词元" in notes(studio, script)
    assert "longest answer" not in notes(studio, {"task": "parse", "model": "ocr"})


def test_what_the_cache_takes_of_the_margin_is_said(studio):
    asked = {"model": "wan2.1-t2v-1.3b", "settings": {"offload": "none"}}
    wide, full = (notes(studio, {**asked, "card": card}) for card in ("l40s", "rtx-3090"))
    assert "the margin is wider." in wide and "因此余量更大。" in wide
    assert (
        "the margin is wider; the allocator's cache takes " in full and "被分配器缓存占用" in full
    )


def test_pages_whose_size_is_left_open_are_shrunk_for_quantised_weights(studio):
    data = {"task": "parse", "model": "logics-parsing-v1", "card": "rtx-3070", "max_pixels": "auto"}
    slow = studio.plan(studio.parse(data))
    (offer,) = slow.alternatives
    fast = studio.plan(studio.parse({**data, **offer.changes}))
    assert fast.fits and fast.estimate.seconds * MUCH_FASTER <= slow.estimate.seconds
    assert fast.request.max_pixels < slow.request.max_pixels
    assert f"pages shrunk to {fast.request.max_pixels} pixels" in offer.text.en


def test_a_frontier_lists_what_differs(studio):
    request = studio.parse({"model": "svd-xt", "card": "rtx-3060-12gb"})
    found = studio.questions.ask(request, frontier=True)
    lines = frontier_text(found.frontier).splitlines()
    rows, same = lines[1:-1], lines[-1]
    assert sum(row.startswith("  *") for row in rows) == 1 and len(rows) == len(found.frontier)
    for name in found.frontier[0].settings:
        values = {str(point.settings[name]) for point in found.frontier}
        assert (f" {name}: " in same) == (len(values) == 1)
        assert all((f" {name}: " in row) == (len(values) > 1) for row in rows)
