"""The documents tab: files -> counted pages -> plan on every change; Read -> pages as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.documents import DocumentCard, DocumentRequest, count_pages
from webui.core.errors import BadInput, StudioError
from webui.service.questions import has_limits
from webui.ui import memory_panel, parse_form, plan_panel, results
from webui.ui.form import plain
from webui.ui.page import Page, Visit
from webui.ui.parse_controls import build_controls, hint_updates, model_updates
from webui.ui.parse_input import chosen_input, count_input, request_for
from webui.ui.parse_viewer import TASK, DocumentViewer
from webui.ui.task_controls import setting_updates
from webui.ui.task_tab import Form, State, TaskTab, Updates
from webui.ui.words import parse as words

SAME_WORK = ("model", "pages", "height", "width", "max_pixels", "new_tokens", "card", "vram_gib",
             "settings")  # fmt: skip
"""Keys that decide memory and time: a run with these measured what the form plans."""
_OF_INPUT = ("pages", "dpi", "folder")
"""Fields after which the input's pages are counted anew."""
KEPT = ("pages", "dpi", "folder", "card", "vram_gib")


class ParseTab(TaskTab[DocumentCard]):
    """Builds the tab and handles its events; other tabs apply a run's settings through it."""

    def __init__(self, page: Page, memory: gr.BrowserState) -> None:
        self.controls = build_controls(page, memory)
        super().__init__(page, self.controls, parse_form, KEPT)
        self.viewer = DocumentViewer(page, self.controls)
        self._wire()

    @property
    def outputs(self) -> list[Any]:
        controls = self.controls
        return [
            *self._fields.values(), *controls.columns.values(), *controls.notes.values(),
            controls.folder, controls.input_hint, controls.size_hint, controls.memory_settings,
            controls.message, controls.panel, controls.counted, *self.polled,
        ]  # fmt: skip

    @property
    def polled(self) -> list[Any]:
        controls = self.controls
        return [
            controls.weights, controls.jobs, controls.document, controls.ways, controls.search,
            controls.found, controls.pager, controls.reader, controls.recent, controls.timer,
            controls.following, controls.shown, controls.known, controls.revision,
            controls.memory,
        ]  # fmt: skip

    @property
    def uploads(self) -> Mapping[str, Component]:
        return {"files": self.controls.files}

    def models(self) -> Mapping[str, DocumentCard]:
        return self.page.readers()

    # Events

    def _wire(self) -> None:
        fields, controls = self._fields, self.controls
        inputs = {
            *fields.values(), controls.files, controls.search, controls.counted, controls.shown,
            controls.known, controls.following,
        }  # fmt: skip
        quiet = self._quiet(inputs)
        edits = [part.input for name, part in fields.items() if name not in ("model", *_OF_INPUT)]
        gr.on(
            [*edits, controls.revision.change], self._event(self.plan_updates),
            trigger_mode="always_last", **quiet,
        )  # fmt: skip
        named = [part for name in ("pages", "folder")
                 for part in (fields[name].blur, fields[name].submit)]  # fmt: skip
        gr.on(
            [controls.files.change, fields["dpi"].release, *named], self._event(self._on_input),
            trigger_mode="always_last", **quiet,
        )  # fmt: skip
        fields["model"].input(self._event(self._on_model), **quiet)
        controls.run.click(self._event(self._on_run), trigger_mode="multiple", **quiet)
        controls.timer.tick(self._event(self._poll), **self._quiet(inputs, self.polled))
        controls.search.submit(self._event(self._on_search), **quiet)
        clickables = (
            controls.weights, controls.panel, controls.jobs, controls.document, controls.found,
            controls.pager, controls.reader, controls.recent,
        )  # fmt: skip
        for clickable in clickables:
            clickable.click(self._action_event(), trigger_mode="multiple", **quiet)

    def on_load(self, saved: Any, request: gr.Request) -> Updates:
        """A page was opened: the remembered form, the jobs under way, the shown document."""
        visit = self.page.visit(request)
        form, updates = self._loaded(saved, visit)
        updates |= self.viewer.empty(visit)
        before = saved.get("shown") if isinstance(saved, Mapping) else None
        if isinstance(before, str) and before:
            drawn = self.viewer.show(before, visit, {})
            updates |= drawn if self.controls.shown in drawn else {}
        updates |= self._poll(form, visit, {"shown": updates[self.controls.shown]})
        updates[self.controls.recent] = self.viewer.recent(visit)
        updates[self.controls.folder] = gr.update(visible=visit.owner)
        return updates

    def _remember(self, updates: Updates, form: Form, state: State) -> Updates:
        """The same, with the browser remembering which document is shown."""
        now = updates.get(self.controls.shown)
        if now is None or now.get("run") == state["shown"].get("run"):
            return updates
        return {self.controls.memory: {**form, "shown": now.get("run")}, **updates}

    def _state(self, data: Mapping[Any, Any]) -> State:
        controls = self.controls
        return {
            "files": data[controls.files],
            "search": plain(data[controls.search]),
            "counted": data[controls.counted] or {},
            "shown": data[controls.shown] or {},
            "known": data[controls.known] or {},
            "following": data[controls.following],
        }

    # What the page shows of a form

    def plan_updates(self, form: Form, visit: Visit, state: State) -> Updates:
        model, counted = self._model(form), state.get("counted") or {}
        shown = state.get("shown") or {}
        updates: Updates = {self.controls.memory: {**form, "shown": shown.get("run")}}
        try:
            request = self.page.studio.parse(parse_form.request_data(form, model, counted))
            plan = self.page.studio.plan(request, visit.owner)
        except StudioError as error:
            updates |= self._hints(form, counted, None, visit)
            updates[self.controls.panel] = memory_panel.render_error(error, visit.language)
            return updates
        planned = plan.request
        assert isinstance(planned, DocumentRequest)
        fed = model.fed_size(planned.height, planned.width, planned.max_pixels)
        updates |= self._hints(form, counted, fed, visit)
        receipt = plan_panel.receipt_for(self.page, plan, visit, shown.get("run"), SAME_WORK)
        updates[self.controls.panel] = plan_panel.plan_panel(
            self.page, plan, visit, receipt, has_limits(planned)
        )
        return updates | setting_updates(self.controls.columns, self.controls.notes, plan, visit)

    def _hints(
        self, form: Form, counted: Mapping[str, Any], fed: tuple[int, int] | None, visit: Visit
    ) -> Updates:
        pages = count_pages(counted["pages"]) if counted else 0
        return hint_updates(self.controls, form, counted, pages, fed, visit)

    def _model_updates(self, form: Form, model: DocumentCard, visit: Visit) -> Updates:
        return model_updates(self.controls, form, model, visit)

    def run_updates(self, run_id: str, visit: Visit) -> Updates:
        """A run of the past: its settings in the form, its pages beside it.

        Raises:
            NotFound: the visitor has no such run, or its model left the catalogue.
        """
        run = self.page.studio.run(run_id, visit.visitor)
        return {
            **self.request_updates(run.request, visit),
            **self.viewer.show(run_id, visit, {}),
        }

    def forget(self, run_id: str, shown: Mapping[str, Any], visit: Visit) -> Updates:
        """A run was deleted: its pages go from the tab."""
        updates: Updates = {self.controls.recent: self.viewer.recent(visit)}
        return updates | (self.viewer.empty(visit) if shown.get("run") == run_id else {})

    # What the user does

    def _on_input(self, form: Form, visit: Visit, state: State) -> Updates:
        """Another input, or other pages of it: they are counted, and the plan is for those."""
        counted: Mapping[str, Any] = {}
        message = ""
        try:
            counted = count_input(self.page, form, self._model(form), state["files"], visit)
        except StudioError as error:
            message = memory_panel.render_error(error, visit.language)
        updates = self.plan_updates(form, visit, {**state, "counted": counted})
        return {**updates, self.controls.counted: counted, self.controls.message: message}

    def _on_run(self, form: Form, visit: Visit, state: State) -> Updates:
        try:
            with chosen_input(self.page, form, state["files"], visit) as path:
                if not path:
                    raise BadInput("input", words.NO_DOCUMENT, words.CHOOSE_ONE)
                request = request_for(self.page, form, self._model(form), path)
                job = self.page.studio.submit(request, visit.visitor)
        except StudioError as error:
            return {self.controls.message: memory_panel.render_error(error, visit.language)}
        return {
            **self._poll(form, visit, {**state, "following": job, "shown": _kept_view(state)}),
            self.controls.message: "",
        }

    def _on_search(self, form: Form, visit: Visit, state: State) -> Updates:
        return self.viewer.find(str(state["search"] or ""), visit, state["shown"])

    def _poll(self, form: Form, visit: Visit, state: State) -> Updates:
        """How the visitor's documents stand, and the new pages of the followed one."""
        shown = state.get("shown") or {}
        jobs, updates = self._jobs(form, visit, TASK)
        following = state.get("following") or (jobs[0].id if jobs else None)
        if following:
            if shown.get("run") in (None, following):  # else another document is looked at
                updates |= self.viewer.follow(following, visit, shown, state.get("known") or {})
            if following not in [job.id for job in jobs]:
                updates |= {
                    self.controls.recent: self.viewer.recent(visit),
                    **self.controls.replan(),
                }
                following = jobs[0].id if jobs else None
        now = (updates.get(self.controls.shown) or shown).get("run")
        return {
            **updates,
            self.controls.jobs: results.render_jobs(jobs, visit.language, now),
            self.controls.following: following,
        }

    def _act(self, asked: Mapping[str, str], form: Form, visit: Visit, state: State) -> Updates:
        studio, run_id = self.page.studio, asked.get("run", "")
        match asked.get("action"):
            case "limits":
                data = parse_form.request_data(form, self._model(form), state["counted"])
                panel = plan_panel.limits_panel(self.page, studio.parse(data), visit)
                return {self.controls.panel: panel}
            case "resume":
                studio.documents.resume(run_id, visit.visitor, self.page.limits(visit))
                again = {**state, "following": run_id, "shown": _kept_view(state), "known": {}}
                return self._poll(form, visit, again)
            case "again":
                return self.request_updates(studio.run(run_id, visit.visitor).request, visit)
        updates = self._act_as_all(asked, form, visit, state)
        if updates is not None:
            return updates
        updates = self.viewer.act(asked, visit, state["shown"], state["known"])
        if asked.get("action") == "show":  # its measurement stands beside the plan
            updates |= self.controls.replan()
        return {**updates, self.controls.message: ""}


def _kept_view(state: State) -> dict[str, Any]:
    """Nothing shown yet, in the way in which the last document was."""
    return {key: state["shown"][key] for key in ("view",) if key in state["shown"]}


def build_tab(page: Page, memory: gr.BrowserState) -> ParseTab:
    """Builds the tab inside the current `gr.Tab`."""
    return ParseTab(page, memory)
