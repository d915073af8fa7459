"""Writes requirements.txt from pyproject.toml, for Spaces: `python -m tests.requirements`."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADER = (
    "# Written from pyproject.toml by `python -m tests.requirements`; a test compares the two.\n"
)


def render() -> str:
    """The file's content: the dependencies of the app, without the extras."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        dependencies: list[str] = tomllib.load(file)["project"]["dependencies"]
    return HEADER + "".join(f"{line}\n" for line in dependencies)


if __name__ == "__main__":
    (ROOT / "requirements.txt").write_text(render(), encoding="utf-8")
