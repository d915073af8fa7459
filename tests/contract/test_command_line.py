"""The contract of `python -m webui`: exit codes, the shape of the JSON, a line for a problem."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.project import ROOT

PLAN_KEYS = {
    "model", "card", "settings", "fits", "reasons", "alternatives", "phases",
    "peak_allocated_bytes", "peak_reserved_bytes", "peak_device_bytes", "margin_bytes",
    "limit_bytes", "host_bytes", "seconds", "versions",
}  # fmt: skip
PHASE_KEYS = {
    "name", "resident_bytes", "activation_bytes", "allocated_bytes", "reserved_bytes", "seconds",
}  # fmt: skip
BAD: list[tuple[Any, str]] = [
    ({"model": "demo", "frames": 80}, "frames"),
    ({"promt": "a red circle"}, "promt"),
    ({"model": "wan2.1-t2v-1.3"}, "model"),
    ({"card": "rtx-9999"}, "card"),
    ({"frames": 1_000_000_000}, "frames"),
    ({"frames": 1e300}, "frames"),
    ({"steps": float("nan")}, "steps"),
    ({"guidance": float("inf")}, "guidance"),
    ({"vram_gib": -1}, "vram_gib"),
    ({"width": "wide"}, "width"),
    ({"height": True}, "height"),
    ({"seed": 2**40}, "seed"),
    ({"settings": {"offload": "everything"}}, "settings.offload"),
    ({"settings": {"ofload": "leaf"}}, "settings.ofload"),
    ({"settings": ["leaf"]}, "settings"),
    ({"task": "generat"}, "task"),
    ("model: demo", ""),
    (None, ""),
]
TOO_LARGE = {"model": "wan2.1-t2v-14b", "frames": 81, "height": 720, "width": 1280, "steps": 5,
             "card": "rtx-3060-12gb", "vram_gib": 1}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call of the command line gave."""

    code: int
    out: str
    problems: list[str]

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def webui(tmp_path: Path) -> Any:
    """Runs `python -m webui COMMAND FILE`; the file holds the given text or data."""

    def call(command: str, request: Any, *options: str, stdin: bool = False) -> Answer:
        # JSON is YAML, but for NaN and the infinities, which YAML writes with a dot.
        text = request if isinstance(request, str) else json.dumps(request)
        for name in ("NaN", "Infinity"):
            text = text.replace(name, {"NaN": ".nan", "Infinity": ".inf"}[name])
        file = tmp_path / "request.yaml"
        file.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "webui", command, "-" if stdin else str(file), *options,
             "--home", str(tmp_path / "home")],
            cwd=ROOT, env={**os.environ, "STUDIO_DEVICE": "cpu", "HF_HUB_OFFLINE": "1",
                           "PYTHONIOENCODING": "utf-8"},
            input=text if stdin else None, capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        return Answer(done.returncode, done.stdout, done.stderr.splitlines())

    return call


def test_estimate_answers_a_list_in_order_and_names_what_is_wrong(webui: Any) -> None:
    good = {"model": "demo", "card": "h200"}
    answer = webui("estimate", [good, *(data for data, _ in BAD), good], "--json")
    assert answer.code == 2
    assert isinstance(answer.data, list) and len(answer.data) == len(BAD) + 2
    for entry in (answer.data[0], answer.data[-1]):
        assert entry.keys() >= PLAN_KEYS and entry["fits"] is True
        # Without an encoder there is nothing to encode.
        assert [phase["name"] for phase in entry["phases"]] == ["denoise", "decode"]
        for phase in entry["phases"]:
            assert phase.keys() >= PHASE_KEYS
            assert phase["allocated_bytes"] == phase["resident_bytes"] + phase["activation_bytes"]
        assert entry["settings"]["text_encoder"] == "absent"
    for entry, (data, field) in zip(answer.data[1:-1], BAD, strict=True):
        assert entry.keys() == {"error"}, data
        assert entry["error"].keys() == {"field", "message", "hint"}
        assert entry["error"]["field"] == field, data
        assert entry["error"]["message"].endswith("."), data
    assert len(answer.problems) == len(BAD)
    assert all(line and not line.startswith("Traceback") for line in answer.problems)


def test_plan_that_cannot_fit_is_three_and_its_estimate_an_answer(webui: Any) -> None:
    plan = webui("plan", [{"model": "demo"}, TOO_LARGE], "--json")
    assert plan.code == 3
    assert [entry["fits"] for entry in plan.data] == [True, False]
    names = [phase["name"] for phase in plan.data[0]["phases"]]
    assert names == ["encode", "denoise", "decode"]
    assert len(plan.problems) == 1
    estimate = webui("estimate", TOO_LARGE, "--json")
    assert estimate.code == 0 and estimate.problems == []
    assert len(estimate.data) == 1 and estimate.data[0]["fits"] is False


@pytest.mark.parametrize(
    "text", ["model: [demo", "a: b: c", "", "[]", "\t", "- {model: demo\n- x"],
    ids=["open list", "two colons", "empty", "empty list", "tab", "open mapping"],
)  # fmt: skip
def test_a_file_that_holds_no_request_is_bad_input(webui: Any, text: str) -> None:
    answer = webui("plan", text, "--json")
    assert answer.code == 2
    assert [entry.keys() for entry in answer.data] == [{"error"}]
    assert len(answer.problems) == 1


def test_bad_input_weighs_more_than_not_fitting(webui: Any) -> None:
    answer = webui("plan", [TOO_LARGE, {"frames": 2}], "--json")
    assert answer.code == 2
    assert answer.data[0]["fits"] is False and "error" in answer.data[1]
    assert len(answer.problems) == 2


def test_fixed_settings_are_kept_and_open_ones_filled(webui: Any) -> None:
    request = {"model": "wan2.1-t2v-1.3b", "card": "rtx-3060-12gb", "frames": 33,
               "settings": {"vae_tiling": True}}  # fmt: skip
    answer = webui("plan", request, "--json", stdin=True)
    assert answer.code == 0
    assert answer.data[0]["settings"]["vae_tiling"] is True
    assert answer.data[0]["settings"].keys() >= {"precision", "offload", "text_encoder"}
    assert answer.data[0]["reasons"]


def test_run_refuses_before_it_starts_anything(webui: Any) -> None:
    huge = {"model": "wan2.1-t2v-14b", "frames": 481, "height": 2048, "width": 2048, "prompt": "x"}
    fits_not = webui("run", huge, "--json")
    assert fits_not.code == 3 and len(fits_not.problems) == 1
    no_weights = webui(
        "run", {"model": "wan2.1-t2v-1.3b", "frames": 5, "height": 64, "width": 64, "prompt": "x"},
        "--json", "--model", f"wan2.1-t2v-1.3b={ROOT}",
    )  # fmt: skip
    assert no_weights.code in (1, 3) and len(no_weights.problems) == 1


def test_without_json_it_writes_for_people(webui: Any) -> None:
    answer = webui("plan", {"model": "demo"})
    assert answer.code == 0
    assert "fits" in answer.out and "denoise" in answer.out


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "webui", "plan", str(tmp_path / "none.yaml"), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert json.loads(done.stdout)[0]["error"]["message"]
