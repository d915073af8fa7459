"""Trains the demo's autoencoder on drawn clips: first step of `python -m webui.demo train`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from webui.demo import codec, drawing, vocabulary
from webui.demo.muon import clip_gradients, set_rates
from webui.demo.schedule import Progress

# Frames, height, width, clips a step at full batch, share of the steps. Small pictures teach the
# edges cheaply; the longer and larger ones, what the pipeline will decode.
SIZES: tuple[tuple[int, int, int, int, float], ...] = (
    (9, 64, 64, 8, 0.20),
    (17, 96, 96, 4, 0.35),
    (17, 128, 128, 3, 0.30),
    (33, 64, 64, 4, 0.08),
    (1, 128, 128, 24, 0.07),
)
MATRIX_RATE = 0.015
OTHER_RATE = 3e-3
KL_WEIGHT = 3e-5
EDGE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Kernels:
    """How the autoencoder computes.

    Args:
        bf16: multiply in bf16.
        channels_last: keep the channels of a pixel together.
    """

    bf16: bool = False
    channels_last: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """Of five-dimensional tensors."""
        return torch.channels_last_3d if self.channels_last else torch.contiguous_format

    def lay_out(self, vae: nn.Module) -> None:
        """Put the weights of the video convolutions into the memory format."""
        for module in vae.modules():
            if isinstance(module, nn.Conv3d):
                weight = module.weight
                weight.data = weight.data.contiguous(memory_format=self.memory_format)


PLAIN = Kernels()


def train_vae(
    vae: AutoencoderKLWan,
    progress: Progress,
    *,
    device: torch.device,
    optimisers: list[torch.optim.Optimizer],
    batch_scale: float = 1.0,
    kernels: Kernels = PLAIN,
    seed: int = 0,
    report: Callable[[str], None] = print,
    should_pause: Callable[[], bool] = lambda: False,
) -> list[float]:
    """Train until the budget is used up or a pause is due.

    Args:
        vae: on `device`; changed in place.
        progress: the budget; counts on from where it stands.
        device: where to draw and train.
        optimisers: over the autoencoder's parameters.
        batch_scale: share of the full batch, for small machines.
        kernels: how to compute; the autoencoder lies in its memory format already.
        seed: of the drawing.
        report: takes a line of progress now and then.
        should_pause: asked after every step.

    Returns:
        The loss of every step.
    """
    vae.train()
    generator = torch.Generator(device).manual_seed(seed + progress.step)
    random = Random(seed + progress.step)
    combinations = vocabulary.training_combinations()
    losses: list[Tensor] = []
    while progress.fraction < 1 and not should_pause():
        frames, height, width, full, _ = random.choices(SIZES, [size[4] for size in SIZES])[0]
        specs = random.choices(combinations, k=max(1, round(full * batch_scale)))
        clip = drawing.draw(drawing.random_scene(specs, generator), frames, height, width)
        clip = clip.contiguous(memory_format=kernels.memory_format)
        set_rates(optimisers, progress.rate_share(warmup_steps=100))
        with torch.autocast(device.type, torch.bfloat16, enabled=kernels.bf16):
            loss, error = vae_loss(vae, clip, generator)
        vae.zero_grad(set_to_none=True)
        loss.backward()
        clip_gradients(vae)
        for optimiser in optimisers:
            optimiser.step()
        progress.step += 1
        losses.append(loss.detach())
        if progress.step % 200 == 0:
            recent = torch.stack(losses[-200:]).mean().item()
            if not math.isfinite(recent):
                raise FloatingPointError(f"the loss at step {progress.step} is {recent}")
            report(
                f"vae step {progress.step}  {progress.elapsed_s:.0f} s  loss {recent:.4f}  "
                f"error {error.item():.4f}"
            )
    return torch.stack(losses).tolist() if losses else []


def vae_loss(
    vae: AutoencoderKLWan, clip: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Reconstruction, edges and a light pull towards a unit Gaussian.

    Args:
        vae: the autoencoder.
        clip: B 3 T H W, -1 to 1.
        generator: of the sampling noise.

    Returns:
        The loss, and the mean absolute error of the clip (of 2).
    """
    mean, log_variance = codec.encode(vae, clip)
    log_variance = log_variance.clamp(-12, 2)  # exp of more ends in an overflow
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    rebuilt = codec.decode(vae, mean + (0.5 * log_variance).exp() * noise)
    difference = rebuilt - clip
    error = difference.abs().mean()
    # Edges are few, so the plain error hardly sees a soft one.
    edges = sum(
        (difference.diff(dim=dim).abs().mean() for dim in (2, 3, 4) if clip.shape[dim] > 1),
        start=torch.zeros((), device=clip.device),
    )
    square = F.mse_loss(rebuilt, clip)
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    return error + EDGE_WEIGHT * edges + square + KL_WEIGHT * divergence, error


def fastest_kernels(vae: AutoencoderKLWan, device: torch.device) -> Kernels:
    """The quickest way to take a step: which one it is differs by card and library versions."""
    if device.type != "cuda":
        return PLAIN
    generator = torch.Generator(device).manual_seed(0)
    specs = vocabulary.training_combinations()[:4]
    clip = drawing.draw(drawing.random_scene(specs, generator), 17, 96, 96)
    seconds: dict[Kernels, float] = {}
    for kernels in (Kernels(bf16, last) for bf16 in (False, True) for last in (False, True)):
        kernels.lay_out(vae)
        shaped = clip.contiguous(memory_format=kernels.memory_format)
        for attempt in range(6):
            if attempt == 3:  # the first ones choose kernels
                torch.cuda.synchronize(device)
                start = time.perf_counter()
            with torch.autocast("cuda", torch.bfloat16, enabled=kernels.bf16):
                loss, _ = vae_loss(vae, shaped, generator)
            loss.backward()
            vae.zero_grad(set_to_none=True)
        torch.cuda.synchronize(device)
        seconds[kernels] = (time.perf_counter() - start) / 3
        print(f"vae step with {kernels}: {seconds[kernels]:.3f} s", flush=True)
    best = min(seconds, key=lambda kernels: seconds[kernels])
    best.lay_out(vae)
    return best


@torch.no_grad()
def set_latent_statistics(vae: AutoencoderKLWan, device: torch.device, clips: int = 512) -> None:
    """Measure each latent channel's mean and spread on drawn clips, and put them in the config.

    A channel that carries next to nothing keeps a small spread when normalised (the floor), so
    that the transformer does not spend itself on what the decoder ignores.
    """
    vae.eval()
    generator = torch.Generator(device).manual_seed(99)
    random = Random(99)
    latents = []
    for _ in range(max(1, clips // 32)):
        specs = random.choices(vocabulary.training_combinations(), k=min(32, clips))
        clip = drawing.draw(drawing.random_scene(specs, generator), 17, 96, 96)
        latents.append(codec.encode(vae, clip)[0].transpose(0, 1).flatten(1))
    values = torch.cat(latents, 1)
    mean, std = values.mean(1), values.std(1)
    std = std.clamp(min=0.1 * float(std.max()))
    vae.register_to_config(
        latents_mean=[round(float(value), 5) for value in mean],
        latents_std=[round(float(value), 5) for value in std],
    )
