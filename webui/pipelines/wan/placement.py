"""Which component is on the card in which phase: the settings `offload` and `text_encoder`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from webui.core.settings import FP8
from webui.pipelines import placement
from webui.pipelines.wan.components import store_in_fp8

PHASE_OF = {"text_encoder": "encode", "transformer": "denoise", "vae": "decode"}
"""The phase that needs a component."""


def residency(settings: Mapping[str, Any], kind: str) -> dict[str, str]:
    """How each component lives on a card.

    Args:
        settings: complete settings.
        kind: `cuda`, or `cpu` where offloading means nothing.

    Returns:
        For text_encoder, transformer, vae one of: `always` on the card; `phase`, on the card
        only in its own phase; `leaf` or `block`, streamed in its own phase; `host`, computes on
        the processor; `absent`.
    """
    encoder = str(settings.get("text_encoder", "gpu"))
    if kind != "cuda":
        absent = "absent" if encoder == "absent" else "always"
        return {"text_encoder": absent, "transformer": "always", "vae": "always"}
    offload = str(settings.get("offload", "none"))
    swapped = "always" if offload == "none" else "phase"
    return {
        "text_encoder": {"gpu": swapped, "stream": "leaf", "cpu": "host", "absent": "absent"}[
            encoder
        ],
        "transformer": offload if offload in ("block", "leaf") else swapped,
        "vae": swapped,
    }


class Placement(placement.Placement):
    """The Wan components' places for settings on a device."""

    def __init__(self, settings: Mapping[str, Any], device: torch.device) -> None:
        super().__init__(
            residency(settings, device.type),
            {component: (phase,) for component, phase in PHASE_OF.items()},
            device,
            channels_last=bool(settings.get("channels_last")),
        )
        self._stores_fp8 = settings.get("precision") == FP8

    def add(self, component: str, module: nn.Module) -> nn.Module:
        """As `placement.Placement.add`; the transformer is cast before it is placed."""
        if component == "transformer" and self._stores_fp8:
            store_in_fp8(module)
        return super().add(component, module)
