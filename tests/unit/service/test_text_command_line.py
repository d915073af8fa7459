"""The command line for documents and language models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from webui.__main__ import main
from webui.core.receipt import Receipt
from webui.service.verify import accuracy_table

VERIFY = Path("tests/gpu/verify_documents.yaml")
PAGE = "{task: parse, model: qwen2.5-vl-7b, height: 896, width: 868, new_tokens: 128"
TEXT = "{task: generate, model: qwen3-4b, prompt_tokens: 300, new_tokens: 200"


@pytest.fixture
def run(on_processor: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def call(command: str, text: str, *options: str) -> tuple[int, Any, list[str]]:
        file = tmp_path / "request.yaml"
        file.write_text(text, encoding="utf-8")
        code = main([command, str(file), "--home", str(tmp_path / "home"), "--json", *options])
        out, err = capsys.readouterr()
        return code, json.loads(out), err.splitlines()

    return call


@pytest.mark.parametrize("command", ["plan", "estimate"])
@pytest.mark.parametrize(
    ("request_text", "phases", "bytes_"),
    [
        (PAGE, ["vision", "prefill", "generate"], 16_864_545_792),
        (TEXT, ["prefill", "generate"], 8_200_000_000),
    ],
)
def test_both_tasks_are_answered(run, command, request_text, phases, bytes_) -> None:
    code, answers, problems = run(command, request_text + ", card: h200}", "--explain")
    assert (code, problems) == (0, [])
    answer = answers[0]
    assert [phase["name"] for phase in answer["phases"]] == phases
    assert answer["fits"] and answer["peak_allocated_bytes"] == pytest.approx(bytes_, rel=0.02)
    assert answer["settings"]["precision"] == "bf16" and answer["seconds"] > 0
    for phase in answer["explanation"]["phases"]:
        terms = [term["bytes"] for term in phase["memory_terms"]]
        assert sum(terms) == phase["reserved_bytes"]
        assert "start" in phase["seconds_formula"]


def test_questions_backwards(run) -> None:
    code, answers, _ = run("plan", PAGE + ", vram_gib: 4}", "--most", "size")
    assert code == 0 and answers[0]["answer"]["found"]
    assert answers[0]["answer"]["height"] > 896
    code, answers, _ = run("plan", TEXT + ", vram_gib: 4}", "--most", "tokens")
    assert code == 0 and answers[0]["answer"]["new_tokens"] > 1000
    code, answers, _ = run("plan", PAGE + ", settings: {offload: none}}", "--smallest", "card")
    assert code == 0 and answers[0]["answer"]["card"]
    code, answers, problems = run("plan", PAGE + "}", "--most", "frames")
    assert code == 2 and answers[0]["error"]["field"] == "most" and len(problems) == 1


def test_what_does_not_fit_and_what_is_wrong(run) -> None:
    text = (
        f"- {PAGE}, card: rtx-3060-12gb, settings: {{offload: none}}}}\n"
        f"- {PAGE}, pages: 0}}\n- {PAGE}, max_pixels: 7}}\n"
        f"- {{task: parse, model: logics-parsing-v2, new_tokens: 999999}}\n"
        f"- {TEXT}, batch: 0}}\n- {{task: parse, model: qwen3-4b}}\n- {TEXT}, card: h200}}"
    )
    code, answers, problems = run("plan", text)
    assert code == 2 and len(problems) == 6
    assert answers[0]["fits"] is False and answers[0]["alternatives"]
    fields = [answer.get("error", {}).get("field") for answer in answers]
    assert fields == [None, "pages", "max_pixels", "new_tokens", "batch", "model", None]


def test_a_run_says_that_there_is_none_yet(run) -> None:
    code, answers, _ = run("run", TEXT + "}")
    assert code == 2 and "verified" in answers[0]["error"]["message"]


def test_the_list_for_a_card_is_plans_that_fit(run) -> None:
    """Each request of the list that `verify` runs has an estimate, and those under a cap fit it."""
    requests = yaml.safe_load(VERIFY.read_text(encoding="utf-8"))
    assert len(requests) >= 14
    assert {request.get("vram_gib") for request in requests} >= {8, 12, 16, 24}
    text = yaml.safe_dump([{"card": "h200", **request} for request in requests])
    code, answers, problems = run("plan", text)
    assert (code, problems) == (0, [])
    assert all(answer["fits"] for answer in answers)
    models = {answer["model"] for answer in answers}
    assert models == {
        "qwen2.5-vl-3b",
        "qwen2.5-vl-7b",
        "logics-parsing-v1",
        "logics-parsing-v2",
        "qwen3-4b",
        "glm-edge-1.5b",
        "chatglm3-6b",
    }


def test_the_table_of_receipts_tells_sizes_by_task() -> None:
    phase = {"name": "generate", "resident_bytes": 1, "allocated_bytes": 2**30}
    phase |= {"reserved_bytes": 2**30, "seconds": 1.0}
    measured = {
        "phases": [phase],
        "peak_allocated_bytes": 1,
        "peak_reserved_bytes": 1,
        "peak_device_bytes": 1,
        "host_bytes": 1,
        "seconds": 1.0,
        "load_seconds": 0.0,
        "source": "cuda",
    }
    rows = []
    for request, settings in (
        ({"model": "a", "height": 10, "width": 20, "new_tokens": 5}, {"page_batch": 4}),
        ({"model": "b", "batch": 2, "prompt_tokens": 30, "new_tokens": 6}, {}),
        ({"model": "c", "frames": 5, "height": 10, "width": 20}, {}),
    ):
        plan = {"phases": [phase], "settings": settings}
        rows.append(
            Receipt.from_json(
                {"id": "x", "request": request, "plan": plan, "measurement": measured}
                | {"outputs": []}
            )
        )
    table = accuracy_table(rows)
    for told in ("a 20x10 +5 b4", "b 2x30 +6", "c 20x10x5"):
        assert told in table
