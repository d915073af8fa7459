"""The controls of the upscaling tab, and what stands beside them; all have a stable `elem_id`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.core.text import Text
from webui.core.upscale import (
    COLOURS,
    MAX_FRAMES,
    MAX_OVERLAP_FRAMES,
    MAX_SEGMENT_FRAMES,
    MAX_SIDE_PX,
    MIN_SEGMENT_FRAMES,
    MIN_SIDE_PX,
    QUALITIES,
    UpscaleCard,
)
from webui.ui.page import Page, Visit
from webui.ui.results import CLICKS
from webui.ui.slider import PairSlider
from webui.ui.task_controls import (
    TaskControls,
    build_card,
    build_model,
    build_settings,
    build_states,
    choice_updates,
)
from webui.ui.upscale_form import SIZE_KEYS, Form, defaults_of
from webui.ui.words import generate as shared
from webui.ui.words import upscale as words

FILE_TYPES = ["video", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls(TaskControls):
    """The form, the memory panel, and what comes out."""

    file: gr.File
    input_hint: gr.HTML
    """What the input is."""
    size_hint: gr.HTML
    """What comes of it."""
    result: gr.HTML
    pair: PairSlider
    """A frame before and after."""
    frame: gr.Slider
    """Which one, of a video that is done."""
    source: gr.State
    """What is to be upscaled: `{"inputs": [Input, ...], "refused": bool}`, or nothing."""
    seen: gr.State
    """Which pair the slider shows, so that one that stays is not sent again."""


def build_controls(page: Page, memory: gr.BrowserState) -> Controls:
    """The page's grid: input and form, what comes out, and what it takes."""
    label = page.labels
    models = page.upscalers()
    model = next(iter(models.values()))
    start = defaults_of(model)
    fields: dict[str, Any] = {}
    with gr.Row(elem_id="upscale-layout", elem_classes="vs-layout", equal_height=False):
        with gr.Column(elem_id="upscale-compose", elem_classes="vs-area"):
            file = gr.File(
                label=label(words.INPUT), file_types=FILE_TYPES, elem_id="upscale-input",
                height=150, file_count="multiple",
            )  # fmt: skip
            input_hint = gr.HTML(elem_id="upscale-input-hint")
            run = gr.Button(label(words.RUN), variant="primary", size="lg", elem_id="upscale-run")
            message = gr.HTML(elem_id="upscale-message")
        with gr.Column(elem_id="upscale-settings", elem_classes="vs-area"):
            with gr.Group():
                weights = build_model(page, fields, models.values(), "upscale")
                build_card(page, fields, "upscale")
            with gr.Group():
                fields["scale"] = gr.Dropdown(
                    scale_choices(model, "en"), value=start["scale"], label=label(words.SCALE),
                    elem_id="upscale-scale", filterable=False,
                )  # fmt: skip
                size_hint = gr.HTML(elem_id="upscale-size-hint", padding=True)
                with gr.Row():
                    fields["width"] = _whole(
                        page, words.WIDTH, "width", start, MIN_SIDE_PX, MAX_SIDE_PX
                    )
                    fields["height"] = _whole(
                        page, words.HEIGHT, "height", start, MIN_SIDE_PX, MAX_SIDE_PX
                    )
                fields["frames"] = _whole(page, words.FRAMES, "frames", start, 1, MAX_FRAMES)
                fields["colour"] = gr.Dropdown(
                    [(label(words.COLOURS[name]), name) for name in COLOURS],
                    value=start["colour"], label=label(words.COLOUR),
                    info=label(words.COLOUR_INFO), elem_id="upscale-colour", filterable=False,
                )  # fmt: skip
                fields["quality"] = gr.Dropdown(
                    [(label(words.QUALITIES[name]), name) for name in QUALITIES],
                    value=start["quality"], label=label(words.QUALITY),
                    elem_id="upscale-quality", filterable=False,
                )  # fmt: skip
            with gr.Accordion(label(shared.MEMORY_SETTINGS), elem_id="upscale-memory-settings"):
                columns, notes = build_settings(page, fields, models.values(), "upscale")
            with gr.Accordion(label(words.ADVANCED), open=False, elem_id="upscale-advanced"):
                fields["segment_frames"] = _whole(
                    page, words.SEGMENT_FRAMES, "segment_frames", start, MIN_SEGMENT_FRAMES,
                    MAX_SEGMENT_FRAMES, words.SEGMENT_INFO,
                )  # fmt: skip
                fields["overlap"] = _whole(
                    page, words.OVERLAP, "overlap", start, 0, MAX_OVERLAP_FRAMES,
                    words.OVERLAP_INFO,
                )  # fmt: skip
        with gr.Column(elem_id="upscale-output", elem_classes="vs-area"):
            jobs = gr.HTML(elem_id="upscale-jobs", js_on_load=CLICKS)
            pair = PairSlider(
                label=label(words.COMPARED), visible=False, elem_id="upscale-pair",
                buttons=["fullscreen"], interactive=False,
            )  # fmt: skip
            frame = gr.Slider(
                1, 2, value=1, step=1, label=label(words.FRAME), visible=False,
                elem_id="upscale-frame",
            )  # fmt: skip
            result = gr.HTML(elem_id="upscale-result", js_on_load=CLICKS)
            recent = gr.HTML(elem_id="upscale-recent", js_on_load=CLICKS)
        with gr.Column(elem_id="upscale-aside", elem_classes="vs-area vs-aside"):
            panel = gr.HTML(elem_id="upscale-panel", js_on_load=CLICKS)
    return Controls(
        file=file, fields=fields, columns=columns, notes=notes, input_hint=input_hint,
        size_hint=size_hint, weights=weights, run=run, message=message, panel=panel, jobs=jobs,
        result=result, pair=pair, frame=frame, recent=recent, source=gr.State({}),
        seen=gr.State(""), memory=memory, **build_states("upscale"),
    )  # fmt: skip


def scale_choices(model: UpscaleCard, language: str) -> list[tuple[str, int]]:
    """How many times larger the model makes a side."""
    times = words.TIMES.in_language(language)
    return [(times.format(scale=scale), scale) for scale in sorted(model.scales)]


def model_updates(
    controls: Controls, form: Form, model: UpscaleCard, visit: Visit
) -> dict[Any, Any]:
    """Shows what the model takes, with its own choices."""
    fields = controls.fields
    return {
        fields["scale"]: gr.update(
            choices=scale_choices(model, visit.language), value=form["scale"]
        ),
        fields["overlap"]: gr.update(value=form["overlap"], visible=model.temporal),
        # Models that look at one frame by itself keep its colours.
        fields["colour"]: gr.update(value=form["colour"], visible=model.temporal),
        **choice_updates(fields, form, model, visit),
    }


def input_updates(controls: Controls, facts: Mapping[str, Any] | None) -> dict[Any, Any]:
    """An input's sizes in the form; without one, they can be set."""
    if not facts:
        return {controls.fields[key]: gr.update(interactive=True) for key in SIZE_KEYS}
    return {
        controls.fields[key]: gr.update(value=facts[key], interactive=False) for key in SIZE_KEYS
    }


def _whole(
    page: Page,
    text: Text,
    name: str,
    start: Form,
    low: int,
    high: int,
    info: Text | None = None,
) -> gr.Number:
    return gr.Number(
        start[name], label=page.labels(text), info=page.labels(info) if info else None,
        precision=0, minimum=low, maximum=high, min_width=100,
        elem_id=f"upscale-{name.replace('_', '-')}",
    )  # fmt: skip
