"""The tab for presets and settings: YAML that is checked while it is typed, and planned before use.

The text in the editor is the visitor's and is never replaced by an error. What belongs to the owner
is refused by the service, whatever the page shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from webui.core.errors import BadInput, Conflict, StudioError
from webui.service.editing import SETTINGS, Checked, Opened
from webui.storage.yaml_text import MAX_DOCUMENT_BYTES, load_yaml
from webui.ui import config_views as views
from webui.ui.config_areas import ConfigAreas, build_areas
from webui.ui.form import plain
from webui.ui.generate import GenerateTab
from webui.ui.language import say
from webui.ui.memory_panel import content_of_plan, render_error, render_panel
from webui.ui.page import Page, Visit
from webui.ui.parse import ParseTab
from webui.ui.task_controls import card_choices
from webui.ui.uploads import received_file
from webui.ui.upscale import UpscaleTab
from webui.ui.words import config_editor as words

Updates = dict[Any, Any]
Data = Mapping[Any, Any]
_MOST_DRAFTS = 20
_UNNAMED = re.compile(r"[^a-z0-9._-]+")
"""What no preset's name has; an imported file's own name is only proposed."""
_EXPORT = """(text, name) => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/yaml'}));
  link.download = (name === '@settings' ? 'studio' : name || 'preset') + '.yaml';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""
"""The browser makes the file of what it shows: nothing is written or served for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What an event was sent with."""

    visit: Visit
    text: str
    """In the editor."""
    card: str
    name: str
    """In the field for another name."""
    version: str
    opened: Mapping[str, Any]
    """What the editor shows: `name`, `seen`, `saved`."""
    drafts: Mapping[str, Mapping[str, Any]]
    """Texts that were left unsaved, by document."""

    @property
    def document(self) -> str:
        return str(self.opened.get("name", ""))

    @property
    def changed(self) -> bool:
        # The code editor drops blank lines at both ends.
        return bool(self.opened) and self.text.strip() != str(self.opened["saved"]).strip()


class ConfigTab:
    """Builds the tab inside the current `gr.Tab` and handles its events."""

    def __init__(
        self,
        page: Page,
        tabs: gr.Tabs,
        generate: GenerateTab,
        upscale: UpscaleTab,
        documents: ParseTab,
    ) -> None:
        self.page, self.tabs = page, tabs
        self.generate, self.upscale, self.documents = generate, upscale, documents
        self.areas: ConfigAreas = build_areas(page)
        self.opened = gr.State({})
        self.drafts = gr.State({})
        self._wire()

    @property
    def _inputs(self) -> set[Any]:
        areas = self.areas
        return {
            areas.document, areas.editor, areas.card, areas.name, areas.versions, areas.upload,
            self.opened, self.drafts, self.generate.controls.shown,
        }  # fmt: skip

    @property
    def _outputs(self) -> list[Any]:
        areas = self.areas
        return [
            areas.document, areas.status, areas.editor, areas.problems, areas.actions,
            areas.message, areas.diff, areas.card, areas.panel, areas.owners, areas.name,
            areas.name_actions, areas.versions, areas.version_actions, self.opened, self.drafts,
        ]  # fmt: skip

    def _wire(self) -> None:
        quiet: dict[str, Any] = {
            "inputs": self._inputs, "queue": False, "show_progress": "hidden",
            "api_visibility": "private", "preprocess": False,
        }  # fmt: skip
        areas = self.areas
        shown = [areas.status, areas.problems, areas.actions, areas.diff, areas.panel]
        # Typing is answered as fast as it can be, and the last text always.
        gr.on(
            [areas.editor.input, areas.card.input], self._on_edit, outputs=shown,
            trigger_mode="always_last", **quiet,
        )  # fmt: skip
        areas.document.input(self._on_open, outputs=self._outputs, **quiet)
        areas.upload.upload(self._on_import, outputs=self._outputs, **quiet)
        everything = [
            *self._outputs, self.tabs, *self.generate.outputs, *self.upscale.outputs,
            *self.documents.outputs,
        ]  # fmt: skip
        for clickable in (areas.actions, areas.message, areas.name_actions, areas.version_actions):
            clickable.click(self._on_action, outputs=everything, trigger_mode="once", **quiet)
        areas.export.click(None, [areas.editor, areas.document], None, js=_EXPORT)

    def wire_select(self, tab: gr.Tab) -> None:
        """Fills the tab when it is opened."""
        tab.select(
            self._on_select, self._inputs, self._outputs, queue=False, show_progress="hidden",
            api_visibility="private", preprocess=False,
        )  # fmt: skip

    # Events

    def _asked(self, data: Data, request: gr.Request) -> _Asked:
        def text_of(component: Any) -> str:
            value = plain(data.get(component))
            return value if isinstance(value, str) else ""

        return _Asked(
            visit=self.page.visit(request),
            text=text_of(self.areas.editor),
            card=text_of(self.areas.card),
            name=text_of(self.areas.name),
            version=text_of(self.areas.versions),
            opened=data.get(self.opened) or {},
            drafts=data.get(self.drafts) or {},
        )

    def _on_select(self, data: Data, request: gr.Request) -> Updates:
        asked = self._asked(data, request)
        visit = asked.visit
        own = (visit.say(words.OWN_CARD), "")
        updates: Updates = {
            self.areas.owners: gr.update(visible=visit.owner),
            self.areas.name_actions: views.render_name_actions(visit),
            self.areas.version_actions: views.render_version_actions(visit),
            self.areas.card: gr.update(
                choices=[own, *card_choices(self.page, visit.language)], value=asked.card
            ),
            **self._choices(visit, asked.document),
        }
        if asked.opened:
            return updates
        first = next((e.name for e in self._entries(visit) if e.name != SETTINGS), SETTINGS)
        return updates | self._try(asked, lambda: self._open(first, asked))

    def _on_open(self, data: Data, request: gr.Request) -> Updates:
        asked = self._asked(data, request)
        name = plain(data.get(self.areas.document))
        return self._try(asked, lambda: self._open(str(name or ""), asked))

    def _on_edit(self, data: Data, request: gr.Request) -> Updates:
        asked = self._asked(data, request)
        return self._judge(asked)

    def _on_import(self, data: Data, request: gr.Request) -> Updates:
        asked = self._asked(data, request)
        return self._try(asked, lambda: self._import(data.get(self.areas.upload), asked))

    def _on_action(self, data: Data, event: gr.EventData, request: gr.Request) -> Updates:
        asked = self._asked(data, request)
        sent = {str(key): str(value) for key, value in (event._data or {}).items()}
        return self._try(asked, lambda: self._act(sent, asked))

    def _try(self, asked: _Asked, act: Any) -> Updates:
        """What an action changes; an error is shown beside the text, which stays."""
        try:
            updates: Updates = act()
            return updates
        except Conflict as error:
            shown = views.render_conflict(error, asked.document, asked.text, asked.visit)
            return {self.areas.message: shown}
        except StudioError as error:
            return {self.areas.message: render_error(error, asked.visit.language)}

    def _act(self, sent: Mapping[str, str], asked: _Asked) -> Updates:
        """A button.

        Raises:
            StudioError: what the service refuses.
        """
        editor, visitor = self.page.studio.editor, asked.visit.visitor
        name, seen = asked.document, str(asked.opened.get("seen", ""))
        match sent.get("action"):
            case "save":
                return self._saved(editor.save(name, asked.text, seen, visitor), asked)
            case "overwrite":
                to = sent.get("name") or name
                return self._saved(
                    editor.save(to, asked.text, sent.get("seen", ""), visitor), asked
                )
            case "save-as":
                return self._save_as(asked)
            case "revert":
                return self._shown(editor.open(name, visitor), asked, forget=True)
            case "duplicate":
                copied = editor.duplicate(name, visitor)
                said = say(words.COPIED, asked.visit.language, name=copied.name)
                return self._shown(copied, self._kept(asked), said=said)
            case "delete":
                editor.delete(name, seen, visitor)
                said = say(words.DELETED, asked.visit.language)
                opened = editor.open(name, visitor)
                if asked.changed:
                    opened = replace(opened, text=asked.text)
                return self._shown(opened, asked, said=said, forget=True)
            case "restore":
                if not asked.version:
                    raise BadInput("version", words.NOTHING_CHOSEN)
                text = editor.version(name, asked.version, visitor)
                return self._replaced(text, words.RESTORED, asked)
            case "back":
                left = asked.opened.get("left")
                if left is None:
                    return gr.skip()
                return self._replaced(str(left), words.BACK, asked)
            case "use":
                return self._use(asked)
        return gr.skip()

    # What they do

    def _open(self, name: str, asked: _Asked) -> Updates:
        asked = self._kept(asked)
        opened = self.page.studio.editor.open(name, asked.visit.visitor)
        draft = asked.drafts.get(name)
        if draft is None or not asked.visit.owner:
            return self._shown(opened, asked)
        text = str(draft["text"])
        opened = replace(opened, seen=str(draft["seen"]), saved=str(draft["saved"]), text=text)
        return self._shown(opened, asked, said=say(words.DRAFT, asked.visit.language))

    def _kept(self, asked: _Asked) -> _Asked:
        """With the text that is left unsaved among the drafts."""
        if not asked.changed or not asked.visit.owner:
            return asked
        kept = {**asked.drafts, asked.document: {"text": asked.text, **asked.opened}}
        return replace(asked, drafts=dict(list(kept.items())[-_MOST_DRAFTS:]))

    def _save_as(self, asked: _Asked) -> Updates:
        if not asked.name:
            raise BadInput("name", words.NAME_FIRST)
        editor = self.page.studio.editor
        try:
            saved = editor.save(asked.name, asked.text, "", asked.visit.visitor)
        except Conflict as error:
            shown = views.render_conflict(error, asked.name, asked.text, asked.visit)
            return {self.areas.message: shown}
        return self._saved(saved, asked)

    def _saved(self, opened: Opened, asked: _Asked) -> Updates:
        said = words.IN_EFFECT if opened.name == SETTINGS else words.SAVED
        return {
            **self._shown(opened, asked, said=say(said, asked.visit.language), forget=True),
            self.areas.name: "",
        }

    def _import(self, value: Any, asked: _Asked) -> Updates:
        """Puts an uploaded file into the editor; it is not kept."""
        self.page.studio.editor.check_owner(asked.visit.visitor)
        path = Path(received_file(value, "file"))
        try:
            text = load_yaml(path, "YAML", MAX_DOCUMENT_BYTES)
        except OSError:
            raise BadInput("file", words.ONE_FILE) from None
        finally:
            path.unlink(missing_ok=True)
        named = value.get("orig_name") if isinstance(value, Mapping) else None
        name = _UNNAMED.sub("-", Path(str(named or "")).stem.lower()).strip("-._")[:63]
        return {**self._replaced(text, words.IMPORTED, asked), self.areas.name: name}

    def _replaced(self, text: str, said: Any, asked: _Asked) -> Updates:
        """Another text in the editor; a button brings back what was there unsaved."""
        state = {**asked.opened, "left": asked.text if asked.changed else None}
        note = f'<p class="vs-hint">{say(said, asked.visit.language)}</p>'
        if asked.changed:
            note += views.render_back(asked.visit)
        return {
            self.areas.editor: text,
            self.areas.message: note,
            self.opened: state,
            **self._judge(replace(asked, text=text, opened=state)),
        }

    def _use(self, asked: _Asked) -> Updates:
        """Puts the preset into the form of the tab that runs it."""
        plan = self.page.studio.editor.plan(asked.text, asked.card)
        request = plan.request
        forms: dict[str, tuple[str, GenerateTab | UpscaleTab | ParseTab]] = {
            "generate": ("generate", self.generate),
            "upscale": ("upscale", self.upscale),
            "parse": ("documents", self.documents),
        }
        offered = {**self.page.models(), **self.page.upscalers(), **self.page.readers()}
        if request.task not in forms or request.model not in offered:
            command = f"python -m webui plan presets/{asked.document}.yaml"
            said = say(words.COMMAND, asked.visit.language, command=command)
            return {self.areas.message: f'<p class="vs-hint">{said}</p>'}
        tab, form = forms[request.task]
        applied = form.request_updates(request.to_json(), asked.visit)
        return {**applied, self.tabs: gr.Tabs(selected=tab), self.areas.message: ""}

    # What is shown

    def _shown(
        self, opened: Opened, asked: _Asked, said: str = "", forget: bool = False
    ) -> Updates:
        """A document in the editor."""
        visit = asked.visit
        drafts = {k: v for k, v in asked.drafts.items() if not (forget and k == opened.name)}
        state = {"name": opened.name, "seen": opened.seen, "saved": opened.saved}
        now = replace(asked, text=opened.text, opened=state)
        return {
            **self._choices(visit, opened.name),
            self.areas.editor: gr.update(value=opened.text, interactive=visit.owner),
            self.areas.versions: gr.update(
                choices=views.version_choices(opened.versions, visit), value=None
            ),
            self.areas.message: f'<p class="vs-hint">{said}</p>' if said else "",
            self.opened: state,
            self.drafts: drafts,
            **self._judge(now),
        }

    def _judge(self, asked: _Asked) -> Updates:
        """Mistakes, differences and the estimate of what is in the editor."""
        visit, name = asked.visit, asked.document
        checked = self.page.studio.editor.check(name, asked.text)
        new = not asked.opened.get("seen")
        saved = str(asked.opened.get("saved", ""))
        return {
            self.areas.status: views.render_status(asked.changed, new, visit),
            self.areas.actions: views.render_actions(name, not new, asked.changed, visit),
            self.areas.problems: views.render_problems(checked.problems, asked.text, visit),
            self.areas.diff: views.render_diff(saved, asked.text, visit) if visit.owner else "",
            self.areas.panel: self._panel(checked, asked),
        }

    def _panel(self, checked: Checked, asked: _Asked) -> str:
        if asked.document == SETTINGS:
            return views.NO_PLAN
        if checked.request is None:
            return f'<p class="vs-empty">{say(words.NO_ESTIMATE, asked.visit.language)}</p>'
        try:
            plan = self.page.studio.editor.plan(asked.text, asked.card)
        except StudioError as error:
            return render_error(error, asked.visit.language)
        card = self.page.card(plan.estimate.card)
        content = content_of_plan(plan, card.title, card.kind == "cpu")
        # The offers' buttons belong to the form; here they are sentences.
        offers = [offer.text for offer in plan.alternatives]
        content = replace(content, offers=(), reasons=[*content.reasons, *offers])
        return render_panel(content, asked.visit.language)

    def _entries(self, visit: Visit) -> Any:
        return self.page.studio.editor.entries(visit.visitor)

    def _choices(self, visit: Visit, name: str) -> Updates:
        choices = views.document_choices(self._entries(visit), visit)
        return {self.areas.document: gr.update(choices=choices, value=name or None)}
