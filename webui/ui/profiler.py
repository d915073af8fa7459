"""The profiler's tab: a matrix as YAML, its rows as they run, and what earlier profiles showed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from webui.core.errors import NotAllowed, StudioError
from webui.service.analysis.comparing import compare
from webui.service.analysis.events import read_events
from webui.service.profile.examples import EXAMPLES
from webui.storage.profiles import EVENTS
from webui.ui.language import say
from webui.ui.memory_panel import render_error
from webui.ui.page import Page, Visit
from webui.ui.profiler_view import (
    render_comparison,
    render_past,
    render_profile,
    render_progress,
    render_row,
)
from webui.ui.results import CLICKS
from webui.ui.seen import HIDDEN, OPEN, where_seen
from webui.ui.words import profiler as words

EVERY_S = 1.0
MOST_PAST = 20
"""Earlier profiles that are listed."""
Updates = dict[Any, Any]


class ProfilerTab:
    """Builds the tab inside the current `gr.Tab`, and handles its events.

    Everything here is the owner's: each event asks who sent it.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        labels = page.labels
        self.about = gr.HTML(elem_id="profiler-about")
        with gr.Column(visible=False, elem_id="profiler-form") as self.form:
            self.matrix = gr.Code(
                EXAMPLES["demo"], language="yaml", label=labels(words.MATRIX), lines=12,
                max_lines=24, elem_id="profiler-matrix",
            )  # fmt: skip
            with gr.Row():
                self.run = gr.Button(labels(words.RUN), variant="primary", elem_id="profiler-run")
                examples = {
                    name: gr.Button(labels(text), size="sm", elem_id=f"profiler-example-{name}")
                    for name, text in (("demo", words.DEMO), ("wan", words.GUIDE))
                }
        self.message = gr.HTML(elem_id="profiler-message")
        self.progress = gr.HTML(elem_id="profiler-progress", js_on_load=CLICKS)
        self.rows = gr.HTML(elem_id="profiler-rows", js_on_load=CLICKS)
        self.detail = gr.HTML(elem_id="profiler-detail", js_on_load=CLICKS)
        self.past = gr.HTML(elem_id="profiler-past", js_on_load=CLICKS)
        self.opened = gr.State("")
        self.seen = gr.Textbox(visible="hidden", elem_id="profiler-seen")
        self.timer = gr.Timer(EVERY_S, active=False)
        self.outputs = [self.about, self.form, self.message, self.progress, self.detail,
                        self.rows, self.past, self.opened, self.timer]  # fmt: skip
        quiet: dict[str, Any] = {
            "outputs": self.outputs, "queue": False, "show_progress": "hidden",
            "api_visibility": "private",
        }  # fmt: skip
        self.run.click(self._on_run, [self.matrix], **quiet)
        self.timer.tick(
            self._on_tick, [self.opened, self.seen], js=where_seen("profiler-about"),
            trigger_mode="once", **quiet,
        )  # fmt: skip
        for clickable in (self.progress, self.detail, self.rows, self.past):
            clickable.click(self._on_action, [self.opened], **quiet)
        for name, example in examples.items():
            example.click(
                lambda name=name: EXAMPLES[name], None, [self.matrix], queue=False,
                show_progress="hidden", api_visibility="private",
            )  # fmt: skip

    def on_select(self, opened: Any, request: gr.Request) -> Updates:
        """The tab was opened."""
        visit = self.page.visit(request)
        if not visit.owner:
            about = f'<p class="vs-empty">{say(words.OWNER_ONLY, visit.language)}</p>'
            return {self.about: about, self.form: gr.update(visible=False)}
        run, names = self.page.studio.profiler.current, self._names()
        name = str(opened or "") or (run.name if run is not None else next(iter(names), ""))
        return {
            self.about: f'<p class="vs-fine">{say(words.ABOUT, visit.language)}</p>',
            self.form: gr.update(visible=True),
            **self._poll("", visit),
            self.past: render_past(names, visit.language),
            **self._open(name, visit),
        }

    def _on_run(self, matrix: Any, request: gr.Request) -> Updates:
        visit = self.page.visit(request)
        try:
            run = self.page.studio.profiler.start(str(matrix or ""), visit.visitor)
        except StudioError as error:
            return {self.message: render_error(error, visit.language)}
        return {
            self.message: "",
            self.detail: "",
            self.past: render_past(self._names(), visit.language),
            **self._poll("", visit),
            **self._open(run.name, visit),
        }

    def _on_tick(self, opened: Any, seen: str, request: gr.Request) -> Updates:
        if seen == HIDDEN:
            return gr.skip()
        visit = self.page.visit(request)
        if seen != OPEN or not visit.owner:
            return {self.timer: gr.Timer(active=False)}
        return self._poll(str(opened or ""), visit)

    def _on_action(self, opened: Any, event: gr.EventData, request: gr.Request) -> Updates:
        visit = self.page.visit(request)
        given: Mapping[str, Any] = event._data or {}
        asked = {str(key): str(value) for key, value in given.items()}
        try:
            return self._act(asked, str(opened or ""), visit)
        except StudioError as error:
            return {self.message: render_error(error, visit.language)}

    def _act(self, asked: Mapping[str, str], opened: str, visit: Visit) -> Updates:
        """A button in one of the HTML areas.

        Raises:
            StudioError: not the owner, or no such profile or row.
        """
        if not visit.owner:
            raise NotAllowed(words.OWNER_ONLY)
        name, row = asked.get("profile", ""), asked.get("row", "")
        match asked.get("action"):
            case "cancel":
                self.page.studio.profiler.cancel(visit.visitor)
                return self._poll(opened, visit)
            case "open":
                return {**self._open(name, visit), self.detail: "", self.message: ""}
            case "row":
                return {self.detail: self._row(name, row, visit), self.message: ""}
            case "compare":
                detail = self._compare(name, row, asked.get("other", ""), visit)
                return {self.detail: detail, self.message: ""}
            case "delete":
                self.page.studio.profiler.delete(name, visit.visitor)
                past = render_past(self._names(), visit.language)
                return {
                    self.past: past,
                    self.rows: "",
                    self.detail: "",
                    self.message: "",
                    self.opened: "",
                }
            case "close":
                return {self.detail: ""}
        return gr.skip()

    def _poll(self, opened: str, visit: Visit) -> Updates:
        """How the newest matrix stands; its rows so far, where they are what is shown."""
        run = self.page.studio.profiler.current
        if run is None:
            return {self.timer: gr.Timer(active=False)}
        ended = run.ended
        updates: Updates = {
            self.progress: render_progress(run, visit.language),
            self.timer: gr.Timer(active=not ended),
        }
        if opened == run.name and run.name in self._names():  # it may be deleted
            updates[self.rows] = self._profile(run.name, visit)
        if ended:
            updates[self.past] = render_past(self._names(), visit.language)
        return updates

    def _names(self) -> list[str]:
        return self.page.studio.profiler.profiles.names()[:MOST_PAST]

    def _open(self, name: str, visit: Visit) -> Updates:
        """The rows of a profile, which stay until another one is opened."""
        return {self.rows: self._profile(name, visit) if name else "", self.opened: name}

    def _profile(self, name: str, visit: Visit) -> str:
        try:
            summary = self.page.studio.profiler.profiles.summary(name)
        except StudioError as error:
            return render_error(error, visit.language)
        return render_profile(summary, visit.language)

    def _row(self, name: str, folder: str, visit: Visit) -> str:
        profiles = self.page.studio.profiler.profiles
        rows = {str(row["folder"]): row for row in profiles.summary(name)["rows"]}
        if folder not in rows:
            profiles.folder(name, folder or "-")  # says that there is none
            return ""
        others = {
            other: str(row["row"])
            for other, row in rows.items()
            if other != folder and row.get("memory")
        }
        found = rows[folder]
        return render_row(name, found, others if found.get("memory") else {}, visit.language)

    def _compare(self, name: str, first: str, second: str, visit: Visit) -> str:
        profiles = self.page.studio.profiler.profiles
        one, two = (read_events(profiles.file(name, row, EVENTS)) for row in (first, second))
        named = {str(row["folder"]): str(row["row"]) for row in profiles.summary(name)["rows"]}
        found = compare(named.get(first, first), one, named.get(second, second), two)
        return render_comparison(found, visit.language)


def build_tab(page: Page) -> ProfilerTab:
    """Builds the tab inside the current `gr.Tab`."""
    return ProfilerTab(page)
