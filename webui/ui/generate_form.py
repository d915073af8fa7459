"""The controls of the generation tab, built once; every one has a stable `elem_id`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.core.clip import MAX_CLIPS, PICTURES, SOLVERS, ClipCard
from webui.core.model import ModelCard
from webui.core.plan import Choice, Plan
from webui.core.request import DETECTED, MAX_SEED
from webui.core.settings import SETTINGS, SettingSpec
from webui.core.text import Text
from webui.core.units import GIB
from webui.ui.form import (
    AUTO,
    CUSTOM_SIZE,
    OFFERED,
    SETTING,
    defaults_of,
    encode_setting,
    number,
    setting_values,
    size_name,
    size_of,
)
from webui.ui.page import Page, Visit
from webui.ui.results import CLICKS, button, say
from webui.ui.words import generate as words


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """The components of the form and what stands beside them."""

    prompts: gr.Group
    """Shown for models that take a prompt."""
    pictures: dict[str, gr.Image]
    """By the request's key; shown for models that start from a picture or end with one."""
    fields: dict[str, Any]
    """Gradio components by the name of their value in the form (`form.py`)."""
    columns: dict[str, gr.Column]
    """Around each memory setting; shown when the setting does something."""
    notes: dict[str, gr.HTML]
    """Under each memory setting: what was chosen, and why."""
    custom_size: gr.Row
    frames_hint: gr.HTML
    size_hint: gr.HTML
    weights: gr.HTML
    examples: gr.HTML
    generate: gr.Button
    message: gr.HTML


def build_controls(page: Page) -> Controls:
    """Two columns of the page's grid: what is wanted, and with which settings."""
    label = page.labels
    model = next(iter(page.models().values()))
    start = defaults_of(model)
    fields: dict[str, Any] = {}
    with gr.Column(elem_id="generate-compose", elem_classes="vs-area"):
        with gr.Row():
            pictures = {
                key: gr.Image(
                    label=label(words.PICTURES[key]), type="filepath",
                    sources=["upload", "clipboard"], height=220, visible=key in model.pictures,
                    elem_id=f"generate-{key.replace('_', '-')}",
                )
                for key in PICTURES
            }  # fmt: skip
        with gr.Group(visible=model.needs_prompt) as prompts:
            fields["prompt"] = gr.Textbox(
                label=label(words.PROMPT), placeholder=label(words.PROMPT_PLACEHOLDER), lines=3,
                max_lines=8, elem_id="generate-prompt",
            )  # fmt: skip
            fields["negative_prompt"] = gr.Textbox(
                start["negative_prompt"], label=label(words.NEGATIVE), lines=1, max_lines=2,
                elem_id="generate-negative-prompt",
            )  # fmt: skip
        examples = gr.HTML(elem_id="generate-examples", js_on_load=CLICKS)
        generate = gr.Button(
            label(words.GENERATE), variant="primary", size="lg", elem_id="generate-run"
        )
        message = gr.HTML(elem_id="generate-message")
    with gr.Column(elem_id="generate-settings", elem_classes="vs-area"):
        with gr.Group():
            fields["model"] = gr.Dropdown(
                [(entry.title, entry.name) for entry in page.models().values()],
                value=model.name, label=label(words.MODEL), elem_id="generate-model",
                filterable=False,
            )  # fmt: skip
            weights = gr.HTML(elem_id="generate-weights", js_on_load=CLICKS, padding=True)
            fields["card"] = gr.Dropdown(
                card_choices(page, "en"), value=DETECTED, label=label(words.CARD),
                info=label(words.CARD_INFO), elem_id="generate-card",
            )  # fmt: skip
            fields["vram_gib"] = gr.Number(
                0, label=label(words.VRAM), info=label(words.VRAM_INFO), minimum=0,
                maximum=4096, elem_id="generate-vram-gib",
            )  # fmt: skip
        with gr.Group():
            fields["size"] = gr.Dropdown(
                size_choices(model, "en"), value=start["size"], label=label(words.SIZE),
                elem_id="generate-size", filterable=False,
            )  # fmt: skip
            with gr.Row(visible=start["size"] == CUSTOM_SIZE) as custom_size:
                fields["width"] = _side(page, words.WIDTH, "width", start["width"])
                fields["height"] = _side(page, words.HEIGHT, "height", start["height"])
            size_hint = gr.HTML(elem_id="generate-size-hint", padding=True)
            fields["frames"] = gr.Slider(
                1, model.max_frames, value=start["frames"], step=model.frame_step,
                label=label(words.FRAMES), elem_id="generate-frames",
            )  # fmt: skip
            frames_hint = gr.HTML(elem_id="generate-frames-hint", padding=True)
            fields["steps"] = gr.Slider(
                1, 200, value=start["steps"], step=1, label=label(words.STEPS),
                elem_id="generate-steps",
            )  # fmt: skip
            fields["guidance"] = gr.Slider(
                1, 30, value=start["guidance"], step=0.1, label=label(words.GUIDANCE),
                info=label(words.GUIDANCE_OFF), elem_id="generate-guidance",
            )  # fmt: skip
            fields["seed"] = gr.Number(
                -1, label=label(words.SEED), precision=0, minimum=-1, maximum=MAX_SEED,
                elem_id="generate-seed",
            )  # fmt: skip
            fields["batch"] = gr.Slider(
                1, MAX_CLIPS, value=1, step=1, label=label(words.CLIPS),
                info=label(words.CLIPS_INFO), elem_id="generate-batch",
            )  # fmt: skip
        with gr.Accordion(label(words.MEMORY_SETTINGS), elem_id="generate-memory-settings"):
            columns, notes = build_settings(page, fields, page.models().values(), "generate")
        with gr.Accordion(label(words.SAMPLING), open=False, elem_id="generate-sampling"):
            _build_sampling(page, fields, start)
    return Controls(
        prompts=prompts, pictures=pictures, fields=fields, columns=columns, notes=notes,
        custom_size=custom_size, frames_hint=frames_hint, size_hint=size_hint, weights=weights,
        examples=examples, generate=generate, message=message,
    )  # fmt: skip


def card_choices(page: Page, language: str) -> list[tuple[str, str]]:
    """The detected card first, then every card to plan for, the smallest first."""
    detected = page.detected()
    this = words.THIS_PROCESSOR if detected.kind == "cpu" else words.THIS_MACHINE
    mine = this.in_language(language).format(card=detected.title)
    others = sorted(page.studio.cards(), key=lambda card: (card.vram_bytes, card.title))
    return [
        (f"{mine} · {detected.vram_bytes / GIB:.0f} GiB", DETECTED),
        *((f"{card.title} · {card.vram_bytes / GIB:.0f} GiB", card.name) for card in others),
    ]


def size_choices(model: ClipCard, language: str) -> list[tuple[str, str]]:
    """The authors' sizes, then free entry."""
    return [
        *((f"{width} x {height}", size_name(width, height)) for width, height in model.sizes),
        (words.CUSTOM_SIZE.in_language(language), CUSTOM_SIZE),
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


def _side(page: Page, text: Text, name: str, value: int) -> gr.Number:
    return gr.Number(
        value, label=page.labels(text), precision=0, minimum=1, elem_id=f"generate-{name}",
        min_width=100,
    )  # fmt: skip


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


def _build_sampling(page: Page, fields: dict[str, Any], start: dict[str, Any]) -> None:
    label = page.labels
    with gr.Row():
        fields["solver"] = gr.Dropdown(
            [(label(words.SOLVERS[name]), name) for name in SOLVERS], value=start["solver"],
            label=label(words.SOLVER), elem_id="generate-solver", filterable=False, min_width=120,
        )  # fmt: skip
        fields["flow_shift"] = gr.Slider(
            0.1, 30, value=start["flow_shift"], step=0.1, label=label(words.FLOW_SHIFT),
            elem_id="generate-flow-shift", min_width=160,
        )  # fmt: skip
        fields["fps"] = gr.Number(
            start["fps"], label=label(words.FPS), precision=0, minimum=1, maximum=120,
            elem_id="generate-fps", min_width=100,
        )  # fmt: skip


def workload_updates(
    controls: Controls, form: Mapping[str, Any], model: ClipCard, visit: Visit
) -> dict[Any, Any]:
    """Shows what the model takes: a prompt or a picture, a solver, a flow shift."""
    updates: dict[Any, Any] = {
        controls.prompts: gr.update(visible=model.needs_prompt),
        **{
            picture: gr.update(
                visible=key in model.pictures,
                label=_picture_label(key, model, visit),
            )
            for key, picture in controls.pictures.items()
        },
    }
    for name in model.settings:
        if SETTINGS[name].choices:
            updates[controls.fields[SETTING + name]] = gr.update(
                choices=setting_choices(SETTINGS[name], visit.say, model),
                value=form[SETTING + name],
            )
    for name in ("solver", "flow_shift"):
        updates[controls.fields[name]] = gr.update(value=form[name], visible=name in model.workload)
    return updates


def _picture_label(key: str, model: ClipCard, visit: Visit) -> str:
    label = visit.say(words.PICTURES[key])
    return label if key in model.requires else visit.say(words.MAY_BE_EMPTY, label=label)


def hint_updates(
    controls: Controls, form: Mapping[str, Any], model: ClipCard, visit: Visit
) -> dict[Any, Any]:
    """How long the clip is, and the size that the model makes of what was typed."""
    width, height = size_of(form, model)
    frames = model.snap_frames(number(form.get("frames"), 1))
    fps = number(form.get("fps"), 0) or model.defaults.fps
    length = (
        visit.say(words.ONE_FRAME)
        if frames == 1
        else f"{frames} = "
        + visit.say(words.FRAMES_ARE, seconds=f"{frames / fps:.1f}", fps=f"{fps:g}")
    )
    custom = form.get("size") == CUSTOM_SIZE
    snapped = custom and (form.get("width"), form.get("height")) != (width, height)
    size = visit.say(words.SIZE_SNAPPED, multiple=model.size_multiple, width=width, height=height)
    return {
        controls.frames_hint: f'<p class="vs-hint">{length}</p>',
        controls.size_hint: f'<p class="vs-hint">{size}</p>' if snapped else "",
        controls.custom_size: gr.update(visible=custom),
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


def render_examples(model: ClipCard, visit: Visit) -> str:
    """Prompts to click on."""
    if not model.examples:
        return ""
    # The visitor's own language first: a click must give a prompt that they can read and change.
    chips = "".join(
        button("example", Text(shown, shown), visit.language, kind="vs-chip", prompt=shown)
        for shown in (example.in_language(visit.language) for example in model.examples)
    )
    return f'<div class="vs-chips"><span>{say(words.EXAMPLES, visit.language)}</span>{chips}</div>'


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
