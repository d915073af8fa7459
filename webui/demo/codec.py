"""Runs the Wan autoencoder over a whole clip at once, for training.

The library's `encode` and `decode` walk through time in pieces of four frames and carry a cache,
which saves memory and costs many small kernels. These functions give the same values in one pass
(a test compares them). B C T H W throughout; z = latent channels.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample
from torch import Tensor


def encode(vae: AutoencoderKLWan, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and log variance of a clip.

    Args:
        vae: the autoencoder.
        clip: B 3 T H W, -1 to 1, T = 4k + 1.

    Returns:
        Two tensors, B z (T + 3) / 4 H / 8 W / 8.
    """
    encoder = vae.encoder
    x = encoder.conv_in(clip)
    for layer in encoder.down_blocks:
        x = layer(x)
        if isinstance(layer, WanResample) and layer.mode == "downsample3d":
            # The first frame stands alone; the others shrink two to one. No time padding.
            x = torch.cat([x[:, :, :1], layer.time_conv(x)], 2) if x.shape[2] > 1 else x
    x = encoder.mid_block(x)
    x = encoder.conv_out(encoder.nonlinearity(encoder.norm_out(x)))
    mean, log_variance = vae.quant_conv(x).float().chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 20)


def decode(vae: AutoencoderKLWan, latent: Tensor) -> Tensor:
    """The clip of a latent, not clamped.

    Args:
        vae: the autoencoder.
        latent: B z T H W, not normalised.

    Returns:
        B 3 (4 T - 3) (8 H) (8 W) in fp32.
    """
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latent)))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = resnet(x)
        if block.upsamplers is not None:
            upsampler = block.upsamplers[0]
            if upsampler.mode == "upsample3d" and x.shape[2] > 1:
                x = torch.cat([x[:, :, :1], _double_frames(upsampler, x[:, :, 1:])], 2)
            x = upsampler(x)
    x = decoder.conv_out(decoder.nonlinearity(decoder.norm_out(x)))
    return x.float()


def _double_frames(upsampler: WanResample, x: Tensor) -> Tensor:
    """Two frames for each: B C T H W to B C 2T H W."""
    batch, channels, frames, height, width = x.shape
    pairs = upsampler.time_conv(x).view(batch, 2, channels, frames, height, width)
    return torch.stack([pairs[:, 0], pairs[:, 1]], 3).reshape(
        batch, channels, 2 * frames, height, width
    )


def normalise(vae: AutoencoderKLWan, latent: Tensor) -> Tensor:
    """What the transformer sees: mean 0, spread about 1 in each channel; the pipeline undoes it."""
    mean, std = _statistics(vae, latent)
    return (latent - mean) / std


def _statistics(vae: AutoencoderKLWan, like: Tensor) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(vae.config.latents_mean).to(like).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).to(like).view(1, -1, 1, 1, 1)
    return mean, std
