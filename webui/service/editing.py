"""Editing presets and the app's settings: open, check, plan before applying, save, restore."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.catalogue import find_model, load_models
from webui.core.clip import ClipCard
from webui.core.errors import BadInput, NotAllowed, NotFound, StudioError
from webui.core.fields import shown
from webui.core.parse import PATH_KEYS, parse_request
from webui.core.plan import Plan
from webui.core.request import DETECTED, Request
from webui.core.text import EMPTY, Text
from webui.core.units import GIB
from webui.hardware import find_card
from webui.service.access import Access
from webui.service.planner import Planner
from webui.service.unsupported import unsupported
from webui.storage import Presets, StudioConfig
from webui.storage.config import config_path, parse_config
from webui.storage.config_text import DEFAULT_TEXT
from webui.storage.documents import Document, Saved
from webui.storage.history import Version
from webui.storage.presets import about_of
from webui.storage.yaml_text import MAX_DOCUMENT_BYTES, BadYaml, YamlText, read_yaml, replace_values

SETTINGS = "@settings"
"""Stands for the configuration among the documents; no preset can have this name."""
_HIDDEN = '"***"'
"""What a visitor sees in place of a path of this machine."""
MOST_PROBLEMS = 8
"""Mistakes that are shown at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A document that can be opened."""

    name: str
    about: Text
    group: str
    """`clips`, `documents`, `text`, `training`; `broken` for what cannot be read, `settings`,
    and `deleted` for what only the history still has."""
    memory_gb: int | None = None
    """Of the card that the preset names, as it is printed on the box; None for the detected one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A document as it is on the disk."""

    name: str
    text: str
    seen: str
    """Fingerprint, to be given back when it is saved; empty where there is no file yet."""
    saved: str
    """What changes are compared with: what the file holds, or would hold if it were made."""
    versions: tuple[Version, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in a text."""

    line: int
    """From 1; 0 where it is no one line."""
    field: str
    message: Text
    hint: Text = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What is wrong with a text, or the request that it says."""

    problems: tuple[Problem, ...] = ()
    request: Request | None = None
    """Of a preset without mistakes."""


class Editor:
    """Presets and `studio.yaml` as documents. Visitors read presets; all else is the owner's.

    Args:
        home: the studio's.
        access: who owns it.
        presets: its presets.
        planner: plans them.
        apply: takes a new configuration.
    """

    def __init__(
        self,
        home: Path,
        access: Access,
        presets: Presets,
        planner: Planner,
        apply: Callable[[StudioConfig], None],
    ) -> None:
        self._home = home
        self._access = access
        self._presets = presets
        self._planner = planner
        self._apply = apply
        self._applying = threading.Lock()
        self._known: dict[str, tuple[tuple[int, int], Entry]] = {}
        """Presets that were read for the list, by name, while their files stay as they are."""

    def entries(self, visitor: str) -> list[Entry]:
        """What the visitor may open, sorted by kind of work and memory; the settings first."""
        owner = self._access.is_owner(visitor)
        found = [self._entry(name) for name in self._presets.names()]
        found.sort(key=lambda entry: (entry.group, entry.memory_gb or 0, entry.name))
        if not owner:
            return [entry for entry in found if entry.group != "broken"]
        gone = self._presets.deleted()
        deleted = [Entry(name=name, about=Text(name, name), group="deleted") for name in gone]
        path = self._settings_path.name
        return [Entry(name=SETTINGS, about=Text(path, path), group="settings"), *found, *deleted]

    def open(self, name: str, visitor: str) -> Opened:
        """A document's text; of one that was deleted the last version, as a new text.

        Raises:
            NotFound: there is none.
            NotAllowed: the settings, asked for by a visitor.
            BadInput: a name that no preset can have, a file that is no UTF-8 text, or for a
                visitor one that is no YAML.
        """
        if name == SETTINGS:
            self.check_owner(visitor)
        document = self._document(name)
        saved = document.read()
        owner = self._access.is_owner(visitor)
        versions = tuple(document.versions()) if owner else ()
        text = saved.text
        if not saved.seen:
            if name == SETTINGS:
                text = DEFAULT_TEXT
            elif versions:
                text = document.version(versions[0].id)
            else:
                raise NotFound(Text(f"There is no '{name[:60]}'.", f"没有“{name[:60]}”。"))
        if not owner:
            text = replace_values(text, _file_name(name), PATH_KEYS, _HIDDEN)
        return Opened(name=name, text=text, seen=saved.seen, saved=text, versions=versions)

    def check(self, name: str, text: str) -> Checked:
        """Every mistake of a text, as far as one does not hide another."""
        if name == SETTINGS:
            path = self._settings_path
            return _check(text, path.name, lambda data: self._config(data, path))
        return _check(text, _file_name(name), self._request)

    def plan(self, text: str, card: str = "") -> Plan:
        """The plan of a preset's text before it is used.

        Args:
            text: of the preset.
            card: to plan for in place of the one that it names.

        Raises:
            BadInput: what is wrong with it.
        """
        data = read_yaml(text, _file_name(""), MAX_DOCUMENT_BYTES).data
        if card and isinstance(data, dict):
            data = {**data, "card": card, "vram_gib": None}
        return self._planner.plan(parse_request(data, find_model))

    def save(self, name: str, text: str, seen: str, visitor: str) -> Opened:
        """Writes a document; settings act at once.

        Args:
            name: of a preset, or `SETTINGS`.
            text: without mistakes.
            seen: fingerprint of what it replaces; empty for a new one.
            visitor: who saves.

        Raises:
            NotAllowed: a visitor.
            BadInput: the name, or the first mistake of the text.
            Conflict: somebody else saved in between.
            NotEnoughDisk: the disk is full.
        """
        self.check_owner(visitor)
        document = self._document(name)
        # Of what is no YAML this tells the line too.
        read_yaml(text, document.path.name, MAX_DOCUMENT_BYTES)
        checked = self.check(name, text)
        if checked.problems:
            first = checked.problems[0]
            raise BadYaml(first.line, first.message, first.hint)
        if name != SETTINGS:
            return self._opened(name, document, document.save(text, seen))
        with self._applying:  # or of two saves the older one might be applied last
            saved = document.save(text, seen)
            path = self._settings_path
            data = read_yaml(saved.text, path.name, MAX_DOCUMENT_BYTES).data
            self._apply(parse_config(data, path, load_models()))
        return self._opened(name, document, saved)

    def duplicate(self, name: str, visitor: str) -> Opened:
        """A copy of what is saved, under the next free name.

        Raises:
            NotAllowed: a visitor.
            BadInput: the settings, of which there is one.
            NotFound: there is no such preset.
        """
        self.check_owner(visitor)
        source = self._preset(name).read()
        if not source.seen:
            raise NotFound(Text(f"There is no '{name[:60]}'.", f"没有“{name[:60]}”。"))
        taken = {*self._presets.names(), *self._presets.deleted()}
        number = 2
        while (copied := f"{name[:59]}-{number}") in taken:
            number += 1
        document = self._document(copied)
        return self._opened(copied, document, document.save(source.text, ""))

    def delete(self, name: str, seen: str, visitor: str) -> None:
        """Removes a preset; the history keeps it.

        Raises:
            NotAllowed: a visitor.
            BadInput: the settings.
            NotFound: it is gone already.
            Conflict: somebody changed it in between.
        """
        self.check_owner(visitor)
        self._preset(name).delete(seen)

    def version(self, name: str, version: str, visitor: str) -> str:
        """The text of a former version.

        Raises:
            NotAllowed: a visitor.
            NotFound: it is not kept any more.
            BadInput: not a version.
        """
        self.check_owner(visitor)
        return self._document(name).version(version)

    @property
    def _settings_path(self) -> Path:
        return config_path(self._home)[0]

    def _document(self, name: str) -> Document:
        if name == SETTINGS:
            return Document(self._settings_path)
        return self._presets.document(name)

    def _preset(self, name: str) -> Document:
        if name == SETTINGS:
            raise BadInput(
                "",
                Text("The settings are one file.", "设置只有一个文件。"),
                Text(
                    "An empty file means that everything is by default.",
                    "空文件表示全部采用默认值。",
                ),
            )
        return self._presets.document(name)

    def _opened(self, name: str, document: Document, saved: Saved) -> Opened:
        return Opened(
            name=name, text=saved.text, saved=saved.text, seen=saved.seen,
            versions=tuple(document.versions()),
        )  # fmt: skip

    def check_owner(self, visitor: str) -> None:
        """Refuses visitors.

        Raises:
            NotAllowed: only the owner edits.
        """
        if not self._access.is_owner(visitor):
            raise NotAllowed(
                Text("Only the owner of this machine edits.", "只有本机的所有者可以编辑。"),
                Text("Presets can be read and used.", "预设可以查看和使用。"),
            )

    def _request(self, data: Any) -> Request:
        request = parse_request(data, find_model)
        target = self._planner.target(request)
        refusal = unsupported(self._planner.without_fp32(request, target), target.card)
        if refusal is not None:
            raise refusal
        return request

    @staticmethod
    def _config(data: Any, path: Path) -> None:
        parse_config(data, path, load_models())

    def _entry(self, name: str) -> Entry:
        try:
            found = self._presets.document(name).path.stat()
        except OSError:
            return Entry(name=name, about=Text(name, name), group="broken")
        stamp = (found.st_mtime_ns, found.st_size)
        known = self._known.get(name)
        if known is None or known[0] != stamp:
            known = self._known[name] = (stamp, self._read_entry(name))
        return known[1]

    def _read_entry(self, name: str) -> Entry:
        try:
            request = parse_request(self._presets.load(name).request, find_model)
            about = about_of(self._presets.document(name).read().text, name)
            memory = None
            if request.vram_gib is not None:
                memory = round(request.vram_gib)
            elif request.card != DETECTED:
                memory = round(find_card(request.card).vram_bytes / GIB + 0.2)
        except StudioError:
            return Entry(name=name, about=Text(name, name), group="broken")
        return Entry(name=name, about=about, group=group_of(request), memory_gb=memory)


def group_of(request: Request) -> str:
    """The kind of work of a request."""
    if request.task == "parse":
        return "documents"
    if request.task == "train":
        return "training"
    return "clips" if isinstance(find_model(request.model, request.task), ClipCard) else "text"


def _file_name(name: str) -> str:
    return f"{name[:60]}.yaml" if name else "YAML"


def _check(text: str, file: str, parse: Callable[[Any], Request | None]) -> Checked:
    """Parses again and again, each time without what was wrong before."""
    try:
        read = read_yaml(text, file, MAX_DOCUMENT_BYTES)
    except BadYaml as error:
        problem = Problem(line=error.line, field="", message=error.what, hint=error.hint)
        return Checked(problems=(problem,))
    data = copy.deepcopy(read.data)
    problems: list[Problem] = []
    while len(problems) < MOST_PROBLEMS:
        try:
            found = parse(data)
            return Checked(problems=tuple(problems), request=None if problems else found)
        except BadInput as error:
            problems.append(_problem(error, read))
            # Of another model or task everything else would be wrong too.
            if error.field in ("", "model", "task") or not _drop(data, error.field):
                break
    return Checked(problems=tuple(problems))


def _problem(error: BadInput, read: YamlText) -> Problem:
    line = read.line_of(error.field)
    return Problem(line=line, field=error.field, message=error.message, hint=error.hint)


def _drop(data: Any, path: str) -> bool:
    """Removes the key that an error names; False where there is none."""
    if not isinstance(data, dict):
        return False
    for key in list(data):
        if path in (str(key), shown(key)):
            del data[key]
            return True
    # An error of a nested mapping names the whole path, or the key alone.
    return any(_drop(value, path.removeprefix(f"{key}.")) for key, value in data.items())
