"""The profiles: a folder for each matrix that was run, and in it a folder for each row."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from webui.core.errors import BadInput, NotEnoughDisk, NotFound
from webui.core.text import Text
from webui.core.units import GIB, MIB, format_bytes
from webui.storage.files import check_free, write_error, writing

EVENTS = "memory_events.json"
TRACE = "trace.json.gz"
SNAPSHOT = "snapshot.pickle"
RECEIPT = "receipt.json"
REPORT = "report.md"
SUMMARY = "summary.json"
MATRIX = "matrix.yaml"
ROW_FILES = (EVENTS, TRACE, SNAPSHOT, RECEIPT, REPORT)
PROFILE_FILES = (SUMMARY, REPORT, MATRIX)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_SPARE_BYTES = 256 * MIB
"""Room for a row's files: traces are the large ones."""
MAX_TOTAL_BYTES = 32 * GIB
"""Of all profiles together; none is deleted unasked."""


def folder_name(text: str, longest: int = 60) -> str:
    """A text as the name of a folder: small letters, digits, dashes; never empty."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-._")[:longest].strip("-._")
    return re.sub(r"\.{2,}", ".", plain).lower() or "row"


class Profiles:
    """Profile folders under one root. Names are checked, so nothing outside is ever touched.

    Args:
        root: made when the first profile is.
        max_bytes: of all profiles together.
    """

    def __init__(self, root: Path, max_bytes: int = MAX_TOTAL_BYTES) -> None:
        self.root = root.absolute()
        self._max_bytes = max_bytes

    def new(self, name: str) -> Path:
        """Makes the folder of a matrix: `<name>-<date>-<time>`.

        Raises:
            NotEnoughDisk: the disk is full, or the profiles take all that they may.
            StudioError: the root cannot be written.
        """
        self.check_room()
        base = f"{folder_name(name)}-{datetime.now(UTC):%Y-%m-%d-%H%M%S}"
        for number in range(1, 100):
            folder = self.root / (base if number == 1 else f"{base}-{number}")
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise write_error(folder, error) from error
            return folder
        raise _not_there(name)

    def check_room(self) -> None:
        """Makes sure that the files of one more row have room.

        Raises:
            NotEnoughDisk: the disk is full, or the profiles take all that they may.
        """
        check_free(self.root, _SPARE_BYTES)
        total = sum(_bytes_of(self.root / name) for name in self.names())
        if total > self._max_bytes:
            most = format_bytes(self._max_bytes)
            raise NotEnoughDisk(
                Text(
                    f"The profiles take {format_bytes(total)}; they may take {most}.",
                    f"性能分析已占用 {format_bytes(total)}，上限为 {most}。",
                ),
                Text(
                    f"Delete earlier profiles in the Profiler tab, or in {self.root}.",
                    f"请在“性能分析”页或 {self.root} 中删除以往的性能分析。",
                ),
            )

    def delete(self, name: str) -> None:
        """Deletes a profile with all of its files.

        Raises:
            NotFound: not a name of one, a link, or not there.
            StudioError: a file cannot be removed.
        """
        folder = self.folder(name)
        if name not in self.names():
            raise _not_there(name)
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise write_error(folder, error) from error

    def names(self) -> list[str]:
        """The profiles that are there, the newest first."""
        try:
            found = [path for path in self.root.iterdir() if _NAME.fullmatch(path.name)]
        except OSError:
            return []
        dated = [(_changed(path), path.name) for path in found if (path / SUMMARY).is_file()]
        return [name for _, name in sorted(dated, reverse=True)]

    def folder(self, name: str, row: str = "") -> Path:
        """The folder of a profile, or of one of its rows.

        Raises:
            NotFound: not a name of one, a link, or not there.
        """
        path = self.root
        for part in (name, row) if row else (name,):
            path = path / part
            if not _NAME.fullmatch(part) or path.is_symlink() or not path.is_dir():
                raise _not_there(part)
        return path

    def file(self, name: str, row: str, file: str) -> Path:
        """A file of a profile (`row` empty) or of a row.

        Raises:
            NotFound: not one of the files that profiles have, a link, or not there.
        """
        path = self.folder(name, row) / file
        known = ROW_FILES if row else PROFILE_FILES
        if file not in known or path.is_symlink() or not path.is_file():
            raise _not_there(file)
        return path

    def files(self, name: str, row: str) -> list[str]:
        """Names of the files that a row has."""
        folder = self.folder(name, row)
        return [file for file in ROW_FILES if (folder / file).is_file()]

    def summary(self, name: str) -> dict[str, Any]:
        """The summary of a profile.

        Raises:
            NotFound: there is none.
            BadInput: its file is damaged, or not of this form.
        """
        try:
            data = json.loads(self.file(name, "", SUMMARY).read_text("utf-8"))
        except (OSError, ValueError):
            raise _unreadable(name) from None
        if not _is_summary(data):
            raise _unreadable(name)
        return dict(data)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Writes a whole JSON file.

    Raises:
        NotEnoughDisk: the disk is full.
    """
    with writing(path) as part:
        part.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file.

    Raises:
        NotEnoughDisk: the disk is full.
    """
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")


def _bytes_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += 0 if path.is_symlink() or path.is_dir() else path.stat().st_size
        except OSError:  # it was deleted meanwhile
            continue
    return total


def _changed(path: Path) -> float:
    try:
        return (path / SUMMARY).stat().st_mtime
    except OSError:
        return 0.0


def _is_summary(data: Any) -> bool:
    """Whether it has what every reader of a summary takes for granted."""
    if not _has(data, name=str, created=str, environment=dict, rows=list):
        return False
    around = data["environment"]
    return (
        _has(around, card=str, processes=list)
        and all("name" in one and "pid" in one for one in around["processes"])
        and all(
            _has(row, row=str, folder=str, state=str, description=str, notes=list, files=list)
            for row in data["rows"]
        )
    )


def _has(data: Any, **kinds: type) -> bool:
    return isinstance(data, dict) and all(
        isinstance(data.get(key), kind) for key, kind in kinds.items()
    )


def _unreadable(name: str) -> BadInput:
    return BadInput(
        "",
        Text(f"The profile '{name[:60]}' cannot be read.", f"无法读取性能分析“{name[:60]}”。"),
        Text(
            f"Its {SUMMARY} is damaged or of another form; its folder can be removed.",
            f"其 {SUMMARY} 已损坏或格式不同；可以删除该文件夹。",
        ),
    )


def _not_there(name: str) -> NotFound:
    shown = name[:60]
    return NotFound(
        Text(f"There is no profile or file '{shown}'.", f"没有名为“{shown}”的性能分析或文件。")
    )
