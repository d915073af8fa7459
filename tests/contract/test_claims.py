"""The READMEs' table of the guides' claims is what this version finds."""

from __future__ import annotations

import pytest

from tests import figures
from tests.contract.project import ROOT


@pytest.mark.parametrize("language", figures.READMES)
def test_the_table_is_what_the_code_gives(language: str) -> None:
    path = figures.READMES[language]
    text = path.read_text(encoding="utf-8")
    again = figures.write_figures(text, figures.claims_figures(), language)
    assert again == text, "python -m tests.figures --files-only --write"
    assert path.parent == ROOT
