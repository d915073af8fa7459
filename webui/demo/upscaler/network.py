"""The upscaler's network: transformers' Swin2SR, small, which starts as bicubic interpolation."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution

_CUBIC = -0.5
"""Slope of the bicubic kernel, as Pillow has it (Keys, 1981)."""
_REACH = 2
"""Pixels to each side that bicubic interpolation looks at."""


def new_network(scale: int) -> Swin2SRForImageSuperResolution:
    """A network that does what bicubic interpolation does, until it is trained.

    The size is what two processor cores take through 24 frames of 160 x 90 in 30 seconds.
    """
    config = Swin2SRConfig(
        embed_dim=48,
        depths=[4, 4, 4],
        num_heads=[4, 4, 4],
        window_size=8,
        mlp_ratio=2.0,
        drop_path_rate=0.0,
        upscale=scale,
        upsampler="pixelshuffledirect",
    )
    config.architectures = ["Swin2SRForImageSuperResolution"]
    network = Swin2SRForImageSuperResolution(config)
    _start_as_bicubic(network, scale)
    return network


@torch.no_grad()
def _start_as_bicubic(network: Swin2SRForImageSuperResolution, scale: int) -> None:
    """Lets the first convolution copy each pixel's neighbours and the last one weigh them.

    What lies between adds to the copies, and starts by adding nothing. Two convolutions of 3 x 3
    reach two pixels to each side: the first steps by `near`, the last by `far`.
    """
    first: Any = network.swin2sr.first_convolution
    last: Any = network.upsample.conv
    body: Any = network.swin2sr.conv_after_body
    copies = 9 * first.in_channels
    first.weight[:copies].zero_()
    first.bias.zero_()
    last.weight.zero_()
    last.bias.zero_()
    body.weight.zero_()
    for channel in range(first.in_channels):
        for tap in range(9):
            first.weight[9 * channel + tap, channel, tap // 3, tap % 3] = 1.0
    steps = range(-_REACH, _REACH + 1)
    for channel in range(first.in_channels):
        for below in range(scale):
            for beside in range(scale):
                out = channel * scale**2 + below * scale + beside
                for down in steps:
                    for across in steps:
                        far_down, far_across = max(-1, min(1, down)), max(-1, min(1, across))
                        tap = 3 * (down - far_down + 1) + across - far_across + 1
                        last.weight[out, 9 * channel + tap, far_down + 1, far_across + 1] += _cubic(
                            (below + 0.5) / scale - 0.5 - down
                        ) * _cubic((beside + 0.5) / scale - 0.5 - across)


def _cubic(distance: float) -> float:
    x, a = abs(distance), _CUBIC
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * (x**3 - 5 * x**2 + 8 * x - 4)
    return 0.0
