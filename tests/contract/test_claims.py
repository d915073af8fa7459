"""The guides' tables of claims are what this version finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import figures
from tests.contract.project import page_id, pages

TABLES = [
    (language, page) for language, found in pages().items() for page in found
    if page.name == "accuracy.md"
]  # fmt: skip


def test_there_is_one_in_each_language() -> None:
    assert [language for language, _ in TABLES] == ["en", "zh"]


@pytest.mark.parametrize(("language", "page"), TABLES, ids=[page_id(page) for _, page in TABLES])
def test_the_table_is_what_the_code_gives(language: str, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    again = figures.write_figures(text, figures.claims_figures(), language)
    assert again == text, "python -m tests.figures --files-only --write"
    assert "<!-- figure: claims -->" in text
