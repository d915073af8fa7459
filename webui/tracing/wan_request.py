"""Requests and settings to trace the Wan family with."""

from __future__ import annotations

from typing import Any

from webui.core.clip import ClipCard, ClipRequest
from webui.core.settings import NOT_QUANTIZED, SETTINGS, Settings
from webui.tracing.fit import Shape

STEPS = 3
"""Enough for the solvers' history to fill: the third step is like all later ones."""


def request_of(card: ClipCard, shape: Shape, **changes: Any) -> ClipRequest:
    """A request whose latent has this shape."""
    defaults = card.defaults
    ratio = card.configs["vae"].get("scale_factor_spatial") or 8
    values: dict[str, Any] = {
        "prompt": "a",
        "negative_prompt": "b",
        "frames": (shape["f"] - 1) * card.frame_step + 1,
        "height": shape["h"] * ratio,
        "width": shape["w"] * ratio,
        "steps": STEPS,
        "guidance": 5.0,
        "flow_shift": defaults.flow_shift,
        "solver": "unipc",
        "fps": defaults.fps,
        "seed": 0,
    }
    return ClipRequest(task="generate", model=card.name, **(values | changes))


def settings_of(precision: str, **changes: Any) -> Settings:
    """Complete settings in which nothing is offloaded, tiled or cut."""
    settings: Settings = {
        "precision": precision,
        "quantization": NOT_QUANTIZED,
        "gguf_type": SETTINGS["gguf_type"].default,
        "vae_precision": precision,
        "text_encoder": "gpu",
        "image_encoder": "gpu",
        "offload": "none",
        "ffn_chunks": 1,
        "vae_tiling": False,
        "vae_tile": 256,
        "vae_tile_overlap": 64,
        "channels_last": False,
    }
    return settings | changes
