"""`python -m webui accuracy`: recorded runs, and files that hold none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from webui.__main__ import main
from webui.estimator.verified import read_receipts

RECEIPTS = read_receipts()[:2]


def write(folder: Path, *items: object) -> str:
    path = folder / "runs.json"
    path.write_text(json.dumps(items), encoding="utf-8")
    return str(path)


def test_the_runs_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accuracy", write(tmp_path, *(receipt.to_json() for receipt in RECEIPTS))]) == 0
    assert "cells: 2, of " in capsys.readouterr().out


def test_one_that_is_not_known_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = replace(RECEIPTS[0], id="strange", plan={**RECEIPTS[0].plan, "card": "no-card"})
    empty = replace(RECEIPTS[0], id="empty", plan={})
    items = [receipt.to_json() for receipt in (strange, empty, RECEIPTS[1])]
    assert main(["accuracy", write(tmp_path, *items)]) == 2
    told = capsys.readouterr()
    assert "cells: 1, of " in told.out
    assert "strange: " in told.err and "no-card" in told.err and "empty: " in told.err


@pytest.mark.parametrize("content", ["{", "[]", "[1]", '{"a": 1}'])
def test_files_without_runs(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runs.json"
    path.write_text(content, encoding="utf-8")
    assert main(["accuracy", str(path)]) == 2
    assert main(["accuracy", str(tmp_path / "nothing.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
