"""Trains one of the upscaler's networks on pictures and what bicubic makes of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from webui.demo.schedule import Progress
from webui.demo.upscaler.network import new_network

RATE = 1.5e-3
WARMUP_STEPS = 200
PATCH_PX = 48
"""Side of what the network sees, before it is enlarged: whole windows of 8."""
SOFTENING = 4e-3
"""Errors below this count by their square, larger ones as they are (Charbonnier)."""
AVERAGED_STEPS = 400
"""The weights that are kept are a running mean over about so many steps."""
SAVE_EVERY_S = 45.0


class Pairs:
    """Pictures and their reductions on the device, to cut patches from.

    Args:
        pictures: large ones.
        scale: how much smaller the network's input is.
        device: where they lie.
    """

    def __init__(self, pictures: Sequence[Image.Image], scale: int, device: torch.device) -> None:
        self._scale = scale
        sizes, large, small = [], [], []
        for picture in pictures:
            reduced, cropped = reduce(picture, scale)
            if min(reduced.size) < PATCH_PX:
                continue
            sizes.append(reduced.size)
            large.append(torch.from_numpy(np.array(cropped)).flatten(0, 1))
            small.append(torch.from_numpy(np.array(reduced)).flatten(0, 1))
        # All pixels lie in one row: a batch of patches is then one look-up.
        self._large, self._small = torch.cat(large).to(device), torch.cat(small).to(device)
        widths = torch.tensor([width for width, _ in sizes])
        heights = torch.tensor([height for _, height in sizes])
        areas = widths * heights
        self._widths, self._heights = widths.to(device), heights.to(device)
        self._starts = (areas.cumsum(0) - areas).to(device)
        self._shares = areas.float().to(device)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Patches of the input and of the answer (B 3 h w), 0 to 1, turned and mirrored."""
        device = self._small.device
        chosen = torch.multinomial(self._shares, count, True, generator=generator)
        spots = torch.rand(2, count, generator=generator, device=device)
        widths = self._widths[chosen]
        tops = (spots[0] * (self._heights[chosen] - PATCH_PX + 1)).long()
        lefts = (spots[1] * (widths - PATCH_PX + 1)).long()
        small = _patches(self._small, self._starts[chosen], widths, tops, lefts, PATCH_PX)
        scale = self._scale
        large = _patches(
            self._large,
            self._starts[chosen] * scale**2,
            widths * scale,
            tops * scale,
            lefts * scale,
            PATCH_PX * scale,
        )
        turn = int(torch.randint(8, (), generator=generator, device=device))
        return _turned(small, turn), _turned(large, turn)


def reduce(picture: Image.Image, scale: int) -> tuple[Image.Image, Image.Image]:
    """A picture made smaller by bicubic interpolation, and the part of it that this covers."""
    width, height = picture.width // scale, picture.height // scale
    cropped = picture.crop((0, 0, width * scale, height * scale))
    return cropped.resize((width, height), Image.Resampling.BICUBIC), cropped


def _patches(
    pixels: Tensor, starts: Tensor, widths: Tensor, tops: Tensor, lefts: Tensor, side: int
) -> Tensor:
    steps = torch.arange(side, device=pixels.device)
    rows = (tops[:, None] + steps) * widths[:, None] + starts[:, None]
    found = pixels[rows[:, :, None] + (lefts[:, None] + steps)[:, None, :]]
    return found.permute(0, 3, 1, 2).float() / 255


def _turned(patches: Tensor, turn: int) -> Tensor:
    turned = patches.rot90(turn // 2, (2, 3))
    return (turned.flip(3) if turn % 2 else turned).contiguous()


def train(
    pictures: Sequence[Image.Image],
    validation: Sequence[Image.Image],
    scale: int,
    output: Path,
    *,
    minutes: float,
    batch: int,
    device: torch.device,
    seed: int = 0,
    compiled: bool = False,
) -> None:
    """Trains a network from nothing and saves it as it goes.

    Args:
        pictures: to learn from.
        validation: others, to see how it goes.
        scale: 2 or 4.
        output: folder of the checkpoint.
        minutes: of training.
        batch: patches a step.
        device: where to train.
        seed: of weights and patches.
        compiled: compile the layers first, which pays from some minutes on.
    """
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    network = new_network(scale).to(device).train()
    averaged = [weight.detach().clone() for weight in network.parameters()]
    weights = list(network.parameters())
    pairs = Pairs(pictures, scale, device)
    if compiled:
        for stage in network.swin2sr.encoder.stages:
            for layer in stage.layers:
                layer.compile(dynamic=False)
    optimiser = torch.optim.AdamW(
        weights, RATE, betas=(0.9, 0.99), weight_decay=1e-4, fused=device.type == "cuda"
    )
    progress = Progress(minutes=minutes)
    saved_s, losses = 0.0, torch.zeros((), device=device)
    report(network, averaged, validation, scale, progress, math.nan)
    while progress.fraction < 1:
        small, large = pairs.draw(batch, generator)
        for group in optimiser.param_groups:
            group["lr"] = RATE * progress.rate_share(WARMUP_STEPS)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            made = network(small).reconstruction
        loss = ((made.float() - large).square() + SOFTENING**2).sqrt().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 0.5)
        optimiser.step()
        progress.step += 1
        kept = min(1 - 1 / AVERAGED_STEPS, progress.step / (progress.step + 10))
        torch._foreach_lerp_(averaged, weights, 1 - kept)
        losses += loss.detach()
        if progress.elapsed_s - saved_s > SAVE_EVERY_S:
            report(network, averaged, validation, scale, progress, float(losses))
            save(network, averaged, output)
            saved_s, losses = progress.elapsed_s, torch.zeros((), device=device)
    report(network, averaged, validation, scale, progress, float(losses))
    save(network, averaged, output)


@torch.no_grad()
def report(
    network: nn.Module,
    averaged: Sequence[Tensor],
    validation: Sequence[Image.Image],
    scale: int,
    progress: Progress,
    losses: float,
) -> None:
    """Prints how the averaged weights do on pictures that are not trained on."""
    own = [weight.detach().clone() for weight in network.parameters()]
    _set(network, averaged)
    network.eval()
    device = averaged[0].device
    gains = []
    for picture in validation:
        reduced, cropped = reduce(picture.crop((0, 0, 480, 480)), scale)
        shaped = torch.from_numpy(np.array(reduced)).to(device).permute(2, 0, 1)[None].float() / 255
        made = network(shaped).reconstruction[0].permute(1, 2, 0).mul(255).round().clamp(0, 255)
        plain = reduced.resize(cropped.size, Image.Resampling.BICUBIC)
        answer = np.array(cropped)
        gains.append(psnr(made.cpu().numpy(), answer) - psnr(np.array(plain), answer))
    network.train()
    _set(network, own)
    told = " ".join(f"{gain:+.2f}" for gain in gains)
    print(
        f"x{scale} step {progress.step}  {progress.elapsed_s:.0f} s  loss {losses:.3f}  "
        f"against bicubic {told} dB",
        flush=True,
    )


def psnr(made: np.ndarray, answer: np.ndarray) -> float:
    """Peak signal to noise of two pictures of 8 bits (H W C), in dB over all channels."""
    error = np.square(made.astype(np.float64) - answer.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@torch.no_grad()
def _set(network: nn.Module, values: Sequence[Tensor]) -> None:
    for weight, value in zip(network.parameters(), values, strict=True):
        weight.copy_(value)


def save(network: Any, averaged: Sequence[Tensor], output: Path) -> None:
    """Writes the checkpoint: `config.json` and `model.safetensors`."""
    output.mkdir(parents=True, exist_ok=True)
    names = [name for name, _ in network.named_parameters()]
    values = {name: value.cpu().contiguous() for name, value in zip(names, averaged, strict=True)}
    save_file(values, output / "model.safetensors.new", metadata={"format": "pt"})
    (output / "model.safetensors.new").replace(output / "model.safetensors")
    config = network.config.to_diff_dict() | {"architectures": [type(network).__name__]}
    config.pop("transformers_version", None)
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (output / "config.json").write_text(text, encoding="utf-8")
