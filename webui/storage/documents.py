"""One YAML file that people edit: read with its fingerprint, and saved only over what was seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from webui.core.errors import Conflict, NotFound, StudioError
from webui.core.text import Text
from webui.storage.files import write_error, writing
from webui.storage.history import History, Version, fingerprint
from webui.storage.yaml_text import MAX_DOCUMENT_BYTES, decode_yaml

LOCK_S = 10.0
"""How long a save waits for another one; each takes milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What a file holds."""

    text: str
    seen: str
    """The content's fingerprint; empty where there is no file."""


NOTHING = Saved(text="", seen="")


class Document:
    """A file and its past versions. Every save and deletion keeps what was there before.

    Args:
        path: of the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._history = History(path.parent)

    def read(self) -> Saved:
        """The text with its fingerprint.

        Raises:
            BadYaml: too long, or no UTF-8.
            StudioError: it cannot be read.
        """
        data = self._data()
        if data is None:
            return NOTHING
        text = decode_yaml(data, self.path.name, MAX_DOCUMENT_BYTES)
        return Saved(text=text, seen=fingerprint(data))

    def save(self, text: str, seen: str) -> Saved:
        """Writes the text, if the file still is what the writer saw.

        Args:
            text: the new content.
            seen: fingerprint of the content that it replaces; empty for a new file.

        Raises:
            Conflict: somebody saved in between; carries their text and its fingerprint.
            BadYaml: too long.
            NotEnoughDisk: the disk is full.
        """
        data = _plain(text).encode("utf-8", "replace")
        decode_yaml(data, self.path.name, MAX_DOCUMENT_BYTES)
        with self._alone(seen) as there:
            if there is not None and there != data:
                self._history.keep(self.path.stem, there)
            with writing(self.path) as part:
                part.write_bytes(data)
        return Saved(text=data.decode(), seen=fingerprint(data))

    def delete(self, seen: str) -> None:
        """Removes the file; its text is the newest version.

        Raises:
            NotFound: it is gone already.
            Conflict: as for `save`.
        """
        with self._alone(seen) as there:
            if there is None:
                raise NotFound(Text(f"{self.path.name} is gone.", f"{self.path.name} 已不存在。"))
            self._history.keep(self.path.stem, there)
            try:
                self.path.unlink()
            except OSError as error:
                raise write_error(self.path, error) from error

    def versions(self) -> list[Version]:
        """What was saved before, the newest first."""
        return self._history.versions(self.path.stem)

    def version(self, version: str) -> str:
        """The text of a version.

        Raises:
            NotFound: it is not kept any more.
            BadInput: not a version's id.
        """
        data = self._history.read(self.path.stem, version)
        return decode_yaml(data, self.path.name, MAX_DOCUMENT_BYTES)

    @contextmanager
    def _alone(self, seen: str) -> Iterator[bytes | None]:
        """Keeps other writers out, of other processes too; gives the content that was seen."""
        try:
            self._history.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._history.folder / ".lock", timeout=LOCK_S)
            with lock:
                there = self._data()
                now = "" if there is None else fingerprint(there)
                if now != seen:
                    raise _conflict(self.path.name, there, now, bool(seen))
                yield there
        except Timeout:
            raise StudioError(
                Text(f"{self.path.name} is being saved by another program.",
                     f"另一个程序正在保存 {self.path.name}。"),
                Text("Try again in a moment.", "请稍后再试。"),
            ) from None  # fmt: skip
        except OSError as error:
            raise write_error(self.path, error) from error

    def _data(self) -> bytes | None:
        """No more than the limit and one byte; None where there is no file."""
        try:
            with self.path.open("rb") as file:
                return file.read(MAX_DOCUMENT_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            reason = error.strerror or str(error)
            raise StudioError(
                Text(f"{self.path.name} cannot be read: {reason}.",
                     f"无法读取 {self.path.name}：{reason}。")
            ) from error  # fmt: skip


def _plain(text: str) -> str:
    """With the line ends that every system reads, and one at the end."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.endswith("\n") or not text else text + "\n"


def _conflict(name: str, there: bytes | None, seen: str, had_seen: bool) -> Conflict:
    if there is None:
        message = Text(f"{name} was deleted in the meantime.", f"{name} 在此期间已被删除。")
    elif had_seen:
        message = Text(
            f"{name} was changed by somebody else in the meantime.",
            f"{name} 在此期间已被他人修改。",
        )
    else:
        message = Text(f"{name} is there already.", f"{name} 已经存在。")
    return Conflict(
        message,
        Text(
            "Your text is still in the editor: save it under another name, or overwrite the other "
            "one, which then is kept in the history.",
            "你的文本仍在编辑器中：可以另存为其他名称，或覆盖对方的版本（对方的版本会保留在历史中）。",
        ),
        text="" if there is None else there.decode("utf-8", "replace"),
        seen=seen,
    )
