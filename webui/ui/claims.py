"""The tab about the guides' claims: each beside our figures, with a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from webui.core.errors import StudioError
from webui.estimator.verified import read_receipts
from webui.service.claims import (
    KINDS,
    VERDICTS,
    BackgroundCheck,
    Checked,
    Verdict,
    by_guide,
    tally,
)
from webui.ui.language import say
from webui.ui.memory_panel import render_error
from webui.ui.page import Page
from webui.ui.seen import HIDDEN, OPEN, where_seen
from webui.ui.words import claims as words

EVERY_S = 1.0
Updates = dict[Any, Any]


class ClaimsTab:
    """Builds the tab inside the current `gr.Tab`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.check = BackgroundCheck()
        self.list = gr.HTML(elem_id="claims-list")
        self.seen = gr.Textbox(visible="hidden", elem_id="claims-seen")
        self.timer = gr.Timer(EVERY_S, active=False)
        self.outputs: list[Any] = [self.list, self.timer]
        self.timer.tick(
            self._on_tick, [self.seen], self.outputs, js=where_seen("claims-list"),
            trigger_mode="once", queue=False, show_progress="hidden", api_visibility="private",
        )  # fmt: skip

    def on_select(self, request: gr.Request) -> Updates:
        """The tab was opened: all claims, by guide, or that they are still being checked."""
        language = self.page.visit(request).language
        return self._found(language) or {
            self.list: f'<p class="vs-hint">{say(words.CHECKING, language)}</p>',
            self.timer: gr.Timer(active=True),
        }

    def _on_tick(self, seen: Any, request: gr.Request) -> Updates:
        if seen not in (OPEN, HIDDEN):
            return {self.timer: gr.Timer(active=False)}
        return self._found(self.page.visit(request).language) or gr.skip()

    def _found(self, language: str) -> Updates:
        """Empty as long as the claims are being checked."""
        try:
            checked = self.check.found()
        except StudioError as error:
            shown = render_error(error, language)
        else:
            if checked is None:
                return {}
            shown = render_claims(checked, language)
        return {self.list: shown, self.timer: gr.Timer(active=False)}


def render_claims(checked: Sequence[Checked], language: str) -> str:
    """A part for each guide, closed at first."""
    devices = ", ".join(sorted({receipt.device for receipt in read_receipts()}))
    about = say(words.ABOUT, language, count=len(checked), devices=devices)
    parts = (
        f"<details><summary><b>{say(claims[0].guide.title, language)}</b>"
        f"{_counts(claims, language)}</summary>"
        f"{''.join(_claim(one, language) for one in claims)}</details>"
        for claims in by_guide(checked).values()
    )
    return (
        f'<section><h3 class="vs-title">{say(words.TITLE, language)}</h3>'
        f'<p class="vs-fine">{about}</p>{"".join(parts)}</section>'
    )


def _counts(checked: Sequence[Checked], language: str) -> str:
    chips = (
        _verdict(verdict, f"{say(VERDICTS[verdict], language)} {count}")
        for verdict, count in tally(checked).items()
    )
    return f'<span class="vs-verdicts">{"".join(chips)}</span>'


def _claim(one: Checked, language: str) -> str:
    found = one.found
    figures = [
        f"{say(label, language)} <b>{say(figure, language)}</b>"
        for label, figure in ((words.ESTIMATED, found.estimate), (words.MEASURED, found.measured))
        if figure is not None
    ]
    if found.receipts:
        ids = ", ".join(f"<code>{escape(each)}</code>" for each in found.receipts)
        figures.append(f"{say(words.RECEIPT, language)} {ids}")
    return (
        f'<article class="vs-claim" data-claim="{escape(one.id)}">'
        f'<div><p><span class="vs-claim-kind">{say(KINDS[one.kind], language)}</span> '
        f"{say(one.claim.says, language)}</p>"
        f'<p class="vs-fine">{say(found.sentence, language)}</p>'
        f'<p class="vs-fine vs-figure">{" · ".join(figures)}</p></div>'
        f"{_verdict(found.verdict, say(found.shown, language))}</article>"
    )


def _verdict(verdict: Verdict, shown: str) -> str:
    return f'<span class="vs-badge-verdict" data-verdict="{verdict.value}">{shown}</span>'
