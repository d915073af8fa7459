"""Fits the linear map from the demo's latents to colours that previews are made with."""

from __future__ import annotations

from random import Random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor

from webui.demo import codec, drawing, vocabulary

CLIPS, FRAMES, SIDE_PX = 96, 9, 96
BATCH = 16


@torch.no_grad()
def fit_preview(vae: AutoencoderKLWan, seed: int = 5) -> tuple[Tensor, Tensor, float]:
    """Least squares of drawn clips, shrunk to the latent's size, on their normalised latents.

    Args:
        vae: the trained autoencoder.
        seed: of the drawing.

    Returns:
        Factors (z 3), bias (3), and the share of the variance that they explain.
    """
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    inputs, colours = [], []
    for _ in range(CLIPS // BATCH):
        specs = random.choices(vocabulary.training_combinations(), k=BATCH)
        clip = drawing.draw(drawing.random_scene(specs, generator), FRAMES, SIDE_PX, SIDE_PX)
        latent = codec.normalise(vae, codec.encode(vae, clip)[0])
        # The first latent frame is one frame, each further one the mean of four.
        later = F.avg_pool3d(clip[:, :, 1:], (4, 8, 8))
        small = torch.cat([F.avg_pool3d(clip[:, :, :1], (1, 8, 8)), later], 2)
        inputs.append(latent.movedim(1, -1).flatten(0, -2))
        colours.append(small.movedim(1, -1).flatten(0, -2))
    x, y = torch.cat(inputs).double(), torch.cat(colours).double()
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    weights = torch.linalg.lstsq(x, y).solution
    explained = 1 - float((x @ weights - y).var(0).sum() / y.var(0).sum())
    return weights[:-1], weights[-1], explained


def preview_yaml(factors: Tensor, bias: Tensor, explained: float) -> str:
    """The catalogue's file."""
    lines = [
        f"# Linear map from the {len(factors)} channels of a normalised demo latent to RGB,",
        "# -1 to 1, one row a channel: least squares of drawn clips on their latents, which",
        f"# explains {explained:.0%} of the variance (python -m webui.demo preview).",
        "factors:",
    ]
    lines += [
        "  - [" + ", ".join(f"{value:.4f}" for value in row) + "]" for row in factors.tolist()
    ]
    lines.append("bias: [" + ", ".join(f"{value:.4f}" for value in bias.tolist()) + "]")
    return "\n".join(lines) + "\n"
