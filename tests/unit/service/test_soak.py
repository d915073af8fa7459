"""Runs in turn in one process: the table's verdict, and a real round."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.service.test_verify import receipt
from webui.__main__ import main
from webui.core.receipt import Receipt
from webui.core.units import MIB
from webui.service.soak import SoakRun, judge, soak_table


def run(number: int, found_mib: int = 0, left_mib: int = 100, **changes: Any) -> SoakRun:
    done = receipt({"model": "demo", "frames": 1, "height": 64, "width": 64}, "decode")
    assert done.measurement is not None
    measured = replace(
        done.measurement, found_bytes=found_mib * MIB, left_bytes=left_mib * MIB, load_seconds=1.0
    )
    parts: dict[str, Any] = {"request": number % 2, "worker_pid": 7} | changes
    return SoakRun(receipt=replace(done, measurement=measured), **parts)


def test_the_verdict() -> None:
    # A warm model may stay, another one for each request: what counts is that it is the same.
    clean = [run(number, left_mib=(100, 300)[number % 2]) for number in range(6)]
    assert judge(clean).clean and "0 failed, 1 worker process;" in soak_table(clean)
    assert not judge([*clean, run(6, found_mib=17)]).clean
    assert judge([*clean, run(6, found_mib=16)]).clean
    assert not judge([*clean, run(6, left_mib=117)]).clean
    assert not judge([*clean, run(6, worker_pid=8)]).clean
    # Without the model it counts against the first of all runs, whatever the request.
    dropped = [replace(one, unloaded_bytes=5 * MIB) for one in clean]
    assert judge(dropped).clean and "unloaded within 0 B of the first run" in soak_table(dropped)
    assert not judge([*dropped, run(6, unloaded_bytes=22 * MIB)]).clean
    error = {"type": "OutOfMemory", "message": {"en": "It ran out.", "zh": "内存不足。"}}
    failed = replace(clean[0], receipt=replace(clean[0].receipt, error=error))
    assert not judge([*clean, failed]).clean and "FAILED: It ran out." in soak_table([failed])


def test_models_in_turn_leave_nothing_behind(
    on_processor: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STUDIO_THREADS", "1")
    small = {"model": "demo", "prompt": "a", "frames": 1, "height": 64, "width": 64, "steps": 1,
             "card": "cpu", "vram_gib": 0.25}  # fmt: skip
    file = tmp_path / "turns.yaml"
    turns = [
        small, {**small, "frmes": 1}, {**small, "frames": 81, "height": 512, "width": 512},
        {**small, "settings": {"precision": "bf16"}},
    ]  # fmt: skip
    file.write_text(json.dumps(turns), encoding="utf-8")
    code = main(["soak", str(file), "--times", "5", "--home", str(tmp_path / "home"), "--json"])
    answers = json.loads(capsys.readouterr().out)
    # What is wrong, and what cannot fit, is told, and the others run.
    assert code == 2 and len(answers) == 5
    said = [answer["error"]["field"] for answer in answers if "id" not in answer]
    assert said == ["frmes", ""]
    answers = [answer for answer in answers if "id" in answer]
    assert len(answers) == 3
    assert len({answer["worker_pid"] for answer in answers}) == 1
    receipts = [Receipt.from_json(answer) for answer in answers]
    measured = [one.measurement for one in receipts if one.measurement]
    # Each found the device empty, though another model was there before, and left its own.
    assert all(one.load_seconds > 0 and one.found_bytes < 1 * MIB for one in measured)
    assert measured[0].left_bytes > 1.3 * measured[1].left_bytes > 10 * MIB
    assert measured[2].left_bytes == measured[0].left_bytes
    assert all(answer["unloaded_bytes"] < 1 * MIB for answer in answers)
