"""The upscaling tab: input and form -> plan on every change; Upscale -> job -> before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.errors import BadInput, StudioError
from webui.core.plan import Alternative
from webui.core.text import Text
from webui.core.upscale import UpscaleCard, UpscaleRequest
from webui.estimator.upscaling import segments_of
from webui.ui import memory_panel, plan_panel, results, upscale_form, upscale_view, work_view
from webui.ui.form import number, plain
from webui.ui.page import Page, Visit
from webui.ui.task_controls import setting_updates
from webui.ui.task_tab import Form, State, TaskTab, Updates
from webui.ui.upscale_controls import build_controls, input_updates, model_updates
from webui.ui.upscale_form import SIZE_KEYS
from webui.ui.upscale_input import about, chosen_files, largest, look_at
from webui.ui.upscale_output import TASK, UpscaleOutput
from webui.ui.words import upscale as words

SAME_WORK = ("model", "scale", "frames", "height", "width", "overlap", "segment_frames", "colour",
             "card", "vram_gib", "settings")  # fmt: skip
"""Keys that decide memory and time: a run with these measured what the form plans."""
KEPT = (*SIZE_KEYS, "card", "vram_gib", "colour", "quality")


class UpscaleTab(TaskTab[UpscaleCard]):
    """Builds the tab and handles its events; other tabs apply a run's settings through it."""

    def __init__(self, page: Page, memory: gr.BrowserState) -> None:
        self.controls = build_controls(page, memory)
        super().__init__(page, self.controls, upscale_form, KEPT)
        self.output = UpscaleOutput(page, self.controls)
        self._wire()

    @property
    def outputs(self) -> list[Any]:
        controls = self.controls
        return [
            *self._fields.values(), *controls.columns.values(), *controls.notes.values(),
            controls.input_hint, controls.size_hint, controls.message, controls.panel,
            controls.file, controls.source, controls.memory, *self.polled,
        ]  # fmt: skip

    @property
    def polled(self) -> list[Any]:
        controls = self.controls
        return [
            controls.weights, controls.jobs, controls.result, controls.pair, controls.frame,
            controls.recent, controls.timer, controls.following, controls.shown, controls.seen,
            controls.revision,
        ]  # fmt: skip

    @property
    def uploads(self) -> Mapping[str, Component]:
        return {"file": self.controls.file}

    def models(self) -> Mapping[str, UpscaleCard]:
        return self.page.upscalers()

    # Events

    def _wire(self) -> None:
        fields, controls = self._fields, self.controls
        inputs = {
            *fields.values(), controls.file, controls.source, controls.following, controls.shown,
            controls.seen, controls.frame,
        }  # fmt: skip
        quiet = self._quiet(inputs)
        edits = [part.input for name, part in fields.items() if name != "model"]
        # One listener for all: two would answer out of order, and the older plan would stay.
        gr.on(
            [*edits, controls.revision.change], self._event(self.plan_updates),
            trigger_mode="always_last", **quiet,
        )  # fmt: skip
        fields["model"].input(self._event(self._on_model), **quiet)
        controls.file.change(self._event(self._on_input), trigger_mode="always_last", **quiet)
        # A second click while files are submitted would submit them twice.
        controls.run.click(self._event(self._on_run), trigger_mode="once", **quiet)
        # Not `release`: that is of the mouse alone.
        controls.frame.input(self._event(self._on_frame), trigger_mode="always_last", **quiet)
        controls.timer.tick(self._event(self._poll), **self._quiet(inputs, self.polled))
        for clickable in (controls.weights, controls.panel, controls.jobs, controls.result,
                          controls.recent):  # fmt: skip
            clickable.click(self._action_event(), **quiet)

    def on_load(self, saved: Any, request: gr.Request) -> Updates:
        """A page was opened: the remembered form, and the jobs under way."""
        visit = self.page.visit(request)
        form, updates = self._loaded(saved, visit)
        updates[self.controls.input_hint] = upscale_view.render_facts({}, visit.language)
        updates |= self._poll(form, visit, {})
        updates.setdefault(self.controls.result, self.output.empty(visit))
        updates[self.controls.recent] = self.output.recent(visit)
        return updates

    def _state(self, data: Mapping[Any, Any]) -> State:
        controls, source = self.controls, data[self.controls.source] or {}
        inputs = source.get("inputs") or []
        first = largest(inputs)
        return {
            "files": data[controls.file],
            "inputs": inputs,
            "facts": first.facts if first else {},
            "refused": bool(source.get("refused")),
            "following": data[controls.following],
            "shown": data[controls.shown],
            "seen": data[controls.seen],
            "frame": plain(data[controls.frame]),
        }

    # What the page shows of a form

    def plan_updates(self, form: Form, visit: Visit, state: State) -> Updates:
        controls, facts = self.controls, state["facts"]
        # A run or a preset that was put into the form, here or in another tab, has other sizes.
        wrong = [key for key in SIZE_KEYS if facts and form[key] != facts[key]]
        form = form | {key: facts[key] for key in wrong}
        updates: Updates = {
            controls.memory: form,
            **{self._fields[key]: gr.update(value=facts[key]) for key in wrong},
        }
        try:
            if state.get("refused"):  # a plan would be for a size that nobody asked about
                raise BadInput("input", words.NO_PLAN)
            request = self.page.studio.parse(
                upscale_form.request_data(form, self._model(form), facts)
            )
            assert isinstance(request, UpscaleRequest)
            size = request.output_size
            updates[controls.size_hint] = upscale_view.render_size(*size, 1, visit.language)
            plan = self.page.studio.plan(request, visit.owner)
            segments = segments_of(request, plan.settings)
            updates[controls.size_hint] = upscale_view.render_size(*size, segments, visit.language)
        except StudioError as error:
            updates[controls.panel] = memory_panel.render_error(error, visit.language)
            return updates
        if facts:
            plan = replace(plan, alternatives=tuple(map(for_this_input, plan.alternatives)))
        receipt = plan_panel.receipt_for(self.page, plan, visit, state.get("shown"), SAME_WORK)
        updates[controls.panel] = plan_panel.plan_panel(self.page, plan, visit, receipt)
        return updates | setting_updates(controls.columns, controls.notes, plan, visit)

    def _model_updates(self, form: Form, model: UpscaleCard, visit: Visit) -> Updates:
        return model_updates(self.controls, form, model, visit)

    def run_updates(self, run_id: str, visit: Visit) -> Updates:
        """A run of the past: its settings in the form, and what it made.

        Raises:
            NotFound: the visitor has no such run, or its model left the catalogue.
        """
        run = self.page.studio.run(run_id, visit.visitor)
        return {**self.request_updates(run.request, visit), **self.output.show(run_id, visit)}

    def follow(self, run_id: str, visit: Visit) -> Updates:
        """Looks at a run that goes on."""
        return self._poll(None, visit, {"following": run_id})

    def forget(self, run_id: str, shown: str | None, visit: Visit) -> Updates:
        """A run was deleted: it leaves the player and the row of recent runs."""
        return self.output.forget(run_id, shown, visit)

    # What the user does

    def _on_input(self, form: Form, visit: Visit, state: State) -> Updates:
        """Other files, or none: what they are fills the form, and the plan is for the largest."""
        controls = self.controls
        inputs, refused = look_at(self.page, state["files"], visit, state["inputs"])
        first = largest(inputs)
        # Planned by the revision alone, so that an older plan cannot come in later.
        return {
            **input_updates(controls, first.facts if first else None),
            controls.source: {"inputs": inputs, "refused": bool(refused)},
            controls.input_hint: ""
            if refused and not inputs
            else upscale_view.render_inputs(inputs, visit.language, planned=not refused),
            controls.message: memory_panel.render_error(refused, visit.language) if refused else "",
            **controls.replan(),
        }

    def _on_run(self, form: Form, visit: Visit, state: State) -> Updates:
        """A job for each file. Where one is refused, those before it are queued and leave the
        box."""
        controls, jobs = self.controls, list[str]()
        updates: Updates = {controls.message: "", controls.memory: form}
        try:
            files = chosen_files(state["files"])
            if not files:
                raise BadInput("input", words.NO_INPUT, words.CHOOSE_ONE)
            if state["refused"]:  # said when it was chosen; the others wait until it is out
                _, refused = look_at(self.page, state["files"], visit, state["inputs"])
                if refused is not None:
                    raise refused
            for job in self._submit(files, form, visit, state):
                jobs.append(job)
        except StudioError as error:
            updates[controls.message] = memory_panel.render_error(error, visit.language)
            if jobs:
                told = visit.say(words.QUEUED, done=len(jobs), count=len(files))
                updates[controls.message] += f'<p class="vs-hint">{told}</p>'
                updates[controls.file] = gr.update(
                    value=[str(path) for _, path in files[len(jobs) :]]
                )
        if not jobs:
            return updates
        return {
            **self._poll(form, visit, {**state, "following": jobs[0], "shown": None}),
            **updates,
        }

    def _submit(
        self, files: Sequence[tuple[str, Path]], form: Form, visit: Visit, state: State
    ) -> Iterator[str]:
        """The job of each file, in order.

        Raises:
            StudioError: one of them is refused.
        """
        studio, known = self.page.studio, {one.path: one.facts for one in state["inputs"]}
        for name, path in files:
            try:
                data = upscale_form.request_data(form, self._model(form), known.get(path))
                yield studio.submit(studio.parse({**data, "input": str(path)}), visit.visitor)
            except StudioError as error:
                raise about(error, name, len(files)) from error

    def _on_frame(self, form: Form, visit: Visit, state: State) -> Updates:
        try:
            frame = int(number(state["frame"], 1))
            return self.output.choose(str(state["shown"] or ""), frame, visit)
        except StudioError as error:
            return {self.controls.message: memory_panel.render_error(error, visit.language)}

    def _poll(self, form: Form | None, visit: Visit, state: State) -> Updates:
        """How the visitor's jobs stand, the newest frame, and the result once there is one."""
        controls = self.controls
        jobs, updates = self._jobs(form, visit, TASK)
        updates[controls.jobs] = results.render_jobs(
            jobs, visit.language
        ) + work_view.render_work_of(jobs, visit.language)
        following = state.get("following") or (jobs[0].id if jobs else None)
        if following and following not in [job.id for job in jobs]:
            updates |= self.output.show(following, visit)
            updates[controls.recent] = self.output.recent(visit)
            following = jobs[0].id if jobs else None
        elif following and state.get("shown") in (None, following):  # else another is looked at
            updates |= self.output.newest(following, visit, str(state.get("seen") or ""))
        updates[controls.following] = following
        return updates

    def _act(self, asked: Mapping[str, str], form: Form, visit: Visit, state: State) -> Updates:
        run_id = asked.get("run", "")
        match asked.get("action"):
            case "limits":
                facts = state["facts"]
                data = upscale_form.request_data(form, self._model(form), facts)
                as_told = _only_told if facts else plan_panel.as_it_is
                request = self.page.studio.parse(data)
                panel = plan_panel.limits_panel(self.page, request, visit, as_told)
                return {self.controls.panel: panel}
            case "resume":
                self.page.studio.videos.resume(run_id, visit.visitor, self.page.limits(visit))
                again = {**state, "following": run_id, "shown": None}
                return {**self._poll(form, visit, again), self.controls.message: ""}
            case "show":
                return self.output.show(run_id, visit)
            case "again":
                return self.run_updates(run_id, visit)
        return self._act_as_all(asked, form, visit, state) or {}


def for_this_input(offer: Alternative) -> Alternative:
    """An offer of another size cannot be applied to an input: it is only told."""
    if not set(offer.changes) & set(SIZE_KEYS):
        return offer
    needs = words.OFFER_NEEDS_INPUT
    return Alternative(
        text=Text(needs.en.format(offer=offer.text.en), needs.zh.format(offer=offer.text.zh)),
        changes={},
    )


def _only_told(offer: Alternative) -> Alternative:
    """An answer about sizes that an input does not have, or has already."""
    return offer if not set(offer.changes) & set(SIZE_KEYS) else replace(offer, changes={})


def build_tab(page: Page, memory: gr.BrowserState) -> UpscaleTab:
    """Builds the tab inside the current `gr.Tab`."""
    return UpscaleTab(page, memory)
