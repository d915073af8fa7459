"""What an input is called by whoever gave it: in the run's folder it has a name of ours."""

from __future__ import annotations

from pathlib import Path

_FILE = "input-name.txt"


def keep_name(folder: Path, name: str) -> None:
    """Notes the name of a run's input.

    Args:
        folder: the run's.
        name: of a document or a video, without its folder.

    Raises:
        OSError: the disk is full.
    """
    (folder / _FILE).write_bytes(name.encode("utf-8", "replace"))


def kept_name(folder: Path) -> str:
    """The name of a run's input; empty where nobody said so."""
    try:
        return (folder / _FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
