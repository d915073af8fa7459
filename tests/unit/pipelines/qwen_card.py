"""A small Qwen2.5-VL of the real class to train, for the tests of several packages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from webui.catalogue import models_of
from webui.core.parse import parse_request
from webui.core.settings import Settings, with_defaults
from webui.core.training import TrainCard, TrainRequest
from webui.estimator.templates import template_name, width_of
from webui.tracing import qwen_vl_training as tracing

_TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    "bos_token_id": 505,
    "eos_token_id": 506,
    "vision_start_token_id": 500,
    "vision_end_token_id": 501,
    "vision_token_id": 502,
    "image_token_id": 503,
    "video_token_id": 504,
}
_VISION: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_heads": 4,
    "out_hidden_size": 64,
}


def tiny_qwen(layers: int = 5, blocks: int = 4) -> TrainCard:
    """The catalogue's card with a small model.

    Args:
        layers: of the language model.
        blocks: of the vision tower; the last one has full attention.
    """
    card = models_of(TrainCard)["qwen2.5-vl-3b"]
    config = {**card.configs["model"], **_TEXT}
    config |= {"num_hidden_layers": layers, "max_window_layers": layers}
    config["vision_config"] = {
        **config["vision_config"],
        **_VISION,
        "depth": blocks,
        "fullatt_block_indexes": [blocks - 1],
    }
    return replace(card, name="qwen-tiny", configs={"model": config})


def request_of(card: TrainCard, **keys: Any) -> TrainRequest:
    """A small request."""
    values = {
        "image_size": 140,
        "sequence_length": 48,
        "batch": 1,
        "gradient_accumulation": 1,
        "seed": 1,
    }
    request = parse_request({"model": card.name, **values, **keys}, lambda *_: card)
    assert isinstance(request, TrainRequest)
    return request


def settings_of(card: TrainCard, **settings: Any) -> Settings:
    """Complete settings."""
    return with_defaults({"precision": "fp32", **settings}, card.settings)


def write_template(card: TrainCard, precision: str, variants: tuple[str, ...], to: Path) -> None:
    """Templates of some variants, as `python -m webui.tracing` writes all.

    Without the recordings that are there to notice a wrong form: the tests compare with the runs.
    """
    about = np.array(json.dumps({"versions": {}}))
    path = to / template_name(card, "model", width_of(precision))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "_SPARE", 0)
        arrays = tracing.trace_model(card, precision, variants)
    np.savez_compressed(path, about=about, **arrays)
