"""The generation tab: form -> plan on every change; Generate -> job -> result and estimate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.clip import ClipCard
from webui.core.errors import StudioError
from webui.ui import form as forms
from webui.ui import memory_panel, plan_panel, results
from webui.ui.generate_form import (
    build_controls,
    hint_updates,
    render_examples,
    size_choices,
    workload_updates,
)
from webui.ui.page import Page, Visit
from webui.ui.task_controls import setting_updates
from webui.ui.task_tab import Form, State, TaskTab, Updates
from webui.ui.uploads import with_pictures
from webui.ui.words import generate as words

RECENT = 8
TASK = "generate"
SAME_WORK = ("model", "batch", "frames", "height", "width", "steps", "guidance", "flow_shift",
             "solver", "card", "vram_gib", "settings")  # fmt: skip
"""Keys that decide memory and time: a run with these measured what the form plans."""
KEPT = ("prompt", "card", "vram_gib", "seed")


class GenerateTab(TaskTab[ClipCard]):
    """Builds the tab and handles its events; other tabs apply a run's settings through it."""

    def __init__(self, page: Page) -> None:
        self.controls = build_controls(page)
        super().__init__(page, self.controls, forms, KEPT)
        self._wire()

    @property
    def outputs(self) -> list[Any]:
        controls = self.controls
        return [
            *self._fields.values(), *controls.columns.values(), *controls.notes.values(),
            controls.prompts, *controls.pictures.values(), controls.custom_size,
            controls.frames_hint, controls.size_hint, controls.examples, controls.message,
            controls.panel, controls.memory, *self.polled,
        ]  # fmt: skip

    @property
    def polled(self) -> list[Any]:
        controls = self.controls
        return [
            controls.weights, controls.jobs, controls.result, controls.recent, controls.timer,
            controls.following, controls.shown, controls.revision,
        ]  # fmt: skip

    @property
    def uploads(self) -> Mapping[str, Component]:
        return self.controls.pictures

    def models(self) -> Mapping[str, ClipCard]:
        return self.page.models()

    # Events

    def _wire(self) -> None:
        fields, controls = self._fields, self.controls
        pictures = controls.pictures.values()
        inputs = {*fields.values(), *pictures, controls.shown, controls.following}
        quiet = self._quiet(inputs)
        texts = ("prompt", "negative_prompt")
        edits = [part.input for name, part in fields.items() if name not in ("model", *texts)]
        # One listener for all: two would answer out of order, and the older plan would stay.
        chosen = [picture.change for picture in pictures]
        gr.on(
            [*edits, *chosen, controls.revision.change], self._event(self.plan_updates),
            trigger_mode="always_last", **quiet,
        )  # fmt: skip
        fields["model"].input(self._event(self._on_model), **quiet)
        for name in texts:
            fields[name].blur(self._event(self._on_text), **quiet)
        for name in ("width", "height"):
            gr.on([fields[name].blur, fields[name].submit], self._event(self._on_snap), **quiet)
        fields["frames"].release(self._event(self._on_snap), **quiet)
        controls.run.click(self._event(self._on_generate), trigger_mode="multiple", **quiet)
        controls.timer.tick(self._event(self._poll), **self._quiet(inputs, self.polled))
        for clickable in (controls.examples, controls.weights, controls.panel, controls.jobs,
                          controls.result, controls.recent):  # fmt: skip
            clickable.click(self._action_event(), **quiet)

    def on_load(self, saved: Any, request: gr.Request) -> Updates:
        """A page was opened: its language, the remembered form, and the jobs under way."""
        visit = self.page.visit(request)
        form, updates = self._loaded(saved, visit)
        updates |= self._poll(form, visit, {})
        updates.setdefault(self.controls.result, _nothing(visit))
        updates[self.controls.recent] = self._recent(visit)
        return updates

    def _state(self, data: Mapping[Any, Any]) -> State:
        return {
            "shown": data[self.controls.shown],
            "following": data[self.controls.following],
            "pictures": {key: data[part] for key, part in self.controls.pictures.items()},
        }

    # What the page shows of a form

    def plan_updates(self, form: Form, visit: Visit, state: State) -> Updates:
        model, controls = self._model(form), self.controls
        updates = hint_updates(controls, form, model, visit)
        updates[controls.memory] = form
        try:
            data = forms.request_data(form, model, state["pictures"])
            request = self.page.studio.parse(data)
            plan = self.page.studio.plan(request, visit.owner)
        except StudioError as error:
            updates[controls.panel] = memory_panel.render_error(error, visit.language)
            return updates
        receipt = plan_panel.receipt_for(self.page, plan, visit, state.get("shown"), SAME_WORK)
        updates[controls.panel] = plan_panel.plan_panel(self.page, plan, visit, receipt)
        return updates | setting_updates(controls.columns, controls.notes, plan, visit)

    def _model_updates(self, form: Form, model: ClipCard, visit: Visit) -> Updates:
        return {
            self._fields["frames"]: gr.update(
                value=form["frames"],
                minimum=model.min_frames,
                maximum=model.max_frames,
                step=model.frame_step,
            ),
            self._fields["size"]: gr.update(
                choices=size_choices(model, visit.language), value=form["size"]
            ),
            **workload_updates(self.controls, form, model, visit),
            **hint_updates(self.controls, form, model, visit),
            self.controls.examples: render_examples(model, visit),
        }

    def run_updates(self, run_id: str, visit: Visit) -> Updates:
        """The settings of a run of the past, back in the form.

        Raises:
            NotFound: the visitor has no such run, or its model left the catalogue.
        """
        run = self.page.studio.run(run_id, visit.visitor)
        return {**self.request_updates(run.request, visit), self.controls.shown: run_id}

    def forget(self, run_id: str, shown: str | None, visit: Visit) -> Updates:
        """A run was deleted: it leaves the player and the row of recent runs."""
        updates: Updates = {self.controls.recent: self._recent(visit)}
        if run_id == shown:
            updates |= {self.controls.result: _nothing(visit), self.controls.shown: None}
        return updates

    def _recent(self, visit: Visit) -> str:
        runs = self.page.finished_runs(visit.visitor, RECENT, TASK)
        return results.render_strip(runs, visit.language, words.RECENT)

    # What the user does

    def _on_text(self, form: Form, visit: Visit, state: State) -> Updates:
        return {self.controls.memory: form}

    def _on_snap(self, form: Form, visit: Visit, state: State) -> Updates:
        model = self._model(form)
        width, height = forms.size_of(form, model)
        snapped: dict[str, Any] = {"frames": model.snap_frames(forms.number(form["frames"], 1))}
        if form["size"] == forms.CUSTOM_SIZE:
            snapped |= {"width": width, "height": height}
        changed = {name: value for name, value in snapped.items() if form[name] != value}
        updates: Updates = {self._fields[name]: value for name, value in changed.items()}
        # Nothing else: the plan says the rest, and may have been made anew before this arrives.
        if changed.keys() & {"width", "height"}:
            updates[self.controls.size_hint] = ""
        return updates

    def _on_generate(self, form: Form, visit: Visit, state: State) -> Updates:
        studio, controls = self.page.studio, self.controls
        try:
            request = studio.parse(forms.request_data(form, self._model(form)))
            job = studio.submit(with_pictures(request, state["pictures"]), visit.visitor)
        except StudioError as error:
            message = memory_panel.render_error(error, visit.language)
            return {controls.message: message, controls.memory: form}
        updates = self._poll(form, visit, {**state, "following": job})
        return {**updates, controls.message: "", controls.memory: form}

    def _poll(self, form: Form, visit: Visit, state: State) -> Updates:
        """How the visitor's jobs stand; the result of the followed one once it has ended."""
        jobs, updates = self._jobs(form, visit, TASK)
        updates[self.controls.jobs] = results.render_jobs(jobs, visit.language)
        following = state.get("following")
        if following and following not in [job.id for job in jobs]:
            updates |= self._show(following, visit)
            updates[self.controls.recent] = self._recent(visit)
            following = None
        updates[self.controls.following] = following or (jobs[0].id if jobs else None)
        return updates

    def _show(self, run_id: str, visit: Visit) -> Updates:
        try:
            run = self.page.studio.run(run_id, visit.visitor)
        except StudioError as error:
            return {self.controls.result: memory_panel.render_error(error, visit.language)}
        return {
            **self.controls.replan(),
            self.controls.result: results.render_result(run, visit.language),
            self.controls.shown: run_id,
        }

    def _act(self, asked: Mapping[str, str], form: Form, visit: Visit, state: State) -> Updates:
        match asked.get("action"):
            case "example":
                form["prompt"] = asked.get("prompt", "")[:4000]
                return {self._fields["prompt"]: form["prompt"], self.controls.memory: form}
            case "limits":
                data = forms.request_data(form, self._model(form), state["pictures"])
                panel = plan_panel.limits_panel(self.page, self.page.studio.parse(data), visit)
                return {self.controls.panel: panel}
            case "show":
                return self._show(asked.get("run", ""), visit)
            case "again":
                return self.run_updates(asked.get("run", ""), visit)
        return self._act_as_all(asked, form, visit, state) or {}


def _nothing(visit: Visit) -> str:
    return f'<p class="vs-empty">{visit.say(words.RESULT_EMPTY)}</p>'


def build_tab(page: Page) -> GenerateTab:
    """Builds the tab inside the current `gr.Tab`."""
    return GenerateTab(page)
