"""Whole training runs in the worker, small and on the processor, against their estimates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.pipelines.qwen_card import settings_of, tiny_qwen, write_template
from webui.core.errors import Cancelled
from webui.core.parse import parse_request
from webui.core.plan import Estimate
from webui.core.training import TrainCard
from webui.estimator import templates
from webui.estimator.estimate import estimate
from webui.estimator.target import Target
from webui.hardware import find_card
from webui.worker import runner
from webui.worker.device import Device

CLOSE = 0.01
KEYS = {"image_size": 168, "sequence_length": 96, "batch": 2, "gradient_accumulation": 1, "seed": 3}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "full": ("full.checkpoint.image.fused", {}, {"optimizer": "adamw"}),
    "full, accumulated": (
        "full.checkpoint.image.fused",
        {"gradient_accumulation": 2, "batch": 1},
        {"optimizer": "adamw-fused"},
    ),
    "adapters": ("lora.all.image.fused", {"lora_rank": 8}, {"gradient_checkpointing": False}),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small take longer with more: their threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Recorded:
    """A channel that keeps what the worker reports."""

    def __init__(self, cancel_in: str = "") -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._cancel_in = cancel_in

    def emit(self, event: str, **values: Any) -> None:
        json.dumps(values)
        self.events.append((event, values))

    def check_cancel(self, job_id: str) -> None:
        if self._cancel_in and ("phase", self._cancel_in) in [
            (kind, values.get("name")) for kind, values in self.events
        ]:
            raise Cancelled()

    def forget(self, job_id: str) -> None:
        """Nothing to forget."""


@pytest.fixture(scope="module")
def card() -> TrainCard:
    return tiny_qwen(layers=3, blocks=3)


@pytest.fixture(scope="module")
def folder(card: TrainCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("templates")
    write_template(card, "bf16", tuple({case[0] for case in CASES.values()}), made)
    return made


def job_of(card: TrainCard, folder: Path, keys: dict[str, Any], settings: dict[str, Any]) -> Any:
    return {
        "id": "job",
        "request": {"model": card.name, **KEYS, **keys},
        "settings": settings_of(card, precision="bf16", **settings),
        "weights": {"kind": "random", "folder": ""},
        "limit_bytes": None,
        "output_dir": str(folder),
    }


def estimate_of(card: TrainCard, job: dict[str, Any]) -> Estimate:
    host = find_card("cpu")
    request = parse_request(job["request"], lambda *_: card)
    target = Target(card=host, limit_bytes=2**40, host=host)
    return estimate(card, request, job["settings"], target)


@pytest.mark.parametrize("case", list(CASES))
def test_the_run_takes_what_was_estimated(card, folder, tmp_path, monkeypatch, case):
    monkeypatch.setattr(templates, "FOLDER", folder)
    monkeypatch.setattr(runner, "find_model", lambda *_: card)
    _, keys, settings = CASES[case]
    job, channel = job_of(card, tmp_path, keys, settings), Recorded()
    assert runner.Runner(Device(), channel).run(job)
    kind, result = channel.events[-1]
    assert kind == "result", result
    names = [values["name"] for kind, values in channel.events if kind == "phase"]
    assert names[:4] == [
        "loading",
        "forward",
        "backward",
        "optimizer" if "accum" not in case else "forward",
    ]
    measured = {phase["name"]: phase for phase in result["measurement"]["phases"]}
    estimated = {phase.name: phase for phase in estimate_of(card, job).phases}
    assert list(measured) == list(estimated) == ["forward", "backward", "optimizer"]
    for name, phase in estimated.items():
        found = measured[name]
        assert phase.allocated_bytes == pytest.approx(found["allocated_bytes"], rel=CLOSE), name
        assert phase.resident_bytes == pytest.approx(found["resident_bytes"], rel=CLOSE), name
    assert result["outputs"] == []


def test_only_the_second_step_takes_time(card, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "find_model", lambda *_: card)
    channel = Recorded()
    assert runner.Runner(Device(), channel).run(job_of(card, tmp_path, {}, {}))
    steps = [values for kind, values in channel.events if kind == "step"]
    assert steps and steps[-1]["step"] == steps[-1]["steps"] == 2
    measurement = channel.events[-1][1]["measurement"]
    assert all(phase["seconds"] > 0 for phase in measurement["phases"])
    assert measurement["seconds"] == sum(phase["seconds"] for phase in measurement["phases"])


def test_a_cancelled_run_keeps_the_model(card, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "find_model", lambda *_: card)
    channel = Recorded(cancel_in="backward")
    worker = runner.Runner(Device(), channel)
    job = job_of(card, tmp_path, {}, {})
    assert worker.run(job)
    kind, failed = channel.events[-1]
    assert kind == "failed" and failed["error"]["type"] == "Cancelled"
    again = Recorded()
    worker._channel = again
    assert worker.run(job)
    assert again.events[-1][0] == "result" and again.events[-1][1]["warm"]


def test_several_gpus_are_refused_before_anything_is_loaded(card, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "find_model", lambda *_: card)
    channel = Recorded()
    job = job_of(card, tmp_path, {}, {"gpus": 2})
    assert runner.Runner(Device(), channel).run(job)
    kind, failed = channel.events[-1]
    assert kind == "failed" and failed["error"]["type"] == "BadInput"
    assert failed["error"]["field"] == "settings.gpus"
    assert "planned and estimated, not run" in failed["error"]["message"]["en"]
