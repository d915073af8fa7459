"""What the tabs share that plan and run a model: their events, and a form put into the controls.

The page never waits inside an event: a job is submitted, and a timer asks how it stands. A closed
tab therefore loses nothing, and a page that is opened again finds its job through the same door.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import gradio as gr
from gradio.components import Component

from webui.core.errors import NotFound, StudioError
from webui.core.job import JobView
from webui.core.model import ModelCard
from webui.ui import form as forms
from webui.ui import memory_panel, weights
from webui.ui.page import Page, Visit
from webui.ui.task_controls import TaskControls, card_choices
from webui.ui.uploads import files_at, kept_places
from webui.ui.words import generate as words

Updates = dict[Any, Any]
Form = dict[str, Any]
State = dict[str, Any]
"""What the page holds beside the form: the shown run, the followed one, ..."""
_UPLOADS = "uploads"
"""Under which a kept form has its files."""
Handler = Callable[[Form, Visit, State], Updates]
CardT = TypeVar("CardT", bound=ModelCard)
_TakesCardT = TypeVar("_TakesCardT", bound=ModelCard, contravariant=True)


class FormRules(Protocol[_TakesCardT]):
    """A task's form by name: what a module beside the tab has (`form.py`, `parse_form.py`, ...)."""

    def defaults_of(self, model: _TakesCardT, /) -> Form: ...

    def form_of(self, request: Mapping[str, Any], model: _TakesCardT, /) -> Form: ...

    def with_changes(self, form: Mapping[str, Any], changes: Mapping[str, Any], /) -> Form: ...

    def restored(
        self, saved: Any, models: Mapping[str, _TakesCardT], cards: set[str], /
    ) -> Form | None: ...


class TaskTab(ABC, Generic[CardT]):
    """A tab of one task.

    Args:
        page: the studio.
        common: the components that these tabs share.
        rules: of the task's form.
        kept: names of the form's values that another model leaves as they are.
    """

    def __init__(
        self, page: Page, common: TaskControls, rules: FormRules[CardT], kept: tuple[str, ...]
    ) -> None:
        self.page = page
        self._common, self._rules, self._kept = common, rules, kept
        self._fields = common.fields

    # What a task's tab says of itself

    @property
    @abstractmethod
    def outputs(self) -> list[Any]:
        """Everything that an event of this tab may change."""

    @property
    @abstractmethod
    def polled(self) -> list[Any]:
        """What `_poll` may change: the page's timer asks all the time, and the browser draws each
        of an event's outputs again, changed or not."""

    @abstractmethod
    def models(self) -> Mapping[str, CardT]:
        """Models that the tab offers, by name; what is chosen at first is the first."""

    @abstractmethod
    def plan_updates(self, form: Form, visit: Visit, state: State) -> Updates:
        """The panel, the hints and the settings' notes for the form as it stands."""

    @abstractmethod
    def forget(self, run_id: str, shown: Any, visit: Visit) -> Updates:
        """A run was deleted: it leaves the tab."""

    @abstractmethod
    def _state(self, data: Mapping[Any, Any]) -> State: ...

    @abstractmethod
    def _model_updates(self, form: Form, model: CardT, visit: Visit) -> Updates:
        """What the controls may take, of another model."""

    @abstractmethod
    def _poll(self, form: Form, visit: Visit, state: State) -> Updates:
        """How the visitor's jobs stand, and what the followed one has made."""

    @abstractmethod
    def _act(self, asked: Mapping[str, str], form: Form, visit: Visit, state: State) -> Updates:
        """A button in one of the HTML areas.

        Raises:
            StudioError: what the service refuses, e.g. a run of somebody else.
        """

    @property
    @abstractmethod
    def uploads(self) -> Mapping[str, Component]:
        """Where files are given, by name."""

    def _remember(self, updates: Updates, form: Form, state: State) -> Updates:
        """The answer to an event, with what the browser is to remember besides the form."""
        return updates

    # Events

    def _quiet(self, inputs: set[Any], outputs: list[Any] | None = None) -> dict[str, Any]:
        """How events are bound: without a queue, and without gradio's own checks.

        Between a model's change and the browser's next event those would refuse a size of the
        model before; `Studio.parse` checks everything.
        """
        return {
            "inputs": inputs, "outputs": outputs or self.outputs, "queue": False,
            "show_progress": "hidden", "api_visibility": "private", "preprocess": False,
        }  # fmt: skip

    def load_inputs(self) -> list[Component]:
        return [self._common.memory]

    def load_outputs(self) -> list[Any]:
        return list(dict.fromkeys([*self.outputs, *self.uploads.values()]))

    # What the browser keeps

    def kept_inputs(self) -> set[Component]:
        """What `on_leave` looks at."""
        return {*self._fields.values(), *self.uploads.values()}

    def on_leave(self, data: dict[Any, Any]) -> Updates:
        """The page is opened anew: what is in the form by now is kept."""
        memory = self._common.memory
        return self._with_uploads({memory: self.form_of(data)}, data)

    def _with_uploads(self, updates: Updates, data: Mapping[Any, Any]) -> Updates:
        """The form that is kept comes with the files that were given for it."""
        memory = self._common.memory
        if not isinstance(updates.get(memory), Mapping):
            return updates
        given = {name: kept_places(data.get(part)) for name, part in self.uploads.items()}
        return {**updates, memory: {**updates[memory], _UPLOADS: given}}

    def _uploads_of(self, saved: Any) -> dict[Component, Any]:
        """Paths of the files that were given for a kept form: gradio keeps them for a day."""
        given = saved.get(_UPLOADS) if isinstance(saved, Mapping) else None
        found: dict[Component, Any] = {}
        for name, part in self.uploads.items():
            files = files_at(given.get(name)) if isinstance(given, Mapping) else []
            if files:
                several = getattr(part, "file_count", "single") != "single"
                found[part] = files if several else files[0]
        return found

    def _event(self, handle: Handler) -> Callable[..., Any]:
        """Gives a handler the form by name, the visitor, and the page's state."""

        def on_event(data: dict[Any, Any], request: gr.Request) -> Updates:
            form, state = self.form_of(data), self._state(data)
            updates = handle(form, self.page.visit(request), state)
            return self._with_uploads(self._remember(updates, form, state), data)

        return on_event

    def _action_event(self) -> Callable[..., Any]:
        def on_action(data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> Updates:
            visit = self.page.visit(request)
            asked = {str(key): str(value) for key, value in (event._data or {}).items()}
            form, state = self.form_of(data), self._state(data)
            try:
                updates = self._act(asked, form, visit, state)
                return self._with_uploads(self._remember(updates, form, state), data)
            except StudioError as error:
                return {self._common.message: memory_panel.render_error(error, visit.language)}

        return on_action

    def form_of(self, data: Mapping[Any, Any]) -> Form:
        """The form's values by name. Only plain ones pass, since gradio would serve a file that a
        returned mapping names."""
        return {name: forms.plain(data[component]) for name, component in self._fields.items()}

    # A form in the controls

    def _loaded(self, saved: Any, visit: Visit) -> tuple[Form, Updates]:
        """The form of a page that was opened: the remembered one, or the first model's."""
        models = self.models()
        cards = {card.name for card in self.page.studio.cards()}
        form = self._rules.restored(saved, models, cards)
        if form is None:
            form = self._rules.defaults_of(next(iter(models.values())))
        choices = card_choices(self.page, visit.language)
        updates = self.form_updates(form, visit)
        for part, value in self._uploads_of(saved).items():
            updates[part] = gr.update(**{**updates.get(part, {}), "value": value})
        return form, {
            **updates, self._fields["card"]: gr.update(choices=choices, value=form["card"])
        }  # fmt: skip

    def form_updates(self, form: Form, visit: Visit, before: Form | None = None) -> Updates:
        """Puts a form into the controls; the plan follows by itself.

        Args:
            form: the new values.
            visit: who asks.
            before: what the controls hold; values that stay are not sent, so that what the user
                changes meanwhile is not taken back.
        """
        updates: Updates = {
            self._fields[name]: gr.update(value=value)
            for name, value in form.items()
            if name in self._fields and (before is None or value != before.get(name))
        }
        if before is None or before["model"] != form["model"]:
            updates |= self._of_model(form, visit)
        return {**updates, **self._common.replan()}

    def _of_model(self, form: Form, visit: Visit) -> Updates:
        model = self._model(form)
        return {**self._model_updates(form, model, visit), **self._weights(model, visit)}

    def request_updates(self, request: Mapping[str, Any], visit: Visit) -> Updates:
        """A request in the form: of a run, or of a preset.

        Raises:
            NotFound: its model left the catalogue.
        """
        model = self.models().get(str(request.get("model")))
        if model is None:
            raise NotFound(words.MODEL_GONE)
        return self.form_updates(self._rules.form_of(request, model), visit)

    def _model(self, form: Form) -> CardT:
        models = self.models()
        return models.get(str(form.get("model")), next(iter(models.values())))

    # What the user does

    def _on_model(self, form: Form, visit: Visit, state: State) -> Updates:
        new = self._rules.defaults_of(self._model(form))
        new |= {key: form[key] for key in self._kept}
        return {**self.form_updates(new, visit, form), **self._of_model(new, visit)}

    def _act_as_all(
        self, asked: Mapping[str, str], form: Form, visit: Visit, state: State
    ) -> Updates | None:
        """The buttons that all these tabs have; None for others."""
        studio, run_id = self.page.studio, asked.get("run", "")
        match asked.get("action"):
            case "apply":
                changes = forms.offered_changes(asked.get("changes", "{}"))
                changed = self._rules.with_changes(form, changes)
                return {**self.form_updates(changed, visit, form), self._common.message: ""}
            case "cancel":
                studio.cancel(asked.get("job", ""), visit.visitor)
                return self._poll(form, visit, state)
            case "delete":
                studio.delete(run_id, visit.visitor)
                return self.forget(run_id, state["shown"], visit)
            case "download" | "stop-download" as action:
                model = self._model(form)
                weights.change_download(self.page, visit, model.name, start=action == "download")
                return {**self._poll(form, visit, state), **self._weights(model, visit)}
        return None

    def _weights(self, model: CardT, visit: Visit) -> Updates:
        return {self._common.weights: weights.weights_of(self.page, model, visit)}

    def _jobs(self, form: Form | None, visit: Visit, task: str) -> tuple[list[JobView], Updates]:
        """The visitor's jobs of a task; whether a download of the form's model goes on.

        Args:
            form: of the page; None where nobody knows it.
            visit: who asks.
            task: whose jobs.

        Returns:
            the jobs, and what the page shows of the download; it asks again while there is
            something to wait for.
        """
        jobs = self.page.live_jobs(visit.visitor, task)
        updates: Updates = {}
        busy = bool(jobs)
        if form is not None:
            model = self._model(form)
            download = self.page.studio.downloads.state(model.name)
            busy = busy or weights.is_running(download)
            if download.progress is not None:
                updates |= self._weights(model, visit)
        updates[self._common.timer] = gr.Timer(active=busy)
        return jobs, updates
