"""Several files of one upload as one input: an archive that `Source` opens page by page."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from webui.core.units import MIB
from webui.documents.sources import KINDS, MAX_FILES, refused


def gather(files: Sequence[tuple[str, Path]], archive: Path, most_bytes: int) -> None:
    """Puts files into an archive, as they are.

    Args:
        files: what each is called, and where it is.
        archive: is written.
        most_bytes: of all files together.

    Raises:
        BadInput: a file that holds no pages itself, too many, or too much.
        OSError: the disk is full.
    """
    if len(files) > MAX_FILES:
        raise refused(f"it has more than {MAX_FILES} files", f"文件超过 {MAX_FILES} 个")
    if sum(path.stat().st_size for _, path in files) > most_bytes:
        limit = most_bytes // MIB
        raise refused(
            f"the files together are larger than {limit} MiB", f"文件总大小超过 {limit} MiB"
        )
    taken: set[str] = set()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for place, (name, path) in enumerate(files, 1):
            named = PurePosixPath(name.replace("\\", "/")).name.lstrip(".") or str(place)
            kind = path.suffix.lower()
            if kind not in KINDS:
                raise refused(
                    f"'{named[:40]}' cannot be read together with other files",
                    f"“{named[:40]}”不能与其他文件一起识别",
                )
            stem = PurePosixPath(named).stem
            if f"{stem}{kind}" in taken:
                stem = f"{stem} ({place})"
            taken.add(f"{stem}{kind}")
            # What a file is follows from its own ending, not from what it is called.
            packed.write(path, f"{stem}{kind}")
