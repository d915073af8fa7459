"""The controls of the generation tab, and what stands beside them; all have a stable `elem_id`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.core.clip import MAX_CLIPS, PICTURES, SOLVERS, ClipCard
from webui.core.request import MAX_SEED
from webui.core.text import Text
from webui.ui.form import CUSTOM_SIZE, defaults_of, number, size_name, size_of
from webui.ui.language import say
from webui.ui.page import Page, Visit
from webui.ui.results import CLICKS, button
from webui.ui.task_controls import (
    TaskControls,
    build_card,
    build_memory,
    build_model,
    build_settings,
    build_states,
    choice_updates,
)
from webui.ui.words import generate as words


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls(TaskControls):
    """The form, what comes out, and the memory panel."""

    prompts: gr.Group
    """Shown for models that take a prompt."""
    pictures: dict[str, gr.Image]
    """By the request's key; shown for models that start from a picture or end with one."""
    custom_size: gr.Row
    frames_hint: gr.HTML
    size_hint: gr.HTML
    examples: gr.HTML
    result: gr.HTML


def build_controls(page: Page) -> Controls:
    """The page's grid: what is wanted, with which settings, what comes out, and what it takes."""
    fields: dict[str, Any] = {}
    with gr.Row(elem_id="generate-layout", elem_classes="vs-layout", equal_height=False):
        with gr.Column(elem_id="generate-compose", elem_classes="vs-area"):
            composed = _build_composing(page, fields)
        with gr.Column(elem_id="generate-settings", elem_classes="vs-area"):
            settings = _build_settings(page, fields)
        with gr.Column(elem_id="generate-output", elem_classes="vs-area"):
            jobs = gr.HTML(elem_id="generate-jobs", js_on_load=CLICKS)
            result = gr.HTML(elem_id="generate-result", js_on_load=CLICKS)
            recent = gr.HTML(elem_id="generate-recent", js_on_load=CLICKS)
        with gr.Column(elem_id="generate-aside", elem_classes="vs-area vs-aside"):
            panel = gr.HTML(elem_id="generate-panel", js_on_load=CLICKS)
    return Controls(
        fields=fields, jobs=jobs, result=result, recent=recent, panel=panel,
        memory=build_memory("form"), **composed, **settings, **build_states("generate"),
    )  # fmt: skip


def _build_composing(page: Page, fields: dict[str, Any]) -> dict[str, Any]:
    """What is wanted: pictures, prompts, examples of them, and the button."""
    label = page.labels
    model = next(iter(page.models().values()))
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
            model.defaults.negative_prompt, label=label(words.NEGATIVE), lines=1, max_lines=2,
            elem_id="generate-negative-prompt",
        )  # fmt: skip
    examples = gr.HTML(elem_id="generate-examples", js_on_load=CLICKS)
    run = gr.Button(label(words.GENERATE), variant="primary", size="lg", elem_id="generate-run")
    message = gr.HTML(elem_id="generate-message")
    return {
        "pictures": pictures, "prompts": prompts, "examples": examples, "run": run,
        "message": message,
    }  # fmt: skip


def _build_settings(page: Page, fields: dict[str, Any]) -> dict[str, Any]:
    """With what: the model, the card, how large and how long, and the memory settings."""
    label = page.labels
    models = page.models()
    model = next(iter(models.values()))
    start = defaults_of(model)
    with gr.Group():
        weights = build_model(page, fields, models.values(), "generate")
        build_card(page, fields, "generate")
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
        columns, notes = build_settings(page, fields, models.values(), "generate")
    with gr.Accordion(label(words.SAMPLING), open=False, elem_id="generate-sampling"):
        _build_sampling(page, fields, start)
    return {
        "weights": weights, "custom_size": custom_size, "frames_hint": frames_hint,
        "size_hint": size_hint, "columns": columns, "notes": notes,
    }  # fmt: skip


def size_choices(model: ClipCard, language: str) -> list[tuple[str, str]]:
    """The authors' sizes, then free entry."""
    return [
        *((f"{width} x {height}", size_name(width, height)) for width, height in model.sizes),
        (words.CUSTOM_SIZE.in_language(language), CUSTOM_SIZE),
    ]


def _side(page: Page, text: Text, name: str, value: int) -> gr.Number:
    return gr.Number(
        value, label=page.labels(text), precision=0, minimum=1, elem_id=f"generate-{name}",
        min_width=100,
    )  # fmt: skip


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
    updates |= choice_updates(controls.fields, form, model, visit)
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
    # Also where more was typed: the slider says no more than that by itself.
    if number(form.get("frames"), 1) >= model.max_frames > 1:
        length += visit.say(words.MOST_FRAMES, title=model.title)
    custom = form.get("size") == CUSTOM_SIZE
    snapped = custom and (form.get("width"), form.get("height")) != (width, height)
    size = visit.say(words.SIZE_SNAPPED, multiple=model.size_multiple, width=width, height=height)
    return {
        controls.frames_hint: f'<p class="vs-hint">{length}</p>',
        controls.size_hint: f'<p class="vs-hint">{size}</p>' if snapped else "",
        controls.custom_size: gr.update(visible=custom),
    }


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
