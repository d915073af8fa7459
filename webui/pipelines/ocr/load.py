"""Loads RapidOCR with the models that its package brings: nothing is fetched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from webui.core.documents import ScanCard
from webui.pipelines.modules import OnComponent
from webui.pipelines.placement import Placement

MODELS = {"Det": "PP-OCRv6_det_small.onnx", "Rec": "PP-OCRv6_rec_small.onnx"}
"""Of the stages: where the lines are, and what they say."""


class OcrPipeline:
    """The loaded engine.

    Attributes:
        card: the model's.
        engine: RapidOCR's.
        placement: holds nothing: the models stay on the processor.
    """

    def __init__(self, card: ScanCard, engine: Any, placement: Placement) -> None:
        self.card = card
        self.engine = engine
        self.placement = placement


def load(
    card: ScanCard,
    _settings: Mapping[str, Any],
    _weights: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> OcrPipeline:
    """The engine; it computes on the processor whatever the device is."""
    if on_component:
        on_component(0, 1)
    import rapidocr

    folder = Path(str(rapidocr.__file__)).parent / "models"
    params: dict[str, Any] = {
        "Global.log_level": "critical",
        # Lines that stand on their head are rare, and one that is told so wrongly is lost.
        "Global.use_cls": False,
        # Pages come at the size that the request asks for.
        "Global.max_side_len": 100_000,
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    }
    engine = rapidocr.RapidOCR(params=params)
    # Its configuration has no place for the options of a session.
    engine._load_det_model().session.session = _session(folder / MODELS["Det"])
    engine._load_rec_model().session.session = _session(folder / MODELS["Rec"])
    return OcrPipeline(card, engine, Placement({}, {}, torch.device(device)))


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = _threads()
    # Waiting threads otherwise keep the cores busy that others need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Pages and lines differ in size: what an arena keeps for one is of no use for the next.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )


def _threads() -> int:
    """Cores that this process may use."""
    named = os.environ.get("STUDIO_THREADS", "")
    if named.isdigit() and int(named) > 0:
        return int(named)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
