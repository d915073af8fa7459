"""Whole runs of models that write text in the worker, small and on the processor, against their
estimates."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.unit.pipelines.text_cards import (
    tiny_glm_ocr,
    tiny_language,
    tiny_mineru,
    tiny_paddleocr,
    tiny_qwen3,
    tiny_qwen25,
)
from tests.unit.worker.test_svd_run import Recorded
from webui.core.errors import Cancelled
from webui.core.model import ModelCard
from webui.core.parse import parse_request
from webui.core.plan import Estimate
from webui.core.settings import with_defaults
from webui.estimator import templates
from webui.estimator.estimate import estimate
from webui.estimator.target import Target
from webui.hardware import find_card
from webui.tracing import language, qwen_vl
from webui.worker import runner
from webui.worker.device import Device

CLOSE = 0.002
"""An estimate of a run on a processor is nearly exact: live bytes, and the same operations."""
PAGES = {"pages": 3, "height": 308, "width": 224, "new_tokens": 6}
TEXT = {"batch": 2, "prompt_tokens": 300, "new_tokens": 6}
CASES: dict[str, tuple[ModelCard, ModuleType, dict[str, Any], dict[str, Any]]] = {
    "windows": (tiny_qwen25(), qwen_vl, PAGES, {"page_batch": 2}),
    "deepstack": (tiny_qwen3(), qwen_vl, PAGES | {"pages": 2}, {"page_batch": 1}),
    "merged": (tiny_glm_ocr(), qwen_vl, PAGES | {"pages": 2}, {"page_batch": 1}),
    "connector": (tiny_paddleocr(), qwen_vl, PAGES, {"page_batch": 2}),
    "regions": (tiny_mineru(), qwen_vl, PAGES | {"pages": 2}, {"page_batch": 2}),
    "tied": (tiny_language("qwen3-4b"), language, TEXT, {}),
    "untied": (tiny_language("chatglm3-6b"), language, TEXT | {"batch": 1}, {}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small model with its templates, as `python -m webui.tracing` writes them."""
    card, tracing, keys, settings = CASES[request.param]
    arrays = tracing.trace_model(card, "fp32", modes=("resident",), ways=("flash",))
    folder = tmp_path_factory.mktemp("templates")
    about = np.array(json.dumps({"versions": {}}))
    np.savez_compressed(
        folder / templates.template_name(card, "model", "full"), about=about, **arrays
    )
    return card, folder, keys, settings


def job_of(card: ModelCard, keys: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "job",
        "request": {"model": card.name, "task": card.task, "seed": 3, **keys},
        "settings": with_defaults({"precision": "fp32", **settings}, card.settings),
        "weights": {"kind": "random", "folder": ""},
        "limit_bytes": None,
        "output_dir": "",
        "preview": True,
    }


def estimate_of(card: ModelCard, job: dict[str, Any]) -> Estimate:
    host = find_card("cpu")
    request = parse_request(job["request"], lambda *_: card)
    target = Target(card=host, limit_bytes=2**40, host=host)
    return estimate(card, request, job["settings"], target)


def test_the_run_takes_what_was_estimated(case, monkeypatch) -> None:
    card, folder, keys, settings = case
    monkeypatch.setattr(templates, "FOLDER", folder)
    monkeypatch.setattr(runner, "find_model", lambda *_: card)
    job = job_of(card, keys, settings)
    channel = Recorded()
    assert runner.Runner(Device(), channel).run(job)  # type: ignore[arg-type]
    kind, result = channel.events[-1]
    assert kind == "result" and result["outputs"] == [], result
    measured = {phase["name"]: phase for phase in result["measurement"]["phases"]}
    estimated = {phase.name: phase for phase in estimate_of(card, job).phases}
    assert list(measured) == list(estimated)
    for name, phase in estimated.items():
        for key in ("resident_bytes", "allocated_bytes"):
            if key == "resident_bytes" and keys.get("pages", 1) % settings.get("page_batch", 1):
                continue  # measured of the last batch, which is smaller
            assert getattr(phase, key) == pytest.approx(measured[name][key], rel=CLOSE), name
    told = [values["name"] for event, values in channel.events if event == "phase"]
    batches = -(-keys.get("pages", 1) // settings.get("page_batch", 1))
    batches *= 2 if getattr(card, "questions", None) else 1
    assert told == ["loading", *list(estimated) * batches]


class CancelledAfter(Recorded):
    """A channel whose user cancels once a phase has begun."""

    def __init__(self, phase: str) -> None:
        super().__init__()
        self._phase = phase

    def check_cancel(self, job_id: str) -> None:
        if any(values.get("name") == self._phase for _, values in self.events):
            raise Cancelled


def test_a_cancelled_job_leaves_a_warm_worker(monkeypatch) -> None:
    card, _, keys, settings = CASES["windows"]
    monkeypatch.setattr(runner, "find_model", lambda *_: card)
    channel = CancelledAfter("generate")
    worker = runner.Runner(Device(), channel)  # type: ignore[arg-type]
    assert worker.run(job_of(card, keys, settings))
    kind, failed = channel.events[-1]
    assert kind == "failed" and failed["error"]["type"] == "Cancelled"
    assert failed["measurement"]["phases"][-1]["name"] == "generate"
    worker._channel = again = Recorded()  # type: ignore[assignment]
    assert worker.run(job_of(card, keys, settings | {"page_batch": 3}))
    assert again.events[-1][0] == "result" and again.events[-1][1]["warm"]


class Emptied(Device):
    """The processor, which notes when its cache is emptied."""

    def __init__(self, events: list[Any]) -> None:
        super().__init__()
        self.events = events

    def empty_cache(self) -> None:
        self.events.append(("emptied", {}))
        super().empty_cache()


def test_the_cache_is_left_only_where_it_is_asked(monkeypatch: Any) -> None:
    card, _, keys, settings = CASES["tied"]
    monkeypatch.setattr(runner, "find_model", lambda *_: card)
    channel = Recorded()
    worker = runner.Runner(Emptied(channel.events), channel)  # type: ignore[arg-type]
    short = keys | {"prompt_tokens": 20, "new_tokens": 2}
    measured = []
    for clear in (True, False, True):
        del channel.events[:]
        assert worker.run(job_of(card, short, settings) | {"clear_cache": clear})
        names = [event for event, _ in channel.events]
        assert names[-1] == "result" and (names[-2] == "emptied") is clear
        # Before the first phase is measured it is emptied in any case.
        assert "emptied" in names[: names.index("step")]
        measured.append(channel.events[-1][1]["measurement"]["phases"])
    for phases in zip(*measured, strict=True):
        assert len({phase["allocated_bytes"] for phase in phases}) == 1


@pytest.mark.parametrize("name", ["attention", "precision"])
def test_another_value_is_another_pipeline(name: str) -> None:
    card, _, keys, settings = CASES["windows"]
    worker = runner.Runner(Device(), Recorded())  # type: ignore[arg-type]
    plain = job_of(card, keys, settings)["settings"]
    other = plain | {name: {"attention": "eager", "precision": "bf16"}[name]}
    assert worker._load_key(plain) != worker._load_key(other)
    assert worker._load_key(plain) == worker._load_key(plain | {"page_batch": 9})


def test_running_out_of_memory_says_what_helps_here() -> None:
    from webui.worker.failures import to_studio_error

    told = to_studio_error(MemoryError(), "generate", None, 0)
    assert "pages at a time" in told.hint.en and "frames" not in told.hint.en
    assert "写出结果" in told.message.zh
    assert "frames" in to_studio_error(MemoryError(), "denoise", None, 0).hint.en
