"""Pipelines without files: on the meta device for tracing, with random weights for `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from webui.core.model import ModelCard
from webui.pipelines.modules import OnComponent
from webui.pipelines.random_weights import fill_random
from webui.pipelines.swin2sr.components import (
    Swin2srPipeline,
    components_of,
    empty_module,
    meta_module,
    new_placement,
)


def build_meta(card: ModelCard, settings: Mapping[str, Any]) -> Swin2srPipeline:
    """The pipeline with every tensor on the meta device, for the tracer."""
    parts = {name: meta_module(name, card, settings) for name in components_of(card)}
    return Swin2srPipeline(card, parts, torch.device("meta"))


def build_random(
    card: ModelCard,
    settings: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> Swin2srPipeline:
    """The pipeline at full size with random weights: the true memory without a download."""
    device = torch.device(device)
    placement = new_placement(card, device)
    names = components_of(card)
    parts = {}
    for done, name in enumerate(names):
        if on_component:
            on_component(done, len(names))
        module = empty_module(name, card, settings)
        fill_random(module, device)
        parts[name] = placement.add(name, module)
    return Swin2srPipeline(card, parts, device, placement)
