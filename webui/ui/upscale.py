"""The upscaling tab: input and form -> plan on every change; Upscale -> job -> before and after.

The page never waits inside an event, as on the generation tab: a job is submitted, and a timer asks
how it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.errors import BadInput, NotFound, StudioError
from webui.core.plan import Alternative
from webui.core.text import Text
from webui.core.upscale import UpscaleCard, UpscaleRequest
from webui.estimator.upscaling import segment_counts
from webui.ui import form as forms
from webui.ui import memory_panel, plan_panel, results, upscale_form, upscale_view, weights
from webui.ui.generate_form import card_choices, setting_updates
from webui.ui.page import Page, Visit
from webui.ui.uploads import received_file
from webui.ui.upscale_controls import Controls, build_controls, input_updates, model_updates
from webui.ui.upscale_form import SIZE_KEYS, Form
from webui.ui.upscale_output import TASK, UpscaleOutput
from webui.ui.words import generate as shared
from webui.ui.words import upscale as words

SAME_WORK = ("model", "scale", "frames", "height", "width", "overlap", "segment_frames", "colour",
             "card", "vram_gib", "settings")  # fmt: skip
"""Keys that decide memory and time: a run with these measured what the form plans."""

Updates = dict[Any, Any]
State = dict[str, Any]


class UpscaleTab:
    """Builds the tab and handles its events; other tabs apply a run's settings through it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.controls: Controls = build_controls(page)
        self.output = UpscaleOutput(page, self.controls)
        self._fields = self.controls.fields
        self._wire()

    @property
    def outputs(self) -> list[Any]:
        """Everything that an event of this tab may change."""
        controls = self.controls
        return [
            *self._fields.values(), *controls.columns.values(), *controls.notes.values(),
            controls.input_hint, controls.size_hint, controls.weights, controls.message,
            controls.panel, controls.jobs, controls.result, controls.pair, controls.frame,
            controls.recent, controls.timer, controls.source, controls.following, controls.shown,
            controls.seen, controls.revision, controls.memory,
        ]  # fmt: skip

    # Events

    def _wire(self) -> None:
        fields, controls = self._fields, self.controls
        inputs = {
            *fields.values(), controls.file, controls.source, controls.following, controls.shown,
            controls.seen, controls.frame,
        }  # fmt: skip
        quiet: dict[str, Any] = {
            "inputs": inputs, "outputs": self.outputs, "queue": False,
            "show_progress": "hidden", "api_visibility": "private", "preprocess": False,
        }  # fmt: skip
        edits = [part.input for name, part in fields.items() if name != "model"]
        # One listener for all: two would answer out of order, and the older plan would stay.
        gr.on(
            [*edits, controls.revision.change], self._event(self.plan_updates),
            trigger_mode="always_last", **quiet,
        )  # fmt: skip
        fields["model"].input(self._event(self._on_model), **quiet)
        controls.file.change(self._event(self._on_input), trigger_mode="always_last", **quiet)
        controls.run.click(self._event(self._on_run), trigger_mode="multiple", **quiet)
        controls.frame.release(self._event(self._on_frame), **quiet)
        controls.timer.tick(self._event(self._poll), **quiet)
        for clickable in (controls.weights, controls.panel, controls.jobs, controls.result,
                          controls.recent):  # fmt: skip
            clickable.click(self._action_event(), **quiet)

    def load_inputs(self) -> list[Component]:
        return [self.controls.memory]

    def on_load(self, saved: Any, request: gr.Request) -> Updates:
        """A page was opened: the remembered form, and the jobs under way."""
        visit = self.page.visit(request)
        models = self.page.upscalers()
        cards = {card.name for card in self.page.studio.cards()}
        form = upscale_form.restored(saved, models, cards)
        if form is None:
            form = upscale_form.defaults_of(next(iter(models.values())))
        updates = self.form_updates(form, visit)
        updates[self._fields["card"]] = gr.update(
            choices=card_choices(self.page, visit.language), value=form["card"]
        )
        updates[self.controls.input_hint] = upscale_view.render_facts({}, visit.language)
        updates |= self._poll(form, visit, {})
        updates.setdefault(self.controls.result, self.output.empty(visit))
        updates[self.controls.recent] = self.output.recent(visit)
        return updates

    def _event(self, handle: Callable[[Form, Visit, State], Updates]) -> Callable[..., Any]:
        """Gives a handler the form by name, the visitor, and the page's state."""

        def on_event(data: dict[Any, Any], request: gr.Request) -> Updates:
            return handle(self._form_of(data), self.page.visit(request), self._state(data))

        return on_event

    def _action_event(self) -> Callable[..., Any]:
        def on_action(data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> Updates:
            visit = self.page.visit(request)
            asked = {str(key): str(value) for key, value in (event._data or {}).items()}
            try:
                return self._act(asked, self._form_of(data), visit, self._state(data))
            except StudioError as error:
                return {self.controls.message: memory_panel.render_error(error, visit.language)}

        return on_action

    def _form_of(self, data: Mapping[Any, Any]) -> Form:
        """The form's values by name; only plain ones pass (`GenerateTab.form_of`)."""
        return {name: forms.plain(data[component]) for name, component in self._fields.items()}

    def _state(self, data: Mapping[Any, Any]) -> State:
        controls = self.controls
        return {
            "file": data[controls.file],
            "facts": (data[controls.source] or {}).get("facts") or {},
            "following": data[controls.following],
            "shown": data[controls.shown],
            "seen": data[controls.seen],
            "frame": forms.plain(data[controls.frame]),
        }

    # What the page shows of a form

    def plan_updates(self, form: Form, visit: Visit, state: State) -> Updates:
        """The panel, the hints and the settings' notes for the form as it stands."""
        controls, facts = self.controls, state["facts"]
        # A run or a preset that was put into the form, here or in another tab, has other sizes.
        wrong = [key for key in SIZE_KEYS if facts and form[key] != facts[key]]
        form = form | {key: facts[key] for key in wrong}
        updates: Updates = {
            controls.memory: form,
            **{self._fields[key]: gr.update(value=facts[key]) for key in wrong},
        }
        try:
            request = self.page.studio.parse(
                upscale_form.request_data(form, self._model(form), facts)
            )
            assert isinstance(request, UpscaleRequest)
            size = request.output_size
            updates[controls.size_hint] = upscale_view.render_size(*size, 1, visit.language)
            plan = self.page.studio.plan(request, visit.owner)
            segments = sum(count for _, count in segment_counts(request, plan.settings))
            updates[controls.size_hint] = upscale_view.render_size(*size, segments, visit.language)
        except StudioError as error:
            updates[controls.panel] = memory_panel.render_error(error, visit.language)
            return updates
        if facts:
            plan = replace(plan, alternatives=tuple(map(for_this_input, plan.alternatives)))
        receipt = plan_panel.receipt_for(self.page, plan, visit, state.get("shown"), SAME_WORK)
        updates[controls.panel] = plan_panel.plan_panel(self.page, plan, visit, receipt)
        return updates | setting_updates(controls.columns, controls.notes, plan, visit)

    def form_updates(self, form: Form, visit: Visit, before: Form | None = None) -> Updates:
        """Puts a form into the controls; the plan follows by itself.

        Args:
            form: the new values.
            visit: who asks.
            before: what the controls hold; values that stay are not sent, so that what the user
                changes meanwhile is not taken back.
        """
        model = self._model(form)
        changed = [name for name in form if before is None or form[name] != before.get(name)]
        updates: Updates = {
            self._fields[name]: gr.update(value=form[name])
            for name in changed
            if name in self._fields
        }
        if before is None or before["model"] != form["model"]:
            updates |= model_updates(self.controls, form, model, visit)
            updates[self.controls.weights] = weights.weights_of(self.page, model, visit)
        return updates | self.output.replan()

    def run_updates(self, run_id: str, visit: Visit) -> Updates:
        """A run of the past: its settings in the form, and what it made.

        Raises:
            NotFound: the visitor has no such run, or its model left the catalogue.
        """
        run = self.page.studio.run(run_id, visit.visitor)
        return {**self.request_updates(run.request, visit), **self.output.show(run_id, visit)}

    def request_updates(self, request: Mapping[str, Any], visit: Visit) -> Updates:
        """A request in the form: of a run, or of a preset.

        Raises:
            NotFound: its model left the catalogue.
        """
        model = self.page.upscalers().get(str(request.get("model")))
        if model is None:
            raise NotFound(shared.MODEL_GONE)
        return self.form_updates(upscale_form.form_of(request, model), visit)

    def follow(self, run_id: str, visit: Visit) -> Updates:
        """Looks at a run that goes on."""
        return self._poll(None, visit, {"following": run_id})

    def forget(self, run_id: str, shown: str | None, visit: Visit) -> Updates:
        """A run was deleted: it leaves the player and the row of recent runs."""
        return self.output.forget(run_id, shown, visit)

    def _model(self, form: Form) -> UpscaleCard:
        models = self.page.upscalers()
        return models.get(str(form.get("model")), next(iter(models.values())))

    # What the user does

    def _on_model(self, form: Form, visit: Visit, state: State) -> Updates:
        model = self._model(form)
        kept = {key: form[key] for key in (*SIZE_KEYS, "card", "vram_gib", "colour", "quality")}
        new = {**upscale_form.defaults_of(model), **kept}
        updates = self.form_updates(new, visit, form)
        return {
            **updates,
            **model_updates(self.controls, new, model, visit),
            self.controls.weights: weights.weights_of(self.page, model, visit),
        }

    def _on_input(self, form: Form, visit: Visit, state: State) -> Updates:
        """Another input, or none: what it is fills the form, and the plan is for it."""
        controls = self.controls
        facts: dict[str, Any] = {}
        message = ""
        try:
            path = received_file(state["file"], "input")
            if path:
                look = self.page.studio.videos.look
                facts = look(Path(path), visit.owner, visit.visitor)
        except StudioError as error:
            message = memory_panel.render_error(error, visit.language)
        # Planned by the revision alone, so that an older plan cannot come in later.
        return {
            **input_updates(controls, facts),
            controls.source: {"facts": facts} if facts else {},
            controls.input_hint: ""
            if message
            else upscale_view.render_facts(facts, visit.language),
            controls.message: message,
            **self.output.replan(),
        }

    def _on_run(self, form: Form, visit: Visit, state: State) -> Updates:
        studio = self.page.studio
        try:
            path = received_file(state["file"], "input")
            if not path:
                raise BadInput("input", words.NO_INPUT, words.CHOOSE_ONE)
            data = upscale_form.request_data(form, self._model(form), state["facts"])
            job = studio.submit(studio.parse({**data, "input": path}), visit.visitor)
        except StudioError as error:
            return {
                self.controls.message: memory_panel.render_error(error, visit.language),
                self.controls.memory: form,
            }
        updates = self._poll(form, visit, {**state, "following": job, "shown": None})
        return {**updates, self.controls.message: "", self.controls.memory: form}

    def _on_frame(self, form: Form, visit: Visit, state: State) -> Updates:
        try:
            number = int(forms.number(state["frame"], 1))
            return self.output.choose(str(state["shown"] or ""), number, visit)
        except StudioError as error:
            return {self.controls.message: memory_panel.render_error(error, visit.language)}

    def _poll(self, form: Form | None, visit: Visit, state: State) -> Updates:
        """How the visitor's jobs stand, the newest frame, and the result once there is one."""
        controls = self.controls
        jobs = self.page.live_jobs(visit.visitor, TASK)
        busy = bool(jobs)
        updates: Updates = {controls.jobs: results.render_jobs(jobs, visit.language)}
        if form is not None:
            model = self._model(form)
            download = self.page.studio.downloads.state(model.name)
            busy = busy or weights.is_running(download)
            if download.progress is not None:
                updates[controls.weights] = weights.weights_of(self.page, model, visit)
        updates[controls.timer] = gr.Timer(active=busy)
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
        """A button in one of the HTML areas.

        Raises:
            StudioError: what the service refuses, e.g. a run of somebody else.
        """
        studio, run_id = self.page.studio, asked.get("run", "")
        match asked.get("action"):
            case "apply":
                changes = forms.offered_changes(asked.get("changes", "{}"))
                changed = upscale_form.with_changes(form, changes)
                return self.form_updates(changed, visit, form) | {self.controls.message: ""}
            case "limits":
                facts = state["facts"]
                request = studio.parse(upscale_form.request_data(form, self._model(form), facts))
                as_told = for_this_input if facts else _as_it_is
                panel = plan_panel.limits_of(self.page, request, visit, as_told)
                return {self.controls.panel: panel}
            case "cancel":
                studio.cancel(asked.get("job", ""), visit.visitor)
                return self._poll(form, visit, state)
            case "resume":
                studio.videos.resume(run_id, visit.visitor, self.page.limits(visit))
                again = {**state, "following": run_id, "shown": None}
                return {**self._poll(form, visit, again), self.controls.message: ""}
            case "show":
                return self.output.show(run_id, visit)
            case "again":
                return self.run_updates(run_id, visit)
            case "delete":
                studio.delete(run_id, visit.visitor)
                return self.forget(run_id, state["shown"], visit)
            case "download" | "stop-download" as action:
                model = self._model(form)
                weights.change_download(self.page, visit, model.name, start=action == "download")
                return {
                    **self._poll(form, visit, state),
                    self.controls.weights: weights.weights_of(self.page, model, visit),
                }
        return {}


def for_this_input(offer: Alternative) -> Alternative:
    """An offer of another size cannot be applied to an input: it is only told."""
    if not set(offer.changes) & set(SIZE_KEYS):
        return offer
    needs = words.OFFER_NEEDS_INPUT
    return Alternative(
        text=Text(needs.en.format(offer=offer.text.en), needs.zh.format(offer=offer.text.zh)),
        changes={},
    )


def _as_it_is(offer: Alternative) -> Alternative:
    return offer


def build_tab(page: Page) -> UpscaleTab:
    """Builds the tab inside the current `gr.Tab`."""
    return UpscaleTab(page)
