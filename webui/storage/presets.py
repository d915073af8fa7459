"""Presets: request files in one folder, picked by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from webui.core.errors import BadInput, NotFound
from webui.core.mapping import check_keys
from webui.core.parse import KEYS
from webui.core.text import Text
from webui.storage.documents import Document
from webui.storage.history import History
from webui.storage.yaml_text import MAX_DOCUMENT_BYTES, load_yaml, read_yaml

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){0,62}")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")
"""Names that Windows keeps for devices, whatever follows."""
_SUFFIX = ".yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A request with a name."""

    name: str
    about: Text
    """From the file's first comment line: `# English | 中文`; the name when there is none."""
    request: Mapping[str, Any]
    """Request keys; values are checked when the request is parsed."""


class Presets:
    """The presets of a folder. A name is never a path.

    Args:
        folder: made when the first preset is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """All names, sorted; the files are not opened."""
        try:
            files = sorted(self.folder.glob(f"*{_SUFFIX}"))
        except OSError:
            return []
        return [path.stem for path in files if _is_name(path.stem) and path.is_file()]

    def load(self, name: str) -> Preset:
        """One preset.

        Raises:
            NotFound: there is none of that name.
            BadInput: the file is not a request; names the file and the key.
        """
        path = self._path(name)
        try:
            text = load_yaml(path, limit_bytes=MAX_DOCUMENT_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            raise _not_there(name) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise BadInput(
                "", Text(f"{path.name} cannot be read: {reason}", f"无法读取 {path.name}：{reason}")
            ) from None
        data = read_yaml(text, path.name, MAX_DOCUMENT_BYTES).data
        request = check_keys(data, where=path.name, optional=KEYS)
        return Preset(name=name, about=about_of(text, name), request=request)

    def save(self, name: str, request: Mapping[str, Any], about: Text | None = None) -> Preset:
        """Writes a preset; one of the same name is replaced.

        Raises:
            BadInput: the name is not allowed, or the request has an unknown key.
            NotEnoughDisk: the disk is full.
        """
        document = self.document(name)
        check_keys(request, where=document.path.name, optional=KEYS)
        given = {key: value for key, value in request.items() if value is not None}
        body = yaml.safe_dump(given, allow_unicode=True, sort_keys=False)
        comment = ""
        if about is not None:
            en, zh = (" ".join(text.split()).replace("|", "/") for text in (about.en, about.zh))
            comment = f"# {en} | {zh}\n"
        document.save(comment + body, document.read().seen)
        return self.load(name)

    def delete(self, name: str) -> None:
        """Removes a preset; its text stays in the history.

        Raises:
            NotFound: there is none of that name.
        """
        document = self.document(name)
        document.delete(document.read().seen)

    def document(self, name: str) -> Document:
        """The file of a preset, for editing; it need not be there.

        Raises:
            BadInput: the name is not allowed.
        """
        return Document(self._path(name))

    def deleted(self) -> list[str]:
        """Names of presets that are gone and have versions in the history."""
        there = set(self.names())
        kept = History(self.folder).names()
        return [name for name in kept if _is_name(name) and name not in there]

    def _path(self, name: str) -> Path:
        if not _is_name(name):
            raise BadInput(
                "preset",
                Text(f"'{name[:60]}' is not a preset name.", f"“{name[:60]}”不能作为预设名称。"),
                Text(
                    "Use small letters, digits, dots, dashes and underscores, 63 at most.",
                    "请使用小写字母、数字、点、横线和下划线，最多 63 个字符。",
                ),
            )
        return self.folder / f"{name}{_SUFFIX}"


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not _RESERVED.fullmatch(name)


def about_of(text: str, name: str) -> Text:
    """What a preset's first comment line says of it, in both languages; else its name."""
    first = text.lstrip("\ufeff").partition("\n")[0]
    if not first.startswith("#"):
        return Text(name, name)
    en, _, zh = (part.strip() for part in first.lstrip("# ").partition("|"))
    return Text(en or name, zh or en or name)


def _not_there(name: str) -> NotFound:
    return NotFound(Text(f"There is no preset '{name[:60]}'.", f"没有名为“{name[:60]}”的预设。"))
