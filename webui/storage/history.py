"""Past versions of the files that people edit, in a hidden folder beside them; they are bounded.

presets/.studio-history/NAME/20261127-190122-123456-1a2b3c4d.yaml
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from webui.core.errors import BadInput, NotFound
from webui.core.text import Text
from webui.core.units import MIB
from webui.storage.files import writing

FOLDER = ".studio-history"
MAX_VERSIONS = 20
"""Of one file."""
MAX_TOTAL_BYTES = 4 * MIB
"""Of all files of a folder together; the oldest versions go first."""
_VERSION = re.compile(r"(\d{8}-\d{6})-\d{6}-[0-9a-f]{8}")
_STAMP = "%Y%m%d-%H%M%S-%f"


def fingerprint(data: bytes) -> str:
    """Of a file's content: two people who see the same one edit the same version."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A text that was replaced or deleted."""

    id: str
    replaced: datetime
    """When, in UTC."""
    size_bytes: int


class History:
    """The versions of a folder's files. Names are checked by whoever owns the files.

    Args:
        folder: of the files; the versions lie in `.studio-history` below it.
        max_versions: of one file.
        max_total_bytes: of all of them.
    """

    def __init__(
        self,
        folder: Path,
        max_versions: int = MAX_VERSIONS,
        max_total_bytes: int = MAX_TOTAL_BYTES,
    ) -> None:
        self.folder = folder / FOLDER
        self._max_versions = max_versions
        self._max_total_bytes = max_total_bytes

    def keep(self, name: str, data: bytes) -> None:
        """Adds a version, unless it is the newest already; drops the oldest beyond the bounds.

        Raises:
            StudioError: it cannot be written; the file must then stay as it is.
        """
        newest = next(iter(self._files(name)), None)
        if newest is not None and newest.read_bytes() == data:
            return
        stamp = datetime.now(UTC).strftime(_STAMP)
        with writing(self.folder / name / f"{stamp}-{fingerprint(data)[:8]}.yaml") as part:
            part.write_bytes(data)
        for old in self._files(name)[self._max_versions :]:
            old.unlink(missing_ok=True)
        self._shrink()

    def versions(self, name: str) -> list[Version]:
        """The versions of a file, the newest first."""
        return [
            Version(
                id=path.stem,
                replaced=datetime.strptime(path.stem[:22], _STAMP).replace(tzinfo=UTC),
                size_bytes=path.stat().st_size,
            )
            for path in self._files(name)
        ]

    def read(self, name: str, version: str) -> bytes:
        """The content of a version.

        Raises:
            BadInput: what is no name of a version.
            NotFound: it is not there any more.
        """
        if not _VERSION.fullmatch(version):
            raise BadInput(
                "version",
                Text(f"'{version[:40]}' is not a version.", f"“{version[:40]}”不是版本。"),
                Text("Pick one of the list.", "请从列表中选择。"),
            )
        try:
            return (self.folder / name / f"{version}.yaml").read_bytes()
        except OSError:
            raise NotFound(
                Text("This version is not kept any more.", "该版本已不再保留。"),
                Text("Pick one of the list.", "请从列表中选择。"),
            ) from None

    def names(self) -> list[str]:
        """Files that have versions, those that were deleted among them."""
        try:
            return sorted(path.name for path in self.folder.iterdir() if self._files(path.name))
        except OSError:
            return []

    def _files(self, name: str) -> list[Path]:
        try:
            found = [path for path in (self.folder / name).iterdir() if _VERSION.match(path.name)]
        except OSError:
            return []
        return sorted(found, key=lambda path: path.name, reverse=True)

    def _shrink(self) -> None:
        """Drops the oldest versions of all files until the rest is small enough."""
        sizes = {path: path.stat().st_size for name in self.names() for path in self._files(name)}
        total = sum(sizes.values())
        for path in sorted(sizes, key=lambda path: path.name)[:-1]:
            if total <= self._max_total_bytes:
                return
            total -= sizes[path]
            path.unlink(missing_ok=True)
            if not self._files(path.parent.name):
                shutil.rmtree(path.parent, ignore_errors=True)
