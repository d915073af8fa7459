"""Small Wan models of each kind, of the real classes, for the tests of several packages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from webui.catalogue import models_of
from webui.core.clip import ClipCard

NAMES = {
    "text": "wan2.1-t2v-1.3b",
    "image": "wan2.1-i2v-14b-480p",
    "frames": "wan2.1-flf2v-14b",
    "control": "wan2.1-vace-1.3b",
    "expanded": "wan2.2-ti2v-5b",
    "pair": "wan2.2-t2v-a14b",
    "image pair": "wan2.2-i2v-a14b",
}
"""The catalogue's model that stands for each kind."""
_TRANSFORMER: dict[str, Any] = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "ffn_dim": 64,
    "text_dim": 32,
}
_CHANGES: dict[str, dict[str, Any]] = {
    "vae": {"base_dim": 4},
    "text_encoder": {
        "d_model": 32,
        "d_ff": 64,
        "d_kv": 16,
        "num_heads": 2,
        "num_layers": 2,
        "vocab_size": 2000,
    },
    "image_encoder": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "patch_size": 56,
    },
    "scheduler": {},
}


def tiny_wan(kind: str) -> ClipCard:
    """The catalogue's card of a kind with small components."""
    card = models_of(ClipCard)[NAMES[kind]]
    configs = {}
    for name, config in card.configs.items():
        changes = dict(_CHANGES.get(name, _TRANSFORMER))
        if name == "vae" and "decoder_base_dim" in config:
            changes = {"base_dim": 8, "decoder_base_dim": 8}
        if config.get("image_dim"):
            changes |= {"image_dim": 32, "added_kv_proj_dim": 32}
        if config.get("pos_embed_seq_len"):
            changes["pos_embed_seq_len"] = 2 * 17
        if config.get("vace_layers"):
            changes["vace_layers"] = [0, 1]
        configs[name] = {**config, **changes}
    return replace(card, configs=configs)
