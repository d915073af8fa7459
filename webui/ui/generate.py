"""The generation tab: form -> plan on every change; Generate -> job -> result beside its estimate.

The page never waits inside an event: a job is submitted, and a timer asks how it stands. A closed
tab therefore loses nothing, and a page that is opened again finds its job through the same door.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.clip import ClipCard
from webui.core.errors import NotFound, StudioError
from webui.core.request import DETECTED
from webui.ui import form as forms
from webui.ui import memory_panel, plan_panel, results, weights
from webui.ui.generate_areas import Areas, build_areas
from webui.ui.generate_form import (
    Controls,
    build_controls,
    card_choices,
    hint_updates,
    render_examples,
    setting_updates,
    size_choices,
    workload_updates,
)
from webui.ui.page import Page, Visit
from webui.ui.uploads import with_pictures
from webui.ui.words import generate as words

RECENT = 8
TASK = "generate"
SAME_WORK = ("model", "batch", "frames", "height", "width", "steps", "guidance", "flow_shift",
             "solver", "card", "vram_gib", "settings")  # fmt: skip
"""Keys that decide memory and time: a run with these measured what the form plans."""

Updates = dict[Any, Any]
Form = dict[str, Any]


class GenerateTab:
    """Builds the tab and handles its events; other tabs apply a run's settings through it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        with gr.Row(elem_id="generate-layout", elem_classes="vs-layout", equal_height=False):
            self.controls: Controls = build_controls(page)
            self.areas: Areas = build_areas()
        self._fields = self.controls.fields
        self._wire()

    @property
    def outputs(self) -> list[Any]:
        """Everything that an event of this tab may change."""
        areas, controls = self.areas, self.controls
        return [
            *self._fields.values(), *controls.columns.values(), *controls.notes.values(),
            controls.prompts, *controls.pictures.values(), controls.custom_size,
            controls.frames_hint,
            controls.size_hint, controls.weights, controls.examples, controls.message, areas.panel,
            areas.jobs, areas.result, areas.recent, areas.timer, areas.following, areas.shown,
            areas.revision, areas.memory,
        ]  # fmt: skip

    # Events

    def _wire(self) -> None:
        fields, areas, controls = self._fields, self.areas, self.controls
        inputs = {*fields.values(), *controls.pictures.values(), areas.shown, areas.following}
        quiet: dict[str, Any] = {
            "inputs": inputs, "outputs": self.outputs, "queue": False,
            "show_progress": "hidden", "api_visibility": "private", "preprocess": False,
        }  # fmt: skip
        replan = self._event(lambda form, visit, state: self.plan_updates(form, visit, state))
        texts = ("prompt", "negative_prompt")
        edits = [part.input for name, part in fields.items() if name not in ("model", *texts)]
        # One listener for all: two would answer out of order, and the older plan would stay.
        chosen = [picture.change for picture in controls.pictures.values()]
        gr.on([*edits, *chosen, areas.revision.change], replan, trigger_mode="always_last", **quiet)
        fields["model"].input(self._event(self._on_model), **quiet)
        for name in texts:
            fields[name].blur(self._event(self._on_text), **quiet)
        for name in ("width", "height"):
            gr.on([fields[name].blur, fields[name].submit], self._event(self._on_snap), **quiet)
        fields["frames"].release(self._event(self._on_snap), **quiet)
        controls.generate.click(self._event(self._on_generate), trigger_mode="multiple", **quiet)
        areas.timer.tick(self._event(self._on_tick), **quiet)
        for clickable in (controls.examples, controls.weights, areas.panel, areas.jobs,
                          areas.result, areas.recent):  # fmt: skip
            clickable.click(self._action_event(), **quiet)

    def load_inputs(self) -> list[Component]:
        return [self.areas.memory]

    def on_load(self, saved: Any, request: gr.Request) -> Updates:
        """A page was opened: its language, the remembered form, and the jobs under way."""
        visit = self.page.visit(request)
        models = self.page.models()
        cards = {card.name for card in self.page.studio.cards()}
        form = forms.restored(saved, models, cards)
        if form is None:
            form = {**forms.defaults_of(next(iter(models.values()))), "prompt": "",
                    "card": DETECTED, "vram_gib": 0}  # fmt: skip
        updates = self.form_updates(form, visit)
        updates[self._fields["card"]] = gr.update(
            choices=card_choices(self.page, visit.language), value=form["card"]
        )
        updates |= self._poll(form, visit, {"shown": None, "following": None})
        updates.setdefault(
            self.areas.result, f'<p class="vs-empty">{visit.say(words.RESULT_EMPTY)}</p>'
        )
        updates[self.areas.recent] = self._recent(visit)
        return updates

    def _event(
        self, handle: Callable[[Form, Visit, dict[str, Any]], Updates]
    ) -> Callable[..., Any]:
        """Gives a handler the form by name, the visitor, and the page's state."""

        def on_event(data: dict[Any, Any], request: gr.Request) -> Updates:
            visit = self.page.visit(request)
            return handle(self.form_of(data), visit, self._state(data))

        return on_event

    def _action_event(self) -> Callable[..., Any]:
        def on_action(data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> Updates:
            visit = self.page.visit(request)
            asked = {str(key): str(value) for key, value in (event._data or {}).items()}
            try:
                return self._act(asked, self.form_of(data), visit, self._state(data))
            except StudioError as error:
                return {self.controls.message: memory_panel.render_error(error, visit.language)}

        return on_action

    def form_of(self, data: Mapping[Any, Any]) -> Form:
        """The form's values by name.

        Events run without gradio's own checks: between a model's change and the browser's next
        event they would refuse a size of the model before. `Studio.parse` checks everything; here
        only plain values pass, since gradio would serve a file that a returned mapping names.
        """
        return {name: forms.plain(data[component]) for name, component in self._fields.items()}

    def _state(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        return {
            "shown": data[self.areas.shown],
            "following": data[self.areas.following],
            "pictures": {key: data[part] for key, part in self.controls.pictures.items()},
        }

    # What the page shows of a form

    def plan_updates(self, form: Form, visit: Visit, state: Mapping[str, Any]) -> Updates:
        """The panel, the hints and the settings' notes for the form as it stands."""
        model = self._model(form)
        updates = hint_updates(self.controls, form, model, visit)
        updates[self.areas.memory] = form
        try:
            data = forms.request_data(form, model, state["pictures"])
            request = self.page.studio.parse(data)
            plan = self.page.studio.plan(request, visit.owner)
        except StudioError as error:
            updates[self.areas.panel] = memory_panel.render_error(error, visit.language)
            return updates
        receipt = plan_panel.receipt_for(self.page, plan, visit, state.get("shown"), SAME_WORK)
        updates[self.areas.panel] = plan_panel.plan_panel(self.page, plan, visit, receipt)
        columns, notes = self.controls.columns, self.controls.notes
        return updates | setting_updates(columns, notes, plan, visit)

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
        if "model" in changed or before is None or before["model"] != form["model"]:
            updates |= self._model_updates(form, model, visit)
        return updates | hint_updates(self.controls, form, model, visit) | self._replan()

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
            self.controls.examples: render_examples(model, visit),
            self.controls.weights: weights.weights_of(self.page, model, visit),
        }

    def _replan(self) -> Updates:
        return {self.areas.revision: secrets.token_hex(8)}

    def run_updates(self, run_id: str, visit: Visit) -> Updates:
        """The settings of a run of the past, back in the form.

        Raises:
            NotFound: the visitor has no such run, or its model left the catalogue.
        """
        run = self.page.studio.run(run_id, visit.visitor)
        return {**self.request_updates(run.request, visit), self.areas.shown: run_id}

    def request_updates(self, request: Mapping[str, Any], visit: Visit) -> Updates:
        """A request in the form: of a run, or of a preset.

        Raises:
            NotFound: its model left the catalogue.
        """
        model = self.page.models().get(str(request.get("model")))
        if model is None:
            raise NotFound(words.MODEL_GONE)
        return self.form_updates(forms.form_of(request, model), visit)

    def forget(self, run_id: str, shown: str | None, visit: Visit) -> Updates:
        """A run was deleted: it leaves the player and the row of recent runs."""
        updates: Updates = {self.areas.recent: self._recent(visit)}
        if run_id == shown:
            empty = f'<p class="vs-empty">{visit.say(words.RESULT_EMPTY)}</p>'
            updates |= {self.areas.result: empty, self.areas.shown: None}
        return updates

    def _model(self, form: Form) -> ClipCard:
        models = self.page.models()
        return models.get(str(form.get("model")), next(iter(models.values())))

    def _recent(self, visit: Visit) -> str:
        runs = self.page.finished_runs(visit.visitor, RECENT, TASK)
        return results.render_strip(runs, visit.language, words.RECENT)

    # What the user does

    def _on_model(self, form: Form, visit: Visit, state: dict[str, Any]) -> Updates:
        model = self._model(form)
        kept = {key: form[key] for key in ("prompt", "card", "vram_gib", "seed")}
        new = {**forms.defaults_of(model), **kept}
        return self.form_updates(new, visit, form) | self._model_updates(new, model, visit)

    def _on_text(self, form: Form, visit: Visit, state: dict[str, Any]) -> Updates:
        return {self.areas.memory: form}

    def _on_snap(self, form: Form, visit: Visit, state: dict[str, Any]) -> Updates:
        model = self._model(form)
        width, height = forms.size_of(form, model)
        snapped: dict[str, Any] = {"frames": model.snap_frames(forms.number(form["frames"], 1))}
        if form["size"] == forms.CUSTOM_SIZE:
            snapped |= {"width": width, "height": height}
        updates = hint_updates(self.controls, {**form, **snapped}, model, visit)
        return updates | {
            self._fields[name]: value for name, value in snapped.items() if form[name] != value
        }

    def _on_generate(self, form: Form, visit: Visit, state: dict[str, Any]) -> Updates:
        studio = self.page.studio
        try:
            request = studio.parse(forms.request_data(form, self._model(form)))
            job = studio.submit(with_pictures(request, state["pictures"]), visit.visitor)
        except StudioError as error:
            return {
                self.controls.message: memory_panel.render_error(error, visit.language),
                self.areas.memory: form,
            }
        updates = self._poll(form, visit, {**state, "following": job})
        return updates | {self.controls.message: "", self.areas.memory: form}

    def _on_tick(self, form: Form, visit: Visit, state: dict[str, Any]) -> Updates:
        return self._poll(form, visit, state)

    def _poll(self, form: Form, visit: Visit, state: Mapping[str, Any]) -> Updates:
        """How the visitor's jobs stand; the result of the followed one once it has ended."""
        jobs = self.page.live_jobs(visit.visitor, TASK)
        model = self._model(form)
        download = self.page.studio.downloads.state(model.name)
        following = state.get("following")
        updates: Updates = {
            self.areas.jobs: results.render_jobs(jobs, visit.language),
            self.areas.timer: gr.Timer(active=bool(jobs) or weights.is_running(download)),
        }
        if download.progress is not None:
            updates[self.controls.weights] = weights.weights_of(self.page, model, visit)
        if following and following not in [job.id for job in jobs]:
            updates |= self._show(following, visit)
            updates[self.areas.recent] = self._recent(visit)
            following = None
        updates[self.areas.following] = following or (jobs[0].id if jobs else None)
        return updates

    def _show(self, run_id: str, visit: Visit) -> Updates:
        try:
            run = self.page.studio.run(run_id, visit.visitor)
        except StudioError as error:
            return {self.areas.result: memory_panel.render_error(error, visit.language)}
        return {
            **self._replan(),
            self.areas.result: results.render_result(run, visit.language),
            self.areas.shown: run_id,
        }

    def _act(
        self, asked: Mapping[str, str], form: Form, visit: Visit, state: dict[str, Any]
    ) -> Updates:
        """A button in one of the HTML areas.

        Raises:
            StudioError: what the service refuses, e.g. a run of somebody else.
        """
        studio = self.page.studio
        match asked.get("action"):
            case "example":
                form["prompt"] = asked.get("prompt", "")[:4000]
                return {self._fields["prompt"]: form["prompt"], self.areas.memory: form}
            case "apply":
                changes = forms.offered_changes(asked.get("changes", "{}"))
                changed = forms.with_changes(form, changes)
                return self.form_updates(changed, visit, form) | {self.controls.message: ""}
            case "limits":
                panel = plan_panel.limits_panel(
                    self.page, form, state["pictures"], self._model(form), visit
                )
                return {self.areas.panel: panel}
            case "cancel":
                studio.cancel(asked.get("job", ""), visit.visitor)
                return self._poll(form, visit, state)
            case "show":
                return self._show(asked.get("run", ""), visit)
            case "again":
                return self.run_updates(asked.get("run", ""), visit)
            case "delete":
                studio.delete(asked.get("run", ""), visit.visitor)
                return self.forget(asked.get("run", ""), state["shown"], visit)
            case "download" | "stop-download" as action:
                model = self._model(form)
                weights.change_download(self.page, visit, model.name, start=action == "download")
                updates = self._poll(form, visit, state)
                return updates | {
                    self.controls.weights: weights.weights_of(self.page, model, visit)
                }
        return {}


def build_tab(page: Page) -> GenerateTab:
    """Builds the tab inside the current `gr.Tab`."""
    return GenerateTab(page)
