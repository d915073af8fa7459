"""A whole run of Stable Video Diffusion in the worker, small and on the processor, against its
estimate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.pipelines.svd_card import tiny_svd
from webui.core.model import ModelCard
from webui.core.parse import parse_request
from webui.core.plan import Estimate
from webui.core.settings import with_defaults
from webui.estimator import templates
from webui.estimator.estimate import estimate
from webui.estimator.target import Target
from webui.hardware import find_card
from webui.tracing import svd as tracing
from webui.worker import runner
from webui.worker.device import Device

CLOSE = 0.03
KEYS = {"frames": 5, "height": 192, "width": 128, "steps": 2, "seed": 3}
CHUNK = 2
SIDES = {"h": KEYS["height"] // 8, "w": KEYS["width"] // 8}
"""Of the run's latent."""


class Recorded:
    """A channel that keeps what the worker reports."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def emit(self, event: str, **values: Any) -> None:
        json.dumps(values)
        self.events.append((event, values))

    def check_cancel(self, job_id: str) -> None:
        """Nobody cancels."""

    def forget(self, job_id: str) -> None:
        """Nothing to forget."""


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return replace(tiny_svd(), name="svd-tiny")


@pytest.fixture(scope="module")
def folder(card: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Templates of the small model, as `python -m webui.tracing` writes them.

    For the run's own way and sides, and more than one number of frames: that templates follow
    other sides too is tested where they are compared with fresh traces.
    """
    made = tmp_path_factory.mktemp("templates")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "_GUIDANCE", {"guided": 3.0})
        patch.setattr(tracing, "WAYS", ("guided",))
        patch.setattr(tracing, "_SHAPES", [{"f": frames, **SIDES} for frames in (3, 4, 7)])
        patch.setattr(tracing, "_MORE_SHAPES", [])
        patch.setattr(tracing, "_PIECE_SHAPES", tracing._PIECE_SHAPES[:1])
        patch.setattr(tracing, "_FLAT_SHAPES", [SIDES])
        _write_templates(card, made)
    return made


def _write_templates(card: ModelCard, made: Path) -> None:
    about = json.dumps({"versions": {}})
    for part, trace in tracing.PARTS.items():
        modes = {"modes": ("resident",)} if part == "unet" else {}
        arrays = trace(card, "fp32", **modes)
        path = made / templates.template_name(card, part, "full")
        np.savez_compressed(path, about=np.array(about), **arrays)


def job_of(card: ModelCard, folder: Path, **changes: Any) -> dict[str, Any]:
    settings = {"precision": "fp32", "vae_precision": "fp32", "decode_chunk": CHUNK}
    return {
        "id": "job",
        "request": {"model": card.name, **KEYS, **changes},
        "settings": with_defaults(settings, card.settings),
        "weights": {"kind": "random", "folder": ""},
        "limit_bytes": None,
        "output_dir": str(folder),
        "preview": True,
    }


def run(card: ModelCard, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.setattr(runner, "find_model", lambda *_: card)
    channel = Recorded()
    assert runner.Runner(Device(), channel).run(job)  # type: ignore[arg-type]
    return channel


def test_the_run_takes_what_was_estimated(card, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(templates, "FOLDER", folder)
    events = run(card, job_of(card, tmp_path), monkeypatch).events
    assert [values["name"] for kind, values in events if kind == "phase"] == [
        "loading", "image_encode", "denoise", "decode"
    ]  # fmt: skip
    kind, result = events[-1]
    assert kind == "result", result
    measured = {phase["name"]: phase for phase in result["measurement"]["phases"]}
    estimated = {phase.name: phase for phase in estimate_of(card, job_of(card, tmp_path)).phases}
    assert list(measured) == list(estimated)
    for name, phase in estimated.items():
        assert phase.allocated_bytes == pytest.approx(
            measured[name]["allocated_bytes"], rel=CLOSE
        ), name


def estimate_of(card: ModelCard, job: dict[str, Any]) -> Estimate:
    host = find_card("cpu")
    request = parse_request(job["request"], lambda *_: card)
    target = Target(card=host, limit_bytes=2**40, host=host)
    return estimate(card, request, job["settings"], target)


def test_the_picture_of_the_runs_own_folder_is_used(card, tmp_path, monkeypatch):
    """Whatever path a request names, only the file of that name in the run's folder is read."""
    opened = []
    monkeypatch.setattr(Image, "open", _noting(opened, Image.open))
    Image.new("RGB", (128, 192), "red").save(tmp_path / "input.png")
    job = job_of(card, tmp_path, image="../elsewhere/input.png")
    assert run(card, job, monkeypatch).events[-1][0] == "result"
    assert opened == [tmp_path / "input.png"]


def _noting(opened: list[Path], original: Any) -> Any:
    def noting(path: Any, *rest: Any, **named: Any) -> Any:
        opened.append(Path(path))
        return original(path, *rest, **named)

    return noting
