"""Trains the whole demo from nothing into a diffusers folder: `python -m webui.demo train`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from webui.demo import networks, train_transformer, train_vae
from webui.demo.generate import load_pipeline
from webui.demo.muon import build_optimisers
from webui.demo.pool import PromptBank
from webui.demo.schedule import Progress
from webui.demo.tokenizer import build_tokenizer, wrap
from webui.demo.train_transformer import Painter


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """One training run.

    Args:
        output: the folder that becomes the checkpoint.
        state: a file that keeps the run, so that the same command resumes it.
        device: "cuda" or "cpu".
        minutes_vae: minutes for the autoencoder, over all sessions.
        minutes_transformer: minutes for transformer and text encoder, over all sessions.
        steps_vae: ends the autoencoder's training earlier.
        steps_transformer: ends the transformer's training earlier.
        pause_after: minutes after which this session saves and stops.
        batch_scale: share of the full batch, for small machines.
        clips: encoded clips kept for the transformer.
        phrasings: prompts for each combination.
        start_from: a checkpoint to improve instead of starting from nothing.
        seed: of everything random.
    """

    output: Path
    state: Path
    device: str
    minutes_vae: float = 11.0
    minutes_transformer: float = 30.0
    steps_vae: int | None = None
    steps_transformer: int | None = None
    pause_after: float | None = None
    batch_scale: float = 1.0
    clips: int = 24_000
    phrasings: int = 48
    start_from: Path | None = None
    seed: int = 0


def train(plan: TrainingPlan) -> bool:
    """Run or resume a training run; writes the checkpoint at its end and at a pause.

    Returns:
        Whether the run is complete.
    """
    session_start = time.monotonic()

    def should_pause() -> bool:
        limit = plan.pause_after
        return limit is not None and time.monotonic() - session_start > 60 * limit

    torch.manual_seed(plan.seed)
    torch.set_float32_matmul_precision("high")
    device = torch.device(plan.device)
    saved: dict[str, Any] = {}
    if plan.state.exists():
        saved = torch.load(plan.state, map_location=device, weights_only=True)
    tokenizer = _tokenizer(plan, saved)
    vae = networks.build_vae().to(device)
    painter = Painter(networks.build_transformer(), networks.build_text_encoder(len(tokenizer))).to(
        device
    )
    if plan.start_from is not None:
        _load_weights(plan.start_from, vae, painter)
    average = {name: value.detach().clone() for name, value in painter.state_dict().items()}
    vae_optimisers = build_optimisers(vae, train_vae.MATRIX_RATE, train_vae.OTHER_RATE)
    optimisers = build_optimisers(
        painter, train_transformer.MATRIX_RATE, train_transformer.OTHER_RATE
    )
    if saved:
        vae.load_state_dict(saved["vae"])
        vae.register_to_config(**saved["latent_statistics"])
        painter.load_state_dict(saved["painter"])
        average = saved["average"]
        for optimiser, kept in zip(vae_optimisers + optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
    vae_progress = Progress(plan.minutes_vae, plan.steps_vae, *saved.get("vae_progress", (0.0, 0)))
    progress_values = saved.get("progress", (0.0, 0))

    def save_state(values: tuple[float, int]) -> None:
        plan.state.parent.mkdir(parents=True, exist_ok=True)
        torch.save(
            {
                "tokenizer": tokenizer.backend_tokenizer.to_str(),
                "vae": vae.state_dict(),
                "latent_statistics": {
                    "latents_mean": list(vae.config.latents_mean),
                    "latents_std": list(vae.config.latents_std),
                },
                "painter": painter.state_dict(),
                "average": average,
                "optimisers": [o.state_dict() for o in vae_optimisers + optimisers],
                "vae_progress": (vae_progress.elapsed_s, vae_progress.step),
                "progress": values,
            },
            plan.state,
        )

    kernels = train_vae.fastest_kernels(vae, device)
    if vae_progress.fraction < 1:
        train_vae.train_vae(
            vae,
            vae_progress,
            device=device,
            optimisers=vae_optimisers,
            batch_scale=plan.batch_scale,
            kernels=kernels,
            seed=plan.seed,
            should_pause=should_pause,
        )
        train_vae.set_latent_statistics(vae, device, clips=max(32, round(512 * plan.batch_scale)))
    vae_done = vae_progress.fraction >= 1
    complete = False
    if vae_done and not should_pause():
        vae.requires_grad_(False).eval()
        generator = torch.Generator(device).manual_seed(plan.seed + progress_values[1])
        bank = PromptBank(tokenizer, plan.phrasings, device, seed=plan.seed)
        pools = train_transformer.build_pools(vae, generator, clips=plan.clips, bf16=kernels.bf16)
        print(f"pools ready after {time.monotonic() - session_start:.0f} s", flush=True)
        progress = Progress(plan.minutes_transformer, plan.steps_transformer, *progress_values)
        train_transformer.train_painter(
            painter,
            average,
            pools,
            bank,
            progress,
            optimisers=optimisers,
            generator=generator,
            step_tokens=round(train_transformer.STEP_TOKENS * plan.batch_scale),
            should_pause=should_pause,
            save=lambda: save_state((progress.elapsed_s, progress.step)),
        )
        progress_values = (progress.elapsed_s, progress.step)
        complete = progress.fraction >= 1

    save_state(progress_values)
    export(plan.output, vae, painter, average, tokenizer)
    return complete


def _tokenizer(plan: TrainingPlan, saved: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The run's own tokenizer, that of the checkpoint it starts from, or a new one."""
    if saved:
        return wrap(Tokenizer.from_str(saved["tokenizer"]))
    if plan.start_from is not None:
        return wrap(Tokenizer.from_file(str(plan.start_from / "tokenizer" / "tokenizer.json")))
    return build_tokenizer()


def _load_weights(folder: Path, vae: Any, painter: Painter) -> None:
    """Copy a checkpoint's weights and latent statistics into the networks."""
    pipeline = load_pipeline(folder)
    vae.load_state_dict(pipeline.vae.state_dict())
    vae.register_to_config(
        latents_mean=list(pipeline.vae.config.latents_mean),
        latents_std=list(pipeline.vae.config.latents_std),
    )
    painter.transformer.load_state_dict(pipeline.transformer.state_dict())
    painter.text_encoder.load_state_dict(pipeline.text_encoder.state_dict())


def export(
    output: Path,
    vae: Any,
    painter: Painter,
    average: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Write the checkpoint with the averaged weights; the painter keeps its own."""
    own = {name: value.clone() for name, value in painter.state_dict().items()}
    painter.load_state_dict(average)
    networks.save_checkpoint(
        output,
        vae=vae,
        transformer=painter.transformer,
        text_encoder=painter.text_encoder,
        tokenizer=tokenizer,
    )
    painter.load_state_dict(own)
