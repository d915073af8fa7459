"""A small picture of a latent during a run, through a linear map instead of the decoder."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from webui.core.clip import ClipCard

MAX_SIDE_PX = 320


def preview_jpeg(latents: torch.Tensor, card: ClipCard) -> bytes:
    """The middle frame of a normalised latent (B C T H W) as a JPEG.

    A model without a map shows three of its channels, each stretched to the full range.
    """
    middle = latents[0, :, latents.shape[2] // 2].detach().to("cpu", torch.float32).numpy()
    planes = np.nan_to_num(np.moveaxis(middle, 0, -1))
    if card.preview_factors:
        colours = planes @ np.asarray(card.preview_factors, np.float32) + np.asarray(
            card.preview_bias, np.float32
        )
    else:
        colours = planes[..., :3]
        low, high = colours.min(axis=(0, 1)), colours.max(axis=(0, 1))
        colours = (colours - low) / np.maximum(high - low, 1e-6) * 2 - 1
    pixels = np.clip(colours * 127.5 + 127.5, 0, 255).astype(np.uint8)
    scale = min(8.0, MAX_SIDE_PX / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
