"""The tab about cards: plans that were tried on a GPU, and the cards that can be planned for."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import gradio as gr

from webui.core.card import Card
from webui.core.text import Text
from webui.core.units import GIB, format_bytes
from webui.estimator.verified import VerifiedRun
from webui.ui.language import say
from webui.ui.page import Page
from webui.ui.phase_bars import format_error, seconds_text
from webui.ui.tables import render_table
from webui.ui.words import cards as words


class CardsTab:
    """Builds the tab inside the current `gr.Tab`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.tables = gr.HTML(elem_id="cards-tables")

    def on_select(self, request: gr.Request) -> str:
        """The tab was opened."""
        language = self.page.visit(request).language
        studio = self.page.studio
        return render_tried(studio.verified(), language) + render_known(studio.cards(), language)


def render_tried(runs: list[VerifiedRun], language: str) -> str:
    """The verified card table, estimated beside measured: a part for each model."""
    devices = ", ".join(sorted({run.device for run in runs}))
    about = say(words.ABOUT, language, devices=escape(devices), plans=len(runs))
    parts = [
        f"<details><summary><code>{escape(model)}</code> · "
        f"{_caps(list(its_runs), language)}</summary>"
        + render_table(words.HEADS, [_tried(run, language) for run in its_runs], language)
        + "</details>"
        for model, its_runs in _by_model(runs).items()
    ]
    return _section(words.TRIED, f'<p class="vs-fine">{about}</p>' + "".join(parts), language)


def _by_model(runs: Iterable[VerifiedRun]) -> dict[str, list[VerifiedRun]]:
    found: dict[str, list[VerifiedRun]] = {}
    for run in runs:
        found.setdefault(run.model, []).append(run)
    return found


def _caps(runs: list[VerifiedRun], language: str) -> str:
    """How many there are, and in what memory."""
    caps = sorted(run.cap_gib for run in runs)
    spread, high = f"{caps[0]:g}", f"{caps[-1]:g}"
    if spread != high:
        spread = words.SPREAD.in_language(language).format(low=spread, high=high)
    text = words.CAPS if len(runs) > 1 else words.CAPS_ONE
    return say(text, language, count=len(runs), caps=spread)


def _tried(run: VerifiedRun, language: str) -> tuple[str, ...]:
    error = format_error(run.measured_bytes, run.estimated_bytes)
    seconds = seconds_text(run.seconds, language)
    return (
        f"{run.cap_gib:g} GiB",
        escape(run.size),
        escape(run.means),
        format_bytes(run.estimated_bytes),
        f"{format_bytes(run.measured_bytes)} ({error})",
        say(words.A_STEP, language, time=seconds) if run.steps else seconds,
        escape(run.date),
    )


def render_known(cards: Iterable[Card], language: str) -> str:
    """The catalogue of cards, the smallest first."""
    rows = [
        (
            escape(card.title),
            f"{card.vram_bytes / GIB:.1f} GiB",
            f"<code>{escape(card.name)}</code>",
            f"{card.bandwidth_bytes_s / 1e9:.0f} GB/s",
            f"{card.bf16_flops / 1e12:.0f} TFLOP/s",
            "✓" if card.bf16 else "–",
            "✓" if card.context_measured else "–",
        )
        for card in sorted(cards, key=lambda card: card.vram_bytes)
    ]
    count = say(words.KNOWN_COUNT, language, count=len(rows))
    table = render_table(words.KNOWN_HEADS, rows, language)
    return _section(words.KNOWN, f"<details><summary>{count}</summary>{table}</details>", language)


def _section(title: Text, content: str, language: str) -> str:
    return f'<section><h3 class="vs-title">{say(title, language)}</h3>{content}</section>'
