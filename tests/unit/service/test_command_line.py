"""The command line's contract: JSON on stdout, a line a problem on stderr, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from webui.__main__ import main

WAN = "{model: wan2.1-t2v-1.3b, frames: 81, height: 480, width: 832"


@pytest.fixture
def run(on_processor: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def call(command: str, text: str, *options: str) -> tuple[int, Any, list[str]]:
        file = tmp_path / "request.yaml"
        file.write_text(text, encoding="utf-8")
        code = main([command, str(file), "--home", str(tmp_path / "home"), "--json", *options])
        out, err = capsys.readouterr()
        return code, json.loads(out), err.splitlines()

    return call


def test_one_request_gives_a_list_of_one(run) -> None:
    for command in ("plan", "estimate"):
        code, answers, problems = run(command, WAN + ", card: h200}")
        assert (code, len(answers), problems) == (0, 1, [])
        assert answers[0]["fits"] is True and answers[0]["card"] == "h200"
        assert isinstance(answers[0]["reasons"], list)
        assert isinstance(answers[0]["alternatives"], list)


def test_answers_keep_the_order_and_bad_input_its_place(run) -> None:
    text = f"- {WAN}, card: h200}}\n- {{model: demmo}}\n- {WAN}, card: rtx-4090}}\n- {{frames: 6}}"
    code, answers, problems = run("plan", text)
    assert code == 2
    assert [answer.get("card") for answer in answers] == ["h200", None, "rtx-4090", None]
    assert [answers[i]["error"]["field"] for i in (1, 3)] == ["model", "frames"]
    assert set(answers[1]["error"]) == {"field", "message", "hint"}
    assert len(problems) == 2 and problems[0].startswith("model: ")


def test_what_does_not_fit(run) -> None:
    text = WAN + ", card: rtx-3060-12gb, vram_gib: 1}"
    code, answers, problems = run("plan", text)
    assert (code, answers[0]["fits"], len(problems)) == (3, False, 1)
    assert "does not fit" in answers[0]["reasons"][0]
    code, answers, problems = run("estimate", text)
    assert (code, answers[0]["fits"], problems) == (0, False, [])


def test_run_of_what_cannot_run_here(run) -> None:
    code, answers, problems = run("run", "{prompt: x, card: rtx-4090}")
    assert (code, answers[0]["error"]["field"], len(problems)) == (2, "card", 1)


@pytest.mark.parametrize(
    "text", ["", "[]", "a: [", "\tx", "prompt: 2026-13-45", "- 3", "just words", "null"]
)
def test_files_that_hold_no_request(run, text: str) -> None:
    code, answers, problems = run("plan", text)
    assert code == 2 and len(answers) == 1 and len(problems) == 1
    assert answers[0]["error"]["message"]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(tmp_path / "no.yaml"), "--home", str(tmp_path)]) == 2
    assert "no.yaml cannot be read" in capsys.readouterr().err
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    assert main(["plan", str(tmp_path / "binary.yaml"), "--home", str(tmp_path)]) == 2


def test_a_model_folder_that_is_not_there(run, tmp_path: Path) -> None:
    for pair in ("wan2.1-t2v-1.3b", f"wan={tmp_path}", "wan2.1-t2v-1.3b=/not/there"):
        code, answers, _ = run("plan", "model: demo", "--model", pair)
        assert (code, answers[0]["error"]["field"]) == (2, "model")


def test_for_people(on_processor: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "request.yaml"
    file.write_text(WAN + ", card: rtx-3060-12gb, vram_gib: 8}", encoding="utf-8")
    assert main(["plan", str(file), "--home", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "on rtx-3060-12gb: fits" in out and "8.00 GiB" in out
    assert "leaf streaming" in out and "denoise" in out
