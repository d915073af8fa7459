"""Which component is on the card in which phase: the setting `offload`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from webui.pipelines import placement

PHASES_OF = {
    "projection": ("project",),
    "transformer": ("denoise",),
    "decoder": ("decode",),
    "vae": ("decode",),
}
"""The phases that need a component."""


def residency(settings: Mapping[str, Any], kind: str) -> dict[str, str]:
    """How each component lives on a card.

    Args:
        settings: complete settings.
        kind: `cuda`, or `cpu` where offloading means nothing.

    Returns:
        For each component one of `always`, `phase`, `leaf`, as
        `webui.pipelines.placement.Placement` takes them.
    """
    if kind != "cuda":
        return dict.fromkeys(PHASES_OF, "always")
    offload = str(settings.get("offload", "none"))
    swapped = "always" if offload == "none" else "phase"
    streamed = offload if offload in ("block", "leaf") else swapped
    return dict.fromkeys(PHASES_OF, swapped) | {"transformer": streamed}


class Placement(placement.Placement):
    """The components' places for settings on a device."""

    def __init__(self, settings: Mapping[str, Any], device: torch.device) -> None:
        super().__init__(residency(settings, device.type), PHASES_OF, device)
