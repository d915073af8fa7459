"""Trains the demo's transformer and text encoder together, by flow matching: second step."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from webui.demo.muon import clip_gradients, set_rates
from webui.demo.pool import BUCKETS, Bucket, LatentPool, PromptBank
from webui.demo.schedule import Progress

MATRIX_RATE = 0.02
OTHER_RATE = 1.5e-3
PROMPT_DROPOUT = 0.12
SAVE_EVERY = 1500
"""Steps between two saves."""
EMA_DECAY = 0.999
STEP_TOKENS = 65_536
"""Transformer tokens in a step: about 200 clips; more steps teach more than larger ones."""
TRAINING_SHIFT = 3.0
"""Noise levels lean towards the noisy end, where shape and motion are decided."""


class Painter(nn.Module):
    """The two networks that are trained together, as one module.

    Args:
        transformer: a `WanTransformer3DModel`.
        text_encoder: a `UMT5EncoderModel`.
    """

    def __init__(self, transformer: nn.Module, text_encoder: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder

    def forward(self, noisy: Tensor, sigma: Tensor, tokens: Tensor, padding: int = 0) -> Tensor:
        """The predicted velocity, noise minus clip.

        Args:
            noisy: B z T H W.
            sigma: B, 0 (clip) to 1 (noise).
            tokens: B L, padded with 0.
            padding: further empty places in the text, as a longer `max_sequence_length` gives.

        Returns:
            B z T H W.
        """
        mask = (tokens > 0).long()
        text = self.text_encoder(tokens, mask).last_hidden_state
        # The pipeline hands padding on as zeros, unmasked; so must training.
        text = F.pad(text * mask[..., None], (0, 0, 0, padding))
        return self.transformer(
            hidden_states=noisy,
            timestep=sigma * 1000,
            encoder_hidden_states=text,
            return_dict=False,
        )[0]


def flow_loss(
    painter: Painter,
    latents: Tensor,
    tokens: Tensor,
    generator: torch.Generator,
    padding: int = 0,
) -> Tensor:
    """Mean squared error of the velocity at random noise levels.

    Args:
        painter: the networks.
        latents: B z T H W, normalised.
        tokens: B L.
        generator: of noise and levels.
        padding: see `Painter.forward`.
    """
    count, device = len(latents), latents.device
    # Stratified over the batch: less variance between steps than independent draws.
    level = torch.rand(count, generator=generator, device=device)
    level = (level + torch.arange(count, device=device)) / count
    sigma = TRAINING_SHIFT * level / (1 + (TRAINING_SHIFT - 1) * level)
    noise = torch.randn(latents.shape, generator=generator, device=device)
    share = sigma.view(-1, 1, 1, 1, 1)
    velocity = painter((1 - share) * latents + share * noise, sigma, tokens, padding)
    return F.mse_loss(velocity.float(), noise - latents)


def train_painter(
    painter: Painter,
    average: dict[str, Tensor],
    pools: dict[Bucket, LatentPool],
    bank: PromptBank,
    progress: Progress,
    *,
    optimisers: list[torch.optim.Optimizer],
    generator: torch.Generator,
    step_tokens: int = STEP_TOKENS,
    report: Callable[[str], None] = print,
    should_pause: Callable[[], bool] = lambda: False,
    save: Callable[[], None] = lambda: None,
) -> list[float]:
    """Train until the budget is used up or a pause is due.

    Args:
        painter: on the generator's device; changed in place.
        average: running average of its weights; changed in place; what is worth keeping.
        pools: the clips of each size.
        bank: the prompts.
        progress: the budget; counts on from where it stands.
        optimisers: over the painter's parameters.
        generator: of all randomness on the device.
        step_tokens: transformer tokens in a step, whatever the clips' size.
        report: takes a line of progress now and then.
        should_pause: asked after every step.
        save: called now and then, so that a broken run can go on.

    Returns:
        The loss of every step.
    """
    painter.train()
    random = Random(progress.step)
    buckets = list(pools)
    device = generator.device
    losses: list[Tensor] = []
    while progress.fraction < 1 and not should_pause():
        bucket = random.choices(buckets, [bucket.share for bucket in buckets])[0]
        pool = pools[bucket]
        if progress.step % 8 == 0:
            pool.renew()
        padding = random.choices((0, 64, 162, 448), (0.8, 0.08, 0.06, 0.06))[0]
        # The text's places cost memory in cross attention like the clip's own.
        clip_tokens = max(bucket.tokens, bank.tokens.shape[-1] + padding)
        latents, rows = pool.sample(max(2, step_tokens // clip_tokens))
        tokens = bank.sample(rows, PROMPT_DROPOUT, generator)
        set_rates(optimisers, progress.rate_share(warmup_steps=200))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = flow_loss(painter, latents, tokens, generator, padding)
        painter.zero_grad(set_to_none=True)
        loss.backward()
        clip_gradients(painter)
        for optimiser in optimisers:
            optimiser.step()
        progress.step += 1
        update_average(average, painter, min(EMA_DECAY, progress.step / (progress.step + 10)))
        losses.append(loss.detach())
        del loss  # with it the graph's tensors, before the next step makes its own
        if progress.step % SAVE_EVERY == 0:
            save()
        if progress.step % 200 == 0:
            gc.collect()  # cycles in the libraries' outputs hold activations
            recent = torch.stack(losses[-200:]).mean().item()
            if not math.isfinite(recent):
                raise FloatingPointError(f"the loss at step {progress.step} is {recent}")
            report(
                f"transformer step {progress.step}  {progress.elapsed_s:.0f} s  loss {recent:.4f}"
            )
    return torch.stack(losses).tolist() if losses else []


def build_pools(
    vae: nn.Module,
    generator: torch.Generator,
    buckets: tuple[Bucket, ...] = BUCKETS,
    clips: int = 40_000,
    bf16: bool = False,
) -> dict[Bucket, LatentPool]:
    """A pool for each size, `clips` in all, by the sizes' shares."""
    return {
        bucket: LatentPool(vae, bucket, max(2, round(clips * bucket.share)), generator, bf16)
        for bucket in buckets
    }


@torch.no_grad()
def update_average(average: dict[str, Tensor], painter: Painter, decay: float) -> None:
    """Move the running average towards the painter's present weights."""
    kept = [average[name] for name, _ in painter.named_parameters()]
    torch._foreach_lerp_(kept, [p.detach() for p in painter.parameters()], 1 - decay)
