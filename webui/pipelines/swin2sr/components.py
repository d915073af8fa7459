"""The models of a Swin2SR pipeline, one for each scale, as empty modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from webui.core.model import ModelCard
from webui.pipelines.modules import DTYPES
from webui.pipelines.placement import Placement
from webui.pipelines.pretrained import empty_model, meta_model

PHASE = "upscale"


class Swin2srPipeline:
    """The loaded models, and where they run.

    Attributes:
        card: the model's.
        x2: makes frames twice as large; None if the card has no such model.
        x4: four times.
        run_device: where they compute.
        placement: holds them; None on the meta device.
    """

    def __init__(
        self,
        card: ModelCard,
        parts: Mapping[str, nn.Module],
        device: torch.device,
        placement: Placement | None = None,
    ) -> None:
        self.card = card
        self.x2: Any = parts.get("x2")
        self.x4: Any = parts.get("x4")
        self.run_device = device
        self.placement = placement

    def model(self, scale: int) -> Any:
        """The model of a scale, which the request was checked against."""
        return self.x2 if scale == 2 else self.x4


def components_of(card: ModelCard) -> tuple[str, ...]:
    """The scales that a card has a model for, as `x2`."""
    return tuple(name for name in ("x2", "x4") if name in card.configs)


def new_placement(card: ModelCard, device: torch.device) -> Placement:
    """The models stay on the device: they are small beside what they compute."""
    names = components_of(card)
    return Placement(dict.fromkeys(names, "always"), dict.fromkeys(names, (PHASE,)), device)


def component_dtype(settings: Mapping[str, Any]) -> torch.dtype:
    """The number format that the settings ask for."""
    return DTYPES[str(settings["precision"])]


def meta_module(component: str, card: ModelCard, settings: Mapping[str, Any]) -> nn.Module:
    """A model with parameters and buffers on the meta device."""
    dtype = component_dtype(settings)
    return finish_module(meta_model(_config(component, card), dtype, "eager"), dtype)


def empty_module(component: str, card: ModelCard, settings: Mapping[str, Any]) -> nn.Module:
    """A model with parameters on meta, to be filled, and real buffers."""
    dtype = component_dtype(settings)
    return finish_module(empty_model(_config(component, card), dtype, "eager"), dtype)


def finish_module(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """What a model needs before it runs: buffers in its number format, as `from_pretrained` makes
    them, since the tables of positions go through its layers."""
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.data = buffer.data.to(dtype)
    return module.eval().requires_grad_(False)


def _config(component: str, card: ModelCard) -> Mapping[str, Any]:
    # Files of the hub may say in which format they are; the settings decide here.
    return {k: v for k, v in card.configs[component].items() if k not in ("dtype", "torch_dtype")}
