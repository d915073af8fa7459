"""Pipelines without files: on the meta device for tracing, with random weights for `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from webui.core.model import ModelCard
from webui.pipelines.flashvsr.components import (
    FlashVsrPipeline,
    component_dtype,
    components_of,
    empty_module,
    finish_module,
    meta_module,
    prompt_shape,
)
from webui.pipelines.flashvsr.placement import Placement
from webui.pipelines.modules import OnComponent
from webui.pipelines.random_weights import fill_random


def build_meta(card: ModelCard, settings: Mapping[str, Any]) -> FlashVsrPipeline:
    """The pipeline with every tensor on the meta device, for the tracer."""
    parts = {name: meta_module(name, card, settings) for name in components_of(card, settings)}
    prompt = torch.empty(prompt_shape(card), dtype=component_dtype(settings), device="meta")
    return new_pipeline(card, parts, prompt, torch.device("meta"))


def build_random(
    card: ModelCard,
    settings: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> FlashVsrPipeline:
    """The pipeline at full size with random weights: the true memory without a download."""
    device = torch.device(device)
    placement = Placement(settings, device)
    names = components_of(card, settings)
    parts: dict[str, Any] = {}
    for done, name in enumerate(names):
        if on_component:
            on_component(done, len(names))
        home = device if placement.modes[name] == "always" else torch.device("cpu")
        module = empty_module(name, card, settings)
        fill_random(module, home)
        parts[name] = placement.add(name, finish_module(module))
    generator = torch.Generator("cpu").manual_seed(0)
    prompt = torch.randn(prompt_shape(card), generator=generator)
    pipe = new_pipeline(card, parts, prompt.to(component_dtype(settings)).to(device), device)
    pipe.placement = placement
    return pipe


def new_pipeline(
    card: ModelCard, parts: Mapping[str, Any], prompt: torch.Tensor, device: torch.device
) -> FlashVsrPipeline:
    """The pipeline around its parts."""
    return FlashVsrPipeline(
        card=card,
        projection=parts["projection"],
        transformer=parts["transformer"],
        decoder=parts.get("decoder"),
        vae=parts.get("vae"),
        prompt=prompt,
        run_device=device,
    )
