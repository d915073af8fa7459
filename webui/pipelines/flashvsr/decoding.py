"""The two decoders behind one face: a latent frame and what it shows in low quality, to frames.

Shapes: B batch, H height and W width in pixels, h and w in latents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch

from webui.pipelines.flashvsr.decoder import DecoderState


class Decoding(Protocol):
    """One video's decoder, with what it remembers."""

    def frames(self, latent: torch.Tensor, clip: torch.Tensor) -> Iterator[torch.Tensor]:
        """The frames of the next latent, one by one.

        Args:
            latent: B C h w, float32.
            clip: the low-quality frames of it in -1..1 (B 3 T H W): one for the first latent,
                then four.

        Yields:
            B 3 H W in about -1..1, float32.
        """


class TinyDecoding:
    """Through the authors' small decoder, which also looks at the low-quality frames."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._state = DecoderState()

    def frames(self, latent: torch.Tensor, clip: torch.Tensor) -> Iterator[torch.Tensor]:
        latent = latent.to(self._decoder.dtype)
        for picture in self._decoder(latent, clip.to(self._decoder.dtype), self._state):
            yield picture.float() * 2 - 1


class FullDecoding:
    """Through the VAE of Wan2.1, one latent frame after the other.

    The library's `decode` does the same for a whole clip at once and keeps all frames on the card
    (diffusers, models/autoencoders/autoencoder_kl_wan.py, _decode).
    """

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self._memories: list[Any] = [None] * vae._cached_conv_counts["decoder"]
        self._started = False

    def frames(self, latent: torch.Tensor, clip: torch.Tensor) -> Iterator[torch.Tensor]:
        vae = self._vae
        shape = (1, -1, 1, 1, 1)
        mean, deviation = (
            torch.tensor(values, device=latent.device).view(shape)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        values = (latent[:, :, None] * deviation + mean).to(vae.dtype)
        video = vae.decoder(
            vae.post_quant_conv(values),
            feat_cache=self._memories,
            feat_idx=[0],
            first_chunk=not self._started,
        )
        self._started = True
        for picture in video.unbind(2):
            yield picture.float().clamp(-1, 1)
