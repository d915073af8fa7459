"""The controls of the documents tab, and what stands beside them; all have a stable `elem_id`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.core.documents import ALL, DPI, MAX_DPI, MIN_DPI, DocumentCard
from webui.core.pages import PageCard
from webui.documents.sources import KINDS, ZIP
from webui.ui.language import say
from webui.ui.page import Page, Visit
from webui.ui.parse_form import PIXEL_STEP, Form, defaults_of, pixel_range
from webui.ui.parse_view import READER
from webui.ui.results import CLICKS
from webui.ui.task_controls import (
    TaskControls,
    build_card,
    build_model,
    build_settings,
    build_states,
    choice_updates,
)
from webui.ui.words import generate as shared
from webui.ui.words import parse as words

MOST_TOKENS = 32_768
"""Right end of the slider: longer answers than any page has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls(TaskControls):
    """The form, the memory panel, and the document; `shown` is the document, the page of it, and
    how it is shown."""

    files: gr.File
    folder: gr.Group
    """Around the owner's field for a path."""
    input_hint: gr.HTML
    size_hint: gr.HTML
    memory_settings: gr.Accordion
    document: gr.HTML
    """What is known of the shown document, and what can be done with it."""
    ways: gr.Row
    """Around the pager and the search; shown when there is a document."""
    search: gr.Textbox
    found: gr.HTML
    pager: gr.HTML
    reader: gr.HTML
    """One page: its picture with boxes, and its text."""
    counted: gr.State
    """The input's pages and size, and what they were counted of."""
    known: gr.State
    """How its pages came out."""


def build_controls(page: Page, memory: gr.BrowserState) -> Controls:
    """Two columns: the form with its memory panel, and the document."""
    label = page.labels
    models = page.readers()
    model = next(iter(models.values()))
    start = defaults_of(model)
    fields: dict[str, Any] = {}
    with gr.Row(elem_id="parse-layout", elem_classes="vs-parse", equal_height=False):
        with gr.Column(elem_id="parse-form", elem_classes="vs-area"):
            files = gr.File(
                label=label(words.FILES), file_count="multiple", file_types=[*KINDS, ZIP],
                elem_id="parse-files", height=150,
            )  # fmt: skip
            with gr.Group(visible=False) as folder:
                fields["folder"] = gr.Textbox(
                    "", label=label(words.FOLDER), info=label(words.FOLDER_INFO), max_lines=1,
                    elem_id="parse-folder",
                )  # fmt: skip
            with gr.Group():
                weights = build_model(page, fields, models.values(), "parse")
            run = gr.Button(label(words.RUN), variant="primary", size="lg", elem_id="parse-run")
            message = gr.HTML(elem_id="parse-message")
            with gr.Column(elem_id="parse-aside", elem_classes="vs-area vs-aside"):
                panel = gr.HTML(elem_id="parse-panel", js_on_load=CLICKS)
            with gr.Group(elem_classes="vs-later"):
                input_hint = gr.HTML(elem_id="parse-input-hint", padding=True)
                fields["pages"] = gr.Textbox(
                    ALL, label=label(words.PAGES), info=label(words.PAGES_INFO), max_lines=1,
                    elem_id="parse-pages",
                )  # fmt: skip
                fields["dpi"] = gr.Slider(
                    MIN_DPI, MAX_DPI, value=DPI, step=4, label=label(words.DPI),
                    elem_id="parse-dpi",
                )  # fmt: skip
                low, high = pixel_range(model)
                fields["max_pixels"] = gr.Slider(
                    low, high, value=start["max_pixels"], step=PIXEL_STEP,
                    label=label(words.MAX_PIXELS), info=label(words.MAX_PIXELS_INFO),
                    elem_id="parse-max-pixels",
                )  # fmt: skip
                fields["largest"] = gr.Checkbox(
                    False, label=label(words.LARGEST), elem_id="parse-largest"
                )
                size_hint = gr.HTML(elem_id="parse-size-hint", padding=True)
                fields["new_tokens"] = gr.Slider(
                    1, MOST_TOKENS, value=1, step=1, label=label(words.NEW_TOKENS),
                    info=label(words.NEW_TOKENS_INFO), elem_id="parse-new-tokens", visible=False,
                )  # fmt: skip
            with gr.Group(elem_classes="vs-later"):
                build_card(page, fields, "parse")
            with gr.Accordion(
                label(shared.MEMORY_SETTINGS),
                elem_id="parse-memory-settings",
                visible=False,
                elem_classes="vs-later",
            ) as memory_settings:
                columns, notes = build_settings(page, fields, models.values(), "parse")
        with gr.Column(elem_id="parse-output", elem_classes="vs-area"):
            jobs = gr.HTML(elem_id="parse-jobs", js_on_load=CLICKS)
            document = gr.HTML(elem_id="parse-document", js_on_load=CLICKS)
            with gr.Row(elem_id="parse-ways", equal_height=True, visible=False) as ways:
                pager = gr.HTML(elem_id="parse-pager", js_on_load=READER)
                search = gr.Textbox(
                    label=label(words.SEARCH), placeholder=label(words.SEARCH), max_lines=1,
                    elem_id="parse-search", submit_btn=True, show_label=False, container=False,
                )  # fmt: skip
            found = gr.HTML(elem_id="parse-found", js_on_load=CLICKS)
            reader = gr.HTML(elem_id="parse-reader", js_on_load=READER)
            recent = gr.HTML(elem_id="parse-recent", js_on_load=CLICKS)
    return Controls(
        fields=fields, files=files, folder=folder, columns=columns, notes=notes,
        input_hint=input_hint, size_hint=size_hint, memory_settings=memory_settings,
        weights=weights, run=run, message=message, panel=panel, jobs=jobs, document=document,
        ways=ways, search=search, found=found, pager=pager, reader=reader, recent=recent,
        counted=gr.State({}), known=gr.State({}), memory=memory, **build_states("parse", {}),
    )  # fmt: skip


def model_updates(
    controls: Controls, form: Form, model: DocumentCard, visit: Visit
) -> dict[Any, Any]:
    """Shows what the model takes, with its own ranges and values."""
    low, high = pixel_range(model)
    writes = isinstance(model, PageCard)
    most = min(MOST_TOKENS, model.max_positions) if isinstance(model, PageCard) else 1
    updates: dict[Any, Any] = {
        controls.fields["max_pixels"]: gr.update(
            minimum=low, maximum=high, value=form["max_pixels"]
        ),
        controls.fields["new_tokens"]: gr.update(
            maximum=max(most, form["new_tokens"], 2), value=form["new_tokens"], visible=writes
        ),
        controls.memory_settings: gr.update(visible=bool(model.settings)),
    }
    return updates | choice_updates(controls.fields, form, model, visit)


def hint_updates(
    controls: Controls,
    form: Mapping[str, Any],
    counted: Mapping[str, Any],
    pages: int,
    fed: tuple[int, int] | None,
    visit: Visit,
) -> dict[Any, Any]:
    """How many pages there are, and what the model sees of the largest.

    Args:
        controls: of the tab.
        form: the controls' values.
        counted: height and width of the largest page; empty without a document.
        pages: how many there are.
        fed: height and width as the model sees it, where that is known.
        visit: who asks.
    """
    language = visit.language
    if counted:
        text = words.COUNTED if pages != 1 else words.COUNTED_ONE
        size = {"width": counted["width"], "height": counted["height"]}
        hint = say(text, language, pages=pages, **size)
    else:
        hint = say(words.ONE_PAGE, language)
    seen = say(words.FED_SIZE, language, width=fed[1], height=fed[0]) if fed else ""
    return {
        controls.input_hint: f'<p class="vs-hint">{hint}</p>',
        controls.size_hint: f'<p class="vs-hint">{seen}</p>' if seen else "",
        controls.fields["max_pixels"]: gr.update(interactive=form.get("largest") is not True),
    }
