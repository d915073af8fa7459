"""Models without files: on the meta device for tracing, with random weights for `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from webui.core.training import TrainCard
from webui.pipelines.modules import DTYPES, OnComponent
from webui.pipelines.pretrained import empty_model, meta_model
from webui.pipelines.qwen_vl_training.components import Trainee, new_placement
from webui.pipelines.random_weights import fill_random


def build_meta(card: TrainCard, settings: Mapping[str, Any]) -> Trainee:
    """The model with every tensor on the meta device, for the tracer."""
    device = torch.device("meta")
    model = meta_model(card.configs["model"], DTYPES[str(settings["precision"])])
    return Trainee(card, model.requires_grad_(False), new_placement(device), device)


def build_random(
    card: TrainCard,
    settings: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> Trainee:
    """The model at full size with random weights: the true memory without a download."""
    device = torch.device(device)
    placement = new_placement(device)
    if on_component:
        on_component(0, 1)
    model = empty_model(card.configs["model"], DTYPES[str(settings["precision"])])
    fill_random(model, device)
    placement.add("model", model)
    return Trainee(card, model, placement, device)
