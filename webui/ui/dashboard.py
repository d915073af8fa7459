"""The dashboard tab: the machine now and before, the job at hand, receipts, buttons for the owner.

A timer asks while the tab is open, one question at a time; the page changes only what is new in
the answer, so nothing flickers and a button keeps its focus.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from webui.core.errors import StudioError
from webui.core.text import Text
from webui.core.units import format_bytes
from webui.service.at_hand import JobAtHand
from webui.service.dashboard import ACTIONS, SOURCES, Full
from webui.service.receipt_rows import QUANTITIES
from webui.ui.device_panels import POINTS, SPANS_S, DevicesContent, render_devices
from webui.ui.job_panel import render_advice, render_job
from webui.ui.language import say
from webui.ui.memory_panel import render_error
from webui.ui.page import Page, Visit
from webui.ui.receipts_panel import Choice, chip, render_receipts
from webui.ui.results import CLICKS, button
from webui.ui.seen import HIDDEN, OPEN, where_seen
from webui.ui.words import dashboard as words

REFRESH_S = 2.0
_DEFAULT_VIEW = {"span": "5m", "source": "own", "quantity": "allocated", "model": ""}

Updates = dict[Any, Any]


class DashboardTab:
    """Builds the tab inside the current `gr.Tab`, and handles its events."""

    def __init__(self, page: Page, tabs: gr.Tabs) -> None:
        self.page, self.tabs = page, tabs
        page.studio.dashboard.monitor.start()
        self.warnings = gr.HTML(elem_id="dashboard-warnings")
        self.spans = gr.HTML(elem_id="dashboard-spans", js_on_load=CLICKS)
        self.devices = gr.HTML(elem_id="dashboard-devices")
        self.actions = gr.HTML(elem_id="dashboard-actions", js_on_load=CLICKS)
        self.message = gr.HTML(elem_id="dashboard-message")
        with gr.Row(elem_classes="vs-dashboard-job", equal_height=False):
            self.job = gr.HTML(elem_id="dashboard-job")
            self.advice = gr.HTML(elem_id="dashboard-advice")
        self.receipts = gr.HTML(elem_id="dashboard-receipts", js_on_load=CLICKS)
        self.view = gr.State(dict(_DEFAULT_VIEW))
        self.seen = gr.Textbox(visible="hidden", elem_id="dashboard-seen")
        self.at_hand = gr.Textbox(visible="hidden", elem_id="dashboard-at-hand")
        self.timer = gr.Timer(REFRESH_S, active=False)
        self._wire()

    @property
    def outputs(self) -> list[Any]:
        return [
            self.warnings, self.spans, self.devices, self.actions, self.message, self.job,
            self.receipts, self.view, self.at_hand, self.timer,
        ]  # fmt: skip

    def _wire(self) -> None:
        quiet: dict[str, Any] = {
            "queue": False, "show_progress": "hidden", "api_visibility": "private",
        }  # fmt: skip
        self.timer.tick(
            self._on_tick, [self.view, self.seen],
            [self.warnings, self.devices, self.job, self.at_hand, self.timer],
            js=where_seen("dashboard-devices"), trigger_mode="once", **quiet,
        )  # fmt: skip
        # The optimizer takes longer than a reading: it is asked when the job is another one.
        self.at_hand.change(self._on_job, None, [self.advice], **quiet)
        for clickable in (self.spans, self.actions, self.receipts):
            clickable.click(self._on_action, [self.view], [*self.outputs, self.tabs], **quiet)

    def on_select(self, view: Any, request: gr.Request) -> Updates:
        """The tab was opened."""
        visit = self.page.visit(request)
        view = _checked(view)
        return {
            **self.refreshed(visit, view),
            self.spans: _spans(view["span"], visit.language),
            self.actions: _actions(visit),
            self.message: "",
            self.receipts: self._receipts(visit, view),
            self.view: view,
            self.timer: gr.Timer(active=True),
        }

    def refreshed(self, visit: Visit, view: Mapping[str, str]) -> Updates:
        """The panels as they are now: what a timer's question is answered with."""
        dashboard = self.page.studio.dashboard
        snapshot = dashboard.monitor.snapshot()
        job = dashboard.job(visit.visitor)
        content = DevicesContent(
            snapshot=snapshot,
            series=dashboard.monitor.history.series(snapshot.at_s, SPANS_S[view["span"]], POINTS),
            span=view["span"],
            warn_share=dashboard.warn_share,
            owner=visit.owner,
            kept=self.page.studio.config.memory.enable_monitoring,
            worker_pid=dashboard.worker_pid,
        )
        return {
            self.warnings: _warnings(dashboard.full(snapshot), job, dashboard.warn_share, visit),
            self.devices: render_devices(content, visit.language),
            self.job: render_job(job, visit.language),
            self.at_hand: _key(job),
        }

    def _on_tick(self, view: Any, seen: str, request: gr.Request) -> Updates:
        if seen == HIDDEN:
            return gr.skip()
        if seen != OPEN:
            return {self.timer: gr.Timer(active=False)}
        return self.refreshed(self.page.visit(request), _checked(view))

    def _on_job(self, request: gr.Request) -> str:
        visit = self.page.visit(request)
        dashboard = self.page.studio.dashboard
        job = dashboard.job(visit.visitor)
        return render_advice(dashboard.advice(job) if job else None, visit.language)

    def _receipts(self, visit: Visit, view: Mapping[str, str]) -> str:
        rows = self.page.studio.dashboard.receipts(visit.visitor, view["source"])
        choice = Choice(source=view["source"], quantity=view["quantity"], model=view["model"])
        return render_receipts(rows, choice, visit.language)

    def _on_action(self, view: Any, event: gr.EventData, request: gr.Request) -> Updates:
        visit = self.page.visit(request)
        view = _checked(view)
        asked: Mapping[str, Any] = event._data or {}
        action, value = str(asked.get("action")), str(asked.get("value", ""))
        if action == "cards":
            return {self.tabs: gr.Tabs(selected="cards")}
        if action in ACTIONS:
            return {self.message: self._act(action, visit), **self.refreshed(visit, view)}
        if action not in view:
            return gr.skip()
        view = _checked({**view, action: value})
        if action == "span":
            changed: Updates = {self.spans: _spans(view["span"], visit.language)}
            changed |= self.refreshed(visit, view)
        else:
            changed = {self.receipts: self._receipts(visit, view)}
        return {self.view: view, **changed}

    def _act(self, action: str, visit: Visit) -> str:
        try:
            done = self.page.studio.dashboard.act(action, visit.visitor)
        except StudioError as error:
            return render_error(error, visit.language)
        return f'<p class="vs-fine" role="status">{say(done, visit.language)}</p>'


def _checked(view: Any) -> dict[str, str]:
    """What a page says that it shows, with defaults for what makes no sense."""
    given = view if isinstance(view, Mapping) else {}
    allowed = {"span": SPANS_S, "source": SOURCES, "quantity": QUANTITIES}
    found = dict(_DEFAULT_VIEW)
    for name, values in allowed.items():
        if given.get(name) in values:
            found[name] = str(given[name])
    # A model that is not among the receipts shows all of them.
    found["model"] = str(given.get("model", ""))[:100]
    return found


def _key(job: JobAtHand | None) -> str:
    """Changes when other advice is due."""
    return json.dumps([job.id, dict(job.settings)], sort_keys=True) if job else ""


def _spans(chosen: str, language: str) -> str:
    chips = "".join(
        chip("span", value, text, value == chosen, language) for value, text in words.SPANS.items()
    )
    legend = "".join(
        f'<span><b class="{kind}" aria-hidden="true"></b>{say(text, language)}</span>'
        for kind, text in (
            ("vs-line-memory", words.MEMORY_LINE), ("vs-line-busy", words.BUSY_LINE),
        )
    )  # fmt: skip
    return (
        f'<div class="vs-chips"><span>{say(words.SPAN, language)}</span>{chips}'
        f'<span class="vs-legend vs-beside">{legend}</span></div>'
    )


def _actions(visit: Visit) -> str:
    """The owner's buttons; the service checks once more who asks."""
    if not visit.owner:
        return ""
    return (
        '<div class="vs-actions">'
        + button("empty-cache", words.EMPTY_CACHE, visit.language)
        + button("unload", words.UNLOAD, visit.language)
        + button(
            "end-worker", words.END_WORKER, visit.language, kind="vs-danger",
            confirm=words.CONFIRM_END,
        )
        + "</div>"
    )  # fmt: skip


def _warnings(
    full: tuple[Full, ...], job: JobAtHand | None, warn_share: float, visit: Visit
) -> str:
    language = visit.language
    told = [
        _full(
            words.FULL_HOST if one.device is None else words.FULL_GPU,
            one.used_bytes, one.total_bytes, language, device=one.device,
        )
        for one in full
    ]  # fmt: skip
    if job is not None and not job.state.final and job.plan:
        used, limit = int(job.plan["peak_device_bytes"]), int(job.plan["limit_bytes"])
        if limit and used / limit >= warn_share:
            told.append(_full(words.FULL_PLAN, used, limit, language))
    if not told:
        return ""
    hint = say(words.WARNING_HINT, language, share=f"{100 * warn_share:.0f} %")
    return (
        '<div class="vs-alert" role="status">'
        + "".join(f"<strong>{sentence}</strong>" for sentence in told)
        + f"<span>{hint}</span></div>"
    )


def _full(text: Text, used: int, total: int, language: str, **more: object) -> str:
    sentence = text.in_language(language).format(
        share=f"{100 * used / total:.0f} %",
        used=format_bytes(used),
        total=format_bytes(total),
        **more,
    )
    return escape(sentence)
