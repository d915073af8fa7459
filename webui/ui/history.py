"""The history tab: every run of the visitor, with its estimate and its measurement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from webui.core.errors import StudioError
from webui.core.plan import Plan
from webui.ui import memory_panel, results
from webui.ui.generate import GenerateTab
from webui.ui.language import say
from webui.ui.page import Page, Visit
from webui.ui.parse import ParseTab
from webui.ui.results import CLICKS
from webui.ui.upscale import UpscaleTab
from webui.ui.words import history as words

PAGE_SIZE = 24


class HistoryTab:
    """Builds the tab and handles its events."""

    def __init__(
        self,
        page: Page,
        tabs: gr.Tabs,
        generate: GenerateTab,
        upscale: UpscaleTab,
        documents: ParseTab,
    ) -> None:
        self.page, self.tabs = page, tabs
        self.generate, self.upscale, self.documents = generate, upscale, documents
        self.detail = gr.HTML(elem_id="history-detail", js_on_load=CLICKS)
        self.cards = gr.HTML(elem_id="history-cards", js_on_load=CLICKS)
        self.count = gr.State(PAGE_SIZE)
        outputs = [
            self.detail, self.cards, self.count, tabs,
            *generate.outputs, *upscale.outputs, *documents.outputs,
        ]  # fmt: skip
        shown = [generate.controls.shown, upscale.controls.shown, documents.controls.shown]
        for clickable in (self.detail, self.cards):
            clickable.click(
                self._on_action, [self.count, *shown],
                outputs, queue=False, show_progress="hidden", api_visibility="private",
            )  # fmt: skip

    def on_select(self, count: int, request: gr.Request) -> str:
        """The tab was opened."""
        return self._cards(self.page.visit(request), count)

    def _cards(self, visit: Visit, count: int) -> str:
        runs = self.page.finished_runs(visit.visitor, count + 1)
        if not runs:
            return f'<p class="vs-empty">{say(words.EMPTY, visit.language)}</p>'
        cards = "".join(results.render_card(run, visit.language) for run in runs[:count])
        more = results.button("more", words.MORE, visit.language) if len(runs) > count else ""
        return f'<div class="vs-grid">{cards}</div>{more}'

    def _on_action(
        self,
        count: int,
        shown: str | None,
        upscaled: str | None,
        document: dict[str, Any],
        event: gr.EventData,
        request: gr.Request,
    ) -> dict[Any, Any]:
        visit = self.page.visit(request)
        asked: Mapping[str, Any] = event._data or {}
        run_id = str(asked.get("run", ""))
        try:
            match asked.get("action"):
                case "show":
                    return {self.detail: self._detail(run_id, visit)}
                case "close":
                    return {self.detail: ""}
                case "more":
                    count += PAGE_SIZE
                    return {self.count: count, self.cards: self._cards(visit, count)}
                case "delete":
                    self.page.studio.delete(run_id, visit.visitor)
                    forgotten = {
                        **self.generate.forget(run_id, shown, visit),
                        **self.upscale.forget(run_id, upscaled, visit),
                        **self.documents.forget(run_id, document or {}, visit),
                    }
                    return {self.detail: "", self.cards: self._cards(visit, count), **forgotten}
                case "resume":
                    self.page.studio.videos.resume(run_id, visit.visitor, self.page.limits(visit))
                    followed = self.upscale.follow(run_id, visit)
                    return {self.tabs: gr.Tabs(selected="upscale"), **followed}
                case "read":
                    drawn = self.documents.viewer.show(run_id, visit, {})
                    return {self.tabs: gr.Tabs(selected="documents"), **drawn}
                case "again" if self._task(run_id, visit) == "upscale":
                    applied = self.upscale.run_updates(run_id, visit)
                    return {self.tabs: gr.Tabs(selected="upscale"), **applied}
                case "again" if self._task(run_id, visit) == "parse":
                    applied = self.documents.run_updates(run_id, visit)
                    return {self.tabs: gr.Tabs(selected="documents"), **applied}
                case "again":
                    applied = self.generate.run_updates(run_id, visit)
                    return {self.tabs: gr.Tabs(selected="generate"), **applied}
        except StudioError as error:
            return {self.detail: memory_panel.render_error(error, visit.language)}
        return {}

    def _task(self, run_id: str, visit: Visit) -> str:
        return str(self.page.studio.run(run_id, visit.visitor).request.get("task"))

    def _plan_now(self, request: Mapping[str, Any]) -> Plan | None:
        try:
            return self.page.studio.plan(self.page.studio.parse(request))
        except StudioError:
            return None

    def _detail(self, run_id: str, visit: Visit) -> str:
        run = self.page.studio.run(run_id, visit.visitor)
        panel = receipt = ""
        if run.receipt and run.receipt.plan:
            card = self.page.card(str(run.receipt.plan.get("card", "")))
            content = memory_panel.content_of_receipt(
                run.receipt, card.title, self._plan_now(run.request)
            )
            panel = memory_panel.render_panel(content, visit.language)
            text = json.dumps(run.receipt.to_json(), indent=2, ensure_ascii=False)
            receipt = (
                f'<details class="vs-receipt"><summary>{say(words.RECEIPT, visit.language)}'
                f"</summary><pre>{escape(text)}</pre></details>"
            )
        close = results.button("close", words.CLOSE, visit.language, kind="vs-quiet")
        title = say(words.RUN_OF, visit.language, id=run.id)
        return (
            f'<div class="vs-detail"><div class="vs-job-head"><h3>{title}</h3>{close}</div>'
            f'<div class="vs-detail-columns">{results.render_result(run, visit.language)}'
            f"{panel}</div>{receipt}</div>"
        )


def build_tab(
    page: Page, tabs: gr.Tabs, generate: GenerateTab, upscale: UpscaleTab, documents: ParseTab
) -> HistoryTab:
    """Builds the tab inside the current `gr.Tab`."""
    return HistoryTab(page, tabs, generate, upscale, documents)
