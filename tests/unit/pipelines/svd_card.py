"""A small Stable Video Diffusion of the real classes, for the tests of several packages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from webui.catalogue import models_of
from webui.core.clip import ClipCard

_CHANGES: dict[str, dict[str, Any]] = {
    "image_encoder": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "patch_size": 56,
        "projection_dim": 32,
    },
    "unet": {
        "block_out_channels": [32, 32, 64, 64],
        "layers_per_block": 1,
        "num_attention_heads": [1, 2, 2, 2],
        "cross_attention_dim": 32,
        "addition_time_embed_dim": 32,
        "projection_class_embeddings_input_dim": 96,
    },
    "vae": {"block_out_channels": [32, 32, 64, 64], "layers_per_block": 1},
    "scheduler": {},
}


def tiny_svd() -> ClipCard:
    """The catalogue's card with small components."""
    card = models_of(ClipCard)["svd-xt"]
    configs = {name: {**card.configs[name], **change} for name, change in _CHANGES.items()}
    return replace(card, configs=configs)
