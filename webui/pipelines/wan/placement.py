"""Which component is on the card in which phase: the settings `offload` and `text_encoder`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from webui.core.clip import ClipCard
from webui.core.settings import FP8
from webui.pipelines import placement
from webui.pipelines.quantization import quantize, quantizes
from webui.pipelines.wan.attention import use_attention
from webui.pipelines.wan.components import (
    TRANSFORMERS,
    components_of,
    store_in_fp8,
    wants_text_encoder,
)


def phases_of(card: ClipCard) -> dict[str, tuple[str, ...]]:
    """The phases that need each component of a model."""
    two = "transformer_2" in card.configs
    phases = {
        "text_encoder": ("encode",),
        "image_encoder": ("image_encode",),
        "transformer": ("denoise_high" if two else "denoise",),
        "transformer_2": ("denoise_low",),
        "vae": ("image_encode", "decode"),
    }
    return {component: phases[component] for component in components_of(card)}


def residency(card: ClipCard, settings: Mapping[str, Any], kind: str) -> dict[str, str]:
    """How each component lives on a card.

    Args:
        card: the model.
        settings: complete settings.
        kind: `cuda`, or `cpu` where offloading means nothing.

    Returns:
        For each component one of: `always` on the card; `phase`, on the card only in its own
        phases; `leaf` or `block`, streamed in its own phase; `host`, computes on the processor;
        `absent`.
    """
    encoder = str(settings.get("text_encoder", "gpu"))
    components = components_of(card)
    if kind != "cuda":
        there = "always" if wants_text_encoder(settings) else "absent"
        return dict.fromkeys(components, "always") | {"text_encoder": there}
    offload = str(settings.get("offload", "none"))
    swapped = "always" if offload == "none" else "phase"
    streamed = offload if offload in ("block", "leaf") else swapped
    modes = {
        "text_encoder": {"gpu": swapped, "stream": "leaf", "cpu": "host"}.get(encoder, "absent"),
        "image_encoder": "host" if settings.get("image_encoder") == "cpu" else swapped,
        "transformer": streamed,
        "transformer_2": streamed,
        "vae": swapped,
    }
    return {component: modes[component] for component in components}


class Placement(placement.Placement):
    """The Wan components' places for settings on a device."""

    def __init__(self, card: ClipCard, settings: Mapping[str, Any], device: torch.device) -> None:
        super().__init__(
            residency(card, settings, device.type),
            phases_of(card),
            device,
            channels_last=bool(settings.get("channels_last")),
        )
        self._settings = settings

    def add(self, component: str, module: nn.Module) -> nn.Module:
        """As `placement.Placement.add`; before, a transformer is cast, or quantised."""
        if component in TRANSFORMERS:
            use_attention(module, self._settings)
            if self._settings.get("precision") == FP8:
                store_in_fp8(module)
            if quantizes(self._settings):
                quantize(module, self._settings, self.device)
        return super().add(component, module)
