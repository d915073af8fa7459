"""The authors' original checkpoint layout: file names, and UMT5's keys in terms of transformers.

The transformer and the VAE go through diffusers' own converters; only the text encoder has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

TEXT_ENCODER_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
VAE_FILE = "Wan2.1_VAE.pth"
TRANSFORMER_PATTERN = "diffusion_pytorch_model*.safetensors"
TOKENIZER_FOLDER = "google/umt5-xxl"

# Source: Wan-Video/Wan2.1, wan/modules/t5.py (T5Encoder, T5SelfAttention, T5FeedForward), against
# transformers' UMT5Block. `gate` carries the activation, so it is `wi_0`.
_BLOCK_NAMES = {
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm1": "layer.0.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
    "norm2": "layer.1.layer_norm",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.weight")


def text_encoder_key(original: str) -> str:
    """The transformers name of one of the authors' UMT5 keys.

    Raises:
        KeyError: the key is not one of theirs.
    """
    if original == "token_embedding.weight":
        return "shared.weight"
    if original == "norm.weight":
        return "encoder.final_layer_norm.weight"
    match = _BLOCK.fullmatch(original)
    if match is None:
        raise KeyError(original)
    return f"encoder.block.{match[1]}.{_BLOCK_NAMES[match[2]]}.weight"


def convert_text_encoder(checkpoint: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The authors' UMT5 state dict with the names of transformers' `UMT5EncoderModel`.

    Raises:
        KeyError: an unknown key.
    """
    converted = {text_encoder_key(key): value for key, value in checkpoint.items()}
    converted["encoder.embed_tokens.weight"] = converted["shared.weight"]
    return converted
