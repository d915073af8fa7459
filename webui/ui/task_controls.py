"""The controls that the tabs share which plan and run a model, and what they show."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.core.model import ModelCard
from webui.core.plan import Choice, Plan
from webui.core.request import DETECTED
from webui.core.settings import SETTINGS, SettingSpec
from webui.core.text import Text
from webui.core.units import GIB
from webui.ui.form import AUTO, MAX_VRAM_GIB, OFFERED, SETTING, encode_setting, setting_values
from webui.ui.language import say
from webui.ui.page import Page, Visit
from webui.ui.results import CLICKS
from webui.ui.words import generate as words

POLL_S = 1.0
"""How often a page asks for its jobs while one is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskControls:
    """The components that each of these tabs has."""

    fields: dict[str, Any]
    """By the name of their value in the form."""
    columns: dict[str, gr.Column]
    """Around each memory setting; shown when the setting does something."""
    notes: dict[str, gr.HTML]
    """Under each memory setting: what was chosen, and why."""
    weights: gr.HTML
    run: gr.Button
    message: gr.HTML
    panel: gr.HTML
    jobs: gr.HTML
    recent: gr.HTML
    timer: gr.Timer
    following: gr.State
    """The job whose result this page waits for."""
    shown: gr.State
    """The run that is looked at."""
    revision: gr.Textbox
    """Changes when an event has changed the form or the shown run: then it is planned again."""
    memory: gr.BrowserState
    """The form, as this browser remembers it."""

    def replan(self) -> dict[Any, Any]:
        """Has the form planned again, when the page has taken what else this event changes."""
        return {self.revision: secrets.token_hex(8)}


def build_model(
    page: Page, fields: dict[str, Any], models: Iterable[ModelCard], tab: str
) -> gr.HTML:
    """The choice of the model, the first one chosen; returns where its weights are told."""
    choices = [(model.title, model.name) for model in models]
    fields["model"] = gr.Dropdown(
        choices, value=choices[0][1], label=page.labels(words.MODEL), elem_id=f"{tab}-model",
        filterable=False,
    )  # fmt: skip
    return gr.HTML(elem_id=f"{tab}-weights", js_on_load=CLICKS, padding=True)


def build_card(page: Page, fields: dict[str, Any], tab: str) -> None:
    """The choice of the card, and of how much of it."""
    label = page.labels
    fields["card"] = gr.Dropdown(
        card_choices(page, "en"), value=DETECTED, label=label(words.CARD),
        info=label(words.CARD_INFO), elem_id=f"{tab}-card",
    )  # fmt: skip
    fields["vram_gib"] = gr.Number(
        0, label=label(words.VRAM), info=label(words.VRAM_INFO), minimum=0,
        maximum=MAX_VRAM_GIB, elem_id=f"{tab}-vram-gib",
    )  # fmt: skip


def build_memory(name: str) -> gr.BrowserState:
    """What the browser remembers of a form; outside of a tab that is closed when the page opens,
    since there it would read nothing."""
    return gr.BrowserState(None, storage_key=f"vram-studio-{name}", secret="vram-studio")


def build_states(tab: str, shown: Any = None) -> dict[str, Any]:
    """`timer`, `following`, `shown` and `revision` of a tab."""
    return {
        "timer": gr.Timer(POLL_S, active=False),
        "following": gr.State(None),
        "shown": gr.State(shown),
        "revision": gr.Textbox(visible="hidden", elem_id=f"{tab}-revision"),
    }


def card_choices(page: Page, language: str) -> list[tuple[str, str]]:
    """The detected card first, then every card to plan for, the smallest first."""
    detected = page.detected()
    this = words.THIS_PROCESSOR if detected.kind == "cpu" else words.THIS_MACHINE
    mine = this.in_language(language).format(card=detected.title)
    others = sorted(page.studio.cards(), key=lambda card: (card.vram_bytes, card.title))
    return [
        (f"{mine} · {detected.vram_bytes / GIB:.1f} GiB", DETECTED),
        *((f"{card.title} · {card.vram_bytes / GIB:.1f} GiB", card.name) for card in others),
    ]


def setting_choices(
    spec: SettingSpec, text: Any, model: ModelCard | None = None
) -> list[tuple[Any, str]]:
    """`auto`, then the setting's values; `text` turns a Text into what is shown."""
    return [
        (text(words.AUTO), AUTO),
        *(
            (text(spec.choice_labels.get(value, Text(str(value), str(value)))),
             encode_setting(value))
            for value in setting_values(spec, model)
        ),
    ]  # fmt: skip


def build_settings(
    page: Page, fields: dict[str, Any], models: Iterable[ModelCard], tab: str
) -> tuple[dict[str, gr.Column], dict[str, gr.HTML]]:
    """A dropdown for each memory setting that one of the models has, with a note under it.

    Args:
        page: gives the labels.
        fields: takes the dropdowns.
        models: that the tab offers.
        tab: begins their `elem_id`.

    Returns:
        The columns around them, and the notes, by setting.
    """
    columns: dict[str, gr.Column] = {}
    notes: dict[str, gr.HTML] = {}
    used = {name for model in models for name in model.settings}
    with gr.Row(elem_classes="vs-settings"):
        for name, spec in SETTINGS.items():
            if name not in used:
                continue
            elem_id = f"{tab}-{name.replace('_', '-')}"
            with gr.Column(min_width=160, elem_classes="vs-setting") as columns[name]:
                fields[SETTING + name] = gr.Dropdown(
                    setting_choices(spec, page.labels), value=AUTO,
                    label=page.labels(spec.label), elem_id=elem_id, filterable=name in OFFERED,
                    allow_custom_value=name in OFFERED,
                )  # fmt: skip
                notes[name] = gr.HTML(elem_id=f"{elem_id}-note")
    return columns, notes


def choice_updates(
    fields: Mapping[str, Any], form: Mapping[str, Any], model: ModelCard, visit: Visit
) -> dict[Any, Any]:
    """The values that a model knows, in the dropdowns of its settings."""
    return {
        fields[SETTING + name]: gr.update(
            choices=setting_choices(SETTINGS[name], visit.say, model), value=form[SETTING + name]
        )
        for name in model.settings
        if SETTINGS[name].choices
    }


def setting_updates(
    columns: Mapping[str, gr.Column], notes: Mapping[str, gr.HTML], plan: Plan, visit: Visit
) -> dict[Any, Any]:
    """Shows the settings that change something here, with what was chosen and why."""
    updates: dict[Any, Any] = {}
    for name, column in columns.items():
        choice = plan.choices.get(name)
        shown = choice is not None and SETTINGS[name].matters(plan.settings)
        updates[column] = gr.update(visible=shown)
        if choice is not None:
            updates[notes[name]] = render_note(name, choice, visit)
    return updates


def render_note(name: str, choice: Choice, visit: Visit) -> str:
    """Under a setting: what it is set to and why, and what the setting means."""
    spec, language = SETTINGS[name], visit.language
    if choice.by_user:
        chosen, why = say(words.FIXED, language), ""
    else:
        label = spec.choice_labels.get(choice.value, Text(str(choice.value), str(choice.value)))
        value = label.in_language(language).replace("：", ":").split(":")[0]
        chosen = f"<b>{say(words.CHOSEN, language, value=value)}</b>"
        why = say(choice.why, language)
    about = say(spec.info, language)
    return (
        f'<details class="vs-note"><summary title="{say(words.WHAT_IS_IT, language)}">{chosen}'
        f"{' · ' + why if why else ''}</summary><p>{about}</p></details>"
    )
