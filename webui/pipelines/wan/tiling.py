"""The VAE in tiles: the settings, and how often its decoder is called."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def set_tiling(vae: Any, settings: Mapping[str, Any]) -> None:
    """Applies the tiling settings; they cost nothing to change between runs."""
    if not settings.get("vae_tiling"):
        vae.disable_tiling()
        return
    tile = int(settings["vae_tile"])
    stride = tile - int(settings["vae_tile_overlap"])
    vae.enable_tiling(tile, tile, stride, stride)


def decoder_calls(vae: Any, latent_shape: Iterable[int]) -> int:
    """How often `vae.decode` calls its decoder: once a latent frame, and that for every tile."""
    _, _, frames, height, width = latent_shape
    ratio = vae.spatial_compression_ratio
    tall, wide = vae.tile_sample_min_height // ratio, vae.tile_sample_min_width // ratio
    if not (vae.use_tiling and (width > wide or height > tall)):
        return frames
    rows = math.ceil(height / (vae.tile_sample_stride_height // ratio))
    columns = math.ceil(width / (vae.tile_sample_stride_width // ratio))
    return frames * rows * columns
