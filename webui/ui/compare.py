"""The comparison tab: the same request with other settings, or runs of the past, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from webui.core.errors import BadInput, StudioError
from webui.core.job import JobState
from webui.core.request import Request
from webui.core.settings import SETTINGS, SettingValue
from webui.service.compare import MOST_RUNS, request_again, vary
from webui.service.variants import Refused, prepare, told_once
from webui.ui import form as forms
from webui.ui import memory_panel, results
from webui.ui.compare_view import SYNCHRONISED, render_comparison, told_value
from webui.ui.generate import GenerateTab
from webui.ui.language import say
from webui.ui.page import Page, Visit
from webui.ui.results import CLICKS
from webui.ui.seen import HIDDEN, OPEN, where_seen
from webui.ui.uploads import with_pictures
from webui.ui.words import compare as words

if TYPE_CHECKING:
    from webui.service import RunSummary

OFFERED_RUNS = 40
MOST_OFFERED = 12
EVERY_S = 1.0
FORM = "form"
"""Stands for the request of the generation tab."""

Updates = dict[Any, Any]


class CompareTab:
    """Builds the tab inside the current `gr.Tab` and handles its events."""

    def __init__(self, page: Page, generate: GenerateTab) -> None:
        self.page, self.generate = page, generate
        self._build()
        self._wire()

    def _build(self) -> None:
        label = self.page.labels
        used = {name for model in self.page.models().values() for name in model.settings}
        settings = [(label(spec.label), name) for name, spec in SETTINGS.items() if name in used]
        with gr.Row(equal_height=False):
            with gr.Column(min_width=280):
                self.base = gr.Dropdown(
                    [(label(words.FORM), FORM)], value=FORM, label=label(words.BASE),
                    elem_id="compare-base", filterable=False,
                )  # fmt: skip
                self.setting = gr.Dropdown(
                    settings, value="precision", label=label(words.SETTING),
                    elem_id="compare-setting", filterable=False,
                )  # fmt: skip
                self.values = gr.CheckboxGroup(
                    [], value=[], label=label(words.VALUES), info=label(words.VALUES_INFO),
                    elem_id="compare-values",
                )  # fmt: skip
                self.run = gr.Button(label(words.RUN), variant="primary", elem_id="compare-run")
            with gr.Column(min_width=280):
                self.past = gr.Dropdown(
                    [], value=[], multiselect=True, max_choices=MOST_RUNS,
                    label=label(words.PAST), elem_id="compare-past",
                )  # fmt: skip
                self.show = gr.Button(label(words.SIDE_BY_SIDE), elem_id="compare-show")
        self.message = gr.HTML(elem_id="compare-message")
        self.jobs = gr.HTML(elem_id="compare-jobs", js_on_load=CLICKS)
        self.result = gr.HTML(elem_id="compare-result", js_on_load=SYNCHRONISED)
        self.shown = gr.State([])
        self.seen = gr.Textbox(visible="hidden", elem_id="compare-seen")
        self.timer = gr.Timer(EVERY_S, active=False)

    @property
    def outputs(self) -> list[Any]:
        """Everything that an event of this tab may change."""
        return [self.base, self.values, self.past, self.message, self.jobs, self.result,
                self.shown, self.timer]  # fmt: skip

    def _wire(self) -> None:
        fields, controls = self.generate.controls.fields, self.generate.controls
        quiet: dict[str, Any] = {
            "outputs": self.outputs, "queue": False, "show_progress": "hidden",
            "api_visibility": "private", "preprocess": False,
        }  # fmt: skip
        choice = {self.base, self.setting, fields["model"]}
        gr.on([self.base.input, self.setting.input], self._on_choice, choice, **quiet)
        everything = {
            *fields.values(), *controls.pictures.values(), self.base, self.setting, self.values,
            self.shown,
        }  # fmt: skip
        self.run.click(self._on_run, everything, **quiet)
        self.show.click(self._on_show, {self.past}, **quiet)
        self.timer.tick(
            self._on_tick, [self.shown, self.seen], js=where_seen("compare-run"),
            trigger_mode="once", **quiet,
        )  # fmt: skip
        self.jobs.click(self._on_cancel, {self.shown}, **quiet)

    def select_inputs(self) -> set[Any]:
        """For the tab's `select`."""
        model = self.generate.controls.fields["model"]
        return {self.base, self.setting, self.values, self.shown, model}

    def on_select(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """The tab was opened: the visitor's runs may be more than before."""
        visit = self.page.visit(request)
        runs = [
            (self._title(run, visit.language), run.id)
            for run in self.page.finished_runs(visit.visitor, OFFERED_RUNS)
            if run.state is JobState.DONE and results.made_by(run) and self._is_clip(run)
        ]
        updates = self._values(data, visit) | self._updates(data[self.shown], visit)
        offered = updates[self.values]
        known = [value for _, value in offered["choices"]]
        offered["value"] = [value for value in _few(data[self.values]) if value in known]
        updates[self.base] = gr.update(choices=[(visit.say(words.FORM), FORM), *runs])
        updates[self.past] = gr.update(choices=runs)
        return updates

    def _is_clip(self, run: RunSummary) -> bool:
        model = self.page.models().get(str(run.request.get("model")))
        return model is not None and run.request.get("task", model.task) == model.task

    def _on_choice(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        return self._values(data, self.page.visit(request))

    def _values(self, data: Mapping[Any, Any], visit: Visit) -> Updates:
        """The values of the chosen setting that the model knows."""
        spec = SETTINGS.get(str(data[self.setting]))
        models = self.page.models()
        name = data[self.generate.controls.fields["model"]]
        if data[self.base] != FORM:
            try:
                run = self.page.studio.run(str(data[self.base]), visit.visitor)
                name = run.request.get("model")
            except StudioError:
                name = None
        model = models.get(str(name))
        if spec is None or model is None or spec.name not in model.settings:
            return {self.values: gr.update(choices=[], value=[])}
        choices = [
            (visit.say(spec.choice_labels[value]) if value in spec.choice_labels else str(value),
             forms.encode_setting(value))
            for value in _offered(forms.setting_values(spec, model))
        ]  # fmt: skip
        return {self.values: gr.update(choices=choices, value=[])}

    def _on_run(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        visit, studio = self.page.visit(request), self.page.studio
        submitted: list[str] = []
        try:
            spec = SETTINGS.get(str(data[self.setting]))
            if spec is None:
                raise BadInput("", words.CHOOSE_SETTING)
            if not 2 <= len(_few(data[self.values])) <= MOST_RUNS:
                raise BadInput("", words.CHOOSE_VALUES)
            values = [forms.decode_setting(spec, value) for value in _few(data[self.values])]
            asked = vary(self._base(data, visit), spec.name, values)
            prepared = prepare(asked, studio.parse, studio.plan)
        except StudioError as error:
            return {self.message: memory_panel.render_error(error, visit.language)}
        note = prepared.note.in_language(visit.language)
        told = f'<p class="vs-hint">{escape(note)}</p>' if note else ""
        refused: list[Refused] = []
        for variant in prepared.variants:
            try:
                if isinstance(variant, Refused):
                    raise variant.error
                submitted.append(studio.submit(variant, visit.visitor))
            except StudioError as error:
                named = variant.asked if isinstance(variant, Refused) else variant.settings
                refused.append(Refused(asked={spec.name: named[spec.name]}, error=error))
        told += "".join(
            memory_panel.render_error(error, visit.language) for error in told_once(refused)
        )
        return (self._updates(submitted, visit) if submitted else {}) | {self.message: told}

    def _base(self, data: Mapping[Any, Any], visit: Visit) -> Request:
        """The request that is run with other settings.

        Raises:
            StudioError: a wrong value in the form, or no such run of the visitor.
        """
        studio = self.page.studio
        if data[self.base] != FORM:
            return studio.parse(request_again(studio.run(str(data[self.base]), visit.visitor)))
        form = self.generate.form_of(data)
        models = self.page.models()
        model = models.get(str(form.get("model")), next(iter(models.values())))
        pictures = {key: data[part] for key, part in self.generate.controls.pictures.items()}
        return with_pictures(studio.parse(forms.request_data(form, model)), pictures)

    def _on_show(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        visit = self.page.visit(request)
        chosen = _few(data[self.past])
        if not 2 <= len(chosen) <= MOST_RUNS:
            error = BadInput("", words.CHOOSE_RUNS)
            return {self.message: memory_panel.render_error(error, visit.language)}
        return {self.message: ""} | self._updates(chosen, visit)

    def _on_tick(self, shown: Any, seen: Any, request: gr.Request) -> Updates:
        if seen == HIDDEN:
            return gr.skip()
        if seen != OPEN:
            # Opening the tab again starts it again.
            return {self.timer: gr.Timer(active=False)}
        return self._updates(shown, self.page.visit(request))

    def _on_cancel(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> Updates:
        visit = self.page.visit(request)
        asked: Mapping[str, Any] = event._data or {}
        try:
            if asked.get("action") == "cancel":
                self.page.studio.cancel(str(asked.get("job", "")), visit.visitor)
        except StudioError as error:
            return {self.message: memory_panel.render_error(error, visit.language)}
        return self._updates(data[self.shown], visit)

    def _updates(self, run_ids: Any, visit: Visit) -> Updates:
        """The runs as they stand: those under way, and all that have ended side by side."""
        studio, language = self.page.studio, visit.language
        chosen = _few(run_ids)
        if not chosen:
            empty = f'<p class="vs-empty">{say(words.EMPTY, language)}</p>'
            return {self.result: empty, self.jobs: "", self.shown: [],
                    self.timer: gr.Timer(active=False)}  # fmt: skip
        try:
            views = [studio.view(run_id, visit.visitor) for run_id in chosen]
            live = [view for view in views if not view.state.final]
            ended = [view.id for view in views if view.state.final]
            shown = render_comparison(studio.comparisons.of(ended, visit.visitor), language)
        except StudioError as error:
            return {
                self.message: memory_panel.render_error(error, language), self.shown: [],
                self.jobs: "", self.result: "", self.timer: gr.Timer(active=False),
            }  # fmt: skip
        updates: Updates = {
            self.jobs: results.render_jobs(live, language),
            self.shown: chosen,
            self.timer: gr.Timer(active=bool(live)),
        }
        # A player that is sent again starts from the beginning: only what is new is sent.
        if not live or len(ended) > 1:
            updates[self.result] = shown
        return updates

    @staticmethod
    def _title(run: RunSummary, language: str) -> str:
        """When it ran, what it made, and the settings that are not the default."""
        request = run.request
        size = f"{request.get('width')}x{request.get('height')}x{request.get('frames')}"
        prompt = str(request.get("prompt", ""))[:40]
        settings = request.get("settings", {})
        changed = [
            told_value(name, value, language)
            for name, value in settings.items()
            if (spec := SETTINGS.get(name)) and value != spec.default and spec.matters(settings)
        ]
        parts = (
            results.minute_of(run.created)[5:],
            str(request.get("model")),
            size,
            *changed,
            prompt,
        )
        return " · ".join(part for part in parts if part)


def _few(values: Any) -> list[str]:
    """What was chosen, as texts; not many more than can be compared, whatever was sent."""
    return [str(value) for value in values[: MOST_RUNS + 1]] if isinstance(values, list) else []


def _offered(values: Sequence[SettingValue]) -> list[SettingValue]:
    """Few enough to choose from: of many numbers every doubling of the first."""
    if len(values) <= MOST_OFFERED:
        return list(values)
    first = int(values[0])
    return [value for value in values if (int(value) // first).bit_count() == 1]


def build_tab(page: Page, generate: GenerateTab) -> CompareTab:
    """Builds the tab inside the current `gr.Tab`."""
    return CompareTab(page, generate)
