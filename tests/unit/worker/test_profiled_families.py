"""Profiled runs of every family, small and on the processor: recording changes no figure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.pipelines.qwen_card import tiny_qwen
from tests.unit.pipelines.svd_card import tiny_svd
from tests.unit.pipelines.text_cards import tiny_language, tiny_qwen25
from tests.unit.worker.test_svd_run import Recorded
from webui.core.settings import with_defaults
from webui.service.analysis.events import read_events
from webui.worker import runner
from webui.worker.device import Device
from webui.worker.recording import FILE

SVD = {"frames": 2, "height": 128, "width": 128, "steps": 1}
TRAIN = {"image_size": 168, "sequence_length": 96, "batch": 1, "gradient_accumulation": 1}
CASES = {
    "svd": (tiny_svd, SVD, {"decode_chunk": 2}, {"image_encoder", "unet", "vae"}),
    "pages": (
        tiny_qwen25,
        {"pages": 2, "height": 56, "width": 56, "new_tokens": 3},
        {},
        {"vision + language"},
    ),
    "language": (
        lambda: tiny_language("qwen3-4b"),
        {"batch": 1, "prompt_tokens": 20, "new_tokens": 4},
        {},
        {"language"},
    ),
    "training": (lambda: tiny_qwen(layers=2, blocks=2), TRAIN, {}, {"model"}),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small take longer with more: their threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", CASES)
def test_every_family_can_be_recorded(name: str, tmp_path: Path, monkeypatch) -> None:
    make, keys, settings, components = CASES[name]
    card = make()
    monkeypatch.setattr(runner, "find_model", lambda *_: card)
    job: dict[str, Any] = {
        "id": "job",
        "request": {"model": card.name, "task": card.task, "seed": 3, **keys},
        "settings": with_defaults({"precision": "fp32", **settings}, card.settings),
        "weights": {"kind": "random", "folder": ""},
        "limit_bytes": None,
        "output_dir": "",
    }
    measured, channel = [], Recorded()
    worker = runner.Runner(Device(), channel)
    for profile in (None, {"folder": str(tmp_path), "log_interval": 1}):
        assert worker.run({**job, "profile": profile, "fresh": profile is not None})
        kind, result = channel.events[-1]
        assert kind == "result", result
        measured.append(result["measurement"])
    for one, two in zip(measured[0]["phases"], measured[1]["phases"], strict=True):
        assert one["name"] == two["name"]
        for key in ("resident_bytes", "allocated_bytes"):
            assert one[key] == pytest.approx(two[key], rel=0.001), (one["name"], key)
    found = read_events(tmp_path / FILE)
    assert {part.name for part in found.base} == components
    assert found.peak_bytes == measured[1]["peak_allocated_bytes"]
    assert {item.phase for item in found.activations} <= {item.name for item in found.phases}
    assert any(item.kind == "block" for item in found.activations)
    data = json.loads((tmp_path / FILE).read_text())
    # Small tensors take a whole block each, so the sums are compared in blocks.
    assert sum(part["increment_bytes"] for part in data["components"]) == sum(
        part["block_bytes"] for part in data["components"]
    )
    assert data["ended"] == "done" and data["events"][-1]["kind"] == "end"
