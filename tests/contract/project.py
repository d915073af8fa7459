"""What the contract tests read of the project: its files, its declared dependencies."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def project() -> dict[str, Any]:
    """pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def declared_names() -> set[str]:
    """Names of the app's dependencies, normalised."""
    lines = project()["project"]["dependencies"]
    return {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in lines}


def python_files(*folders: str) -> Iterator[Path]:
    """The project's Python files, in order."""
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def pages() -> dict[str, list[Path]]:
    """What there is to read in each language: the README, then the guides."""
    docs = ROOT / "docs"
    return {
        "en": [ROOT / "README.md", *sorted(docs.glob("*.md"))],
        "zh": [ROOT / "README.zh.md", *sorted((docs / "zh").glob("*.md"))],
    }


def page_id(page: Path) -> str:
    """Its path, as a test's id."""
    return page.relative_to(ROOT).as_posix()
