"""Pipelines without files: on the meta device for tracing, with random weights for `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from webui.core.clip import ClipCard
from webui.pipelines.modules import OnComponent
from webui.pipelines.random_weights import fill_random
from webui.pipelines.svd.components import (
    COMPONENTS,
    empty_module,
    finish_module,
    meta_module,
    new_pipeline,
)
from webui.pipelines.svd.placement import Placement


def build_meta(card: ClipCard, settings: Mapping[str, Any]) -> Any:
    """The pipeline with every tensor on the meta device, for the tracer."""
    parts = {name: meta_module(name, card, settings) for name in COMPONENTS}
    return new_pipeline(card, parts, torch.device("meta"))


def build_random(
    card: ClipCard,
    settings: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> Any:
    """The pipeline at full size with random weights: the true memory without a download."""
    device = torch.device(device)
    placement = Placement(settings, device)
    parts: dict[str, Any] = {}
    for done, name in enumerate(COMPONENTS):
        if on_component:
            on_component(done, len(COMPONENTS))
        home = device if placement.modes[name] == "always" else torch.device("cpu")
        module = empty_module(name, card, settings)
        fill_random(module, home)
        parts[name] = placement.add(name, finish_module(module))
    pipe = new_pipeline(card, parts, device)
    pipe.placement = placement
    return pipe
