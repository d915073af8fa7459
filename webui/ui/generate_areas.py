"""What stands beside the generation form: jobs, the player, recent runs, the memory panel."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from webui.ui.results import CLICKS

POLL_S = 0.6
"""How often a page asks for its jobs while one is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Areas:
    """What stands beside the form."""

    panel: gr.HTML
    jobs: gr.HTML
    result: gr.HTML
    recent: gr.HTML
    timer: gr.Timer
    following: gr.State
    """The job whose result this page waits for."""
    shown: gr.State
    """The run in the player."""
    revision: gr.Textbox
    """Changes when an event has changed the form or the shown run: then it is planned again."""
    memory: gr.BrowserState
    """The form, as this browser remembers it."""


def build_areas() -> Areas:
    """Two columns of the page's grid: what comes out, and what it takes."""
    with gr.Column(elem_id="generate-output", elem_classes="vs-area"):
        jobs = gr.HTML(elem_id="generate-jobs", js_on_load=CLICKS)
        result = gr.HTML(elem_id="generate-result", js_on_load=CLICKS)
        recent = gr.HTML(elem_id="generate-recent", js_on_load=CLICKS)
    with gr.Column(elem_id="generate-aside", elem_classes="vs-area vs-aside"):
        panel = gr.HTML(elem_id="generate-panel", js_on_load=CLICKS)
    return Areas(
        panel=panel,
        jobs=jobs,
        result=result,
        recent=recent,
        timer=gr.Timer(POLL_S, active=False),
        following=gr.State(None),
        shown=gr.State(None),
        revision=gr.Textbox(visible="hidden", elem_id="generate-revision"),
        memory=gr.BrowserState(None, storage_key="vram-studio-form", secret="vram-studio"),
    )
