"""Which component is on the card in which phase: the settings `offload` and `image_encoder`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from webui.pipelines import placement

PHASES_OF = {
    "image_encoder": ("image_encode",),
    "unet": ("denoise",),
    "vae": ("image_encode", "decode"),
}
"""The phases that need a component: the VAE also encodes the picture."""


def residency(settings: Mapping[str, Any], kind: str) -> dict[str, str]:
    """How each component lives on a card.

    Args:
        settings: complete settings.
        kind: `cuda`, or `cpu` where offloading means nothing.

    Returns:
        For image_encoder, unet, vae one of `always`, `phase`, `leaf`, `block`, `host`, as
        `webui.pipelines.placement.Placement` takes them.
    """
    if kind != "cuda":
        return dict.fromkeys(PHASES_OF, "always")
    offload = str(settings["offload"])
    swapped = "always" if offload == "none" else "phase"
    return {
        "image_encoder": "host" if settings["image_encoder"] == "cpu" else swapped,
        "unet": offload if offload in ("block", "leaf") else swapped,
        "vae": swapped,
    }


class Placement(placement.Placement):
    """The components' places for settings on a device."""

    def __init__(self, settings: Mapping[str, Any], device: torch.device) -> None:
        super().__init__(residency(settings, device.type), PHASES_OF, device)
