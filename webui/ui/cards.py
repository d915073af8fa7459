"""The tab about cards: plans that were tried on a GPU, and the cards that can be planned for."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import gradio as gr

from webui.core.card import Card
from webui.core.text import Text
from webui.core.units import GIB, format_bytes
from webui.estimator.verified import VerifiedRun
from webui.ui.memory_panel import format_error, seconds_text
from webui.ui.page import Page
from webui.ui.results import say
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
    """The verified card table: estimated beside measured."""
    devices = ", ".join(sorted({run.device for run in runs}))
    about = say(words.ABOUT, language, devices=escape(devices))
    rows = (
        (
            f"{run.cap_gib:g} GiB",
            f"<code>{escape(run.model)}</code>",
            escape(run.size),
            escape(run.means),
            format_bytes(run.estimated_bytes),
            f"{format_bytes(run.measured_bytes)} "
            f"({format_error(run.measured_bytes, run.estimated_bytes)})",
            say(words.A_STEP, language, time=seconds_text(run.seconds))
            if run.steps
            else seconds_text(run.seconds),
            escape(run.date),
        )
        for run in runs
    )  # fmt: skip
    return _table(words.TRIED, words.HEADS, rows, language, f'<p class="vs-fine">{about}</p>')


def render_known(cards: Iterable[Card], language: str) -> str:
    """The catalogue of cards, the smallest first."""
    rows = (
        (
            escape(card.title),
            f"{card.vram_bytes / GIB:.1f} GiB",
            f"{card.bandwidth_bytes_s / 1e9:.0f} GB/s",
            f"{card.bf16_flops / 1e12:.0f} TFLOP/s",
            "✓" if card.bf16 else "–",
            "✓" if card.context_measured else "–",
        )
        for card in sorted(cards, key=lambda card: card.vram_bytes)
    )
    return _table(words.KNOWN, words.KNOWN_HEADS, rows, language)


def _table(
    title: Text,
    heads: Iterable[Text],
    rows: Iterable[tuple[str, ...]],
    language: str,
    about: str = "",
) -> str:
    head = "".join(f'<th scope="col">{say(text, language)}</th>' for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for cells in rows
    )
    return (
        f'<section><h3 class="vs-title">{say(title, language)}</h3>{about}'
        f'<div class="vs-table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )
