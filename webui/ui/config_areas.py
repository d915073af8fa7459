"""The components of the tab for presets and settings."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from webui.ui.page import Page
from webui.ui.results import CLICKS
from webui.ui.words import config_editor as words

_LEAVING = """
window.addEventListener('beforeunload', event => {
  if (document.querySelector('#config-status [data-changed]')) event.preventDefault();
});
"""
"""The browser asks before a page with unsaved changes is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigAreas:
    """What stands in the tab."""

    document: gr.Dropdown
    status: gr.HTML
    editor: gr.Code
    problems: gr.HTML
    actions: gr.HTML
    message: gr.HTML
    diff: gr.HTML
    card: gr.Dropdown
    panel: gr.HTML
    owners: gr.Column
    name: gr.Textbox
    name_actions: gr.HTML
    versions: gr.Dropdown
    version_actions: gr.HTML
    upload: gr.UploadButton
    export: gr.Button


def build_areas(page: Page) -> ConfigAreas:
    """The editor, and beside it the estimate and what is the owner's."""
    label = page.labels
    with gr.Row(elem_classes="vs-config", equal_height=False):
        with gr.Column(scale=3, elem_classes="vs-area"):
            document = gr.Dropdown(
                [], value=None, label=label(words.DOCUMENT), elem_id="config-document"
            )
            status = gr.HTML(elem_id="config-status", js_on_load=_LEAVING)
            editor = gr.Code(
                language="yaml", label=label(words.EDITOR), elem_id="config-editor", lines=14,
                max_lines=60, wrap_lines=True, interactive=True, buttons=["copy"],
            )  # fmt: skip
            problems = gr.HTML(elem_id="config-problems")
            actions = gr.HTML(elem_id="config-actions", js_on_load=CLICKS)
            message = gr.HTML(elem_id="config-message", js_on_load=CLICKS)
            diff = gr.HTML(elem_id="config-diff")
        with gr.Column(scale=2, elem_classes="vs-area"):
            card = gr.Dropdown([], value=None, label=label(words.CARD), elem_id="config-card")
            panel = gr.HTML(elem_id="config-panel")
            with gr.Column(visible=False) as owners:
                name = gr.Textbox(
                    label=label(words.NAME), info=label(words.NAME_INFO), max_lines=1,
                    max_length=63, elem_id="config-name",
                )  # fmt: skip
                name_actions = gr.HTML(elem_id="config-name-actions", js_on_load=CLICKS)
                versions = gr.Dropdown(
                    [], value=None, label=label(words.VERSIONS), elem_id="config-versions"
                )
                version_actions = gr.HTML(elem_id="config-version-actions", js_on_load=CLICKS)
                upload = gr.UploadButton(
                    label(words.IMPORT), file_types=[".yaml", ".yml"], size="sm",
                    elem_id="config-import",
                )  # fmt: skip
            export = gr.Button(label(words.EXPORT), size="sm", elem_id="config-export")
    return ConfigAreas(
        document=document,
        status=status,
        editor=editor,
        problems=problems,
        actions=actions,
        message=message,
        diff=diff,
        card=card,
        panel=panel,
        owners=owners,
        name=name,
        name_actions=name_actions,
        versions=versions,
        version_actions=version_actions,
        upload=upload,
        export=export,
    )
