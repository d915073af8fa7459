"""Draws clips with the demo checkpoint through the plain `WanPipeline`, as the app does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler, WanPipeline
from numpy.typing import NDArray
from PIL import Image

from webui.demo import CHECKPOINT
from webui.demo.vocabulary import DEFAULTS, Defaults

SOLVERS: dict[str, Any] = {
    "unipc": UniPCMultistepScheduler,
    "dpm++": DPMSolverMultistepScheduler,
}


def load_pipeline(
    checkpoint: Path = CHECKPOINT,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> WanPipeline:
    """The pipeline, with nothing beside the checkpoint; no network."""
    pipeline = WanPipeline.from_pretrained(checkpoint, dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def set_solver(pipeline: WanPipeline, solver: str, flow_shift: float) -> None:
    """Change solver and shift in place, keeping the rest of the scheduler's configuration."""
    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}: one of {', '.join(SOLVERS)}")
    pipeline.scheduler = SOLVERS[solver].from_config(
        pipeline.scheduler.config,
        flow_shift=flow_shift,
        use_flow_sigmas=True,
        prediction_type="flow_prediction",
    )


def draw_clips(
    pipeline: WanPipeline,
    texts: list[str],
    seeds: list[int],
    settings: Defaults = DEFAULTS,
    negative_prompt: str = "",
) -> list[NDArray[np.uint8]]:
    """One clip for each prompt, drawn together; a clip depends on its own prompt and seed only.

    Args:
        pipeline: from `load_pipeline`.
        texts: the prompts.
        seeds: one for each prompt; the noise is drawn on the CPU, so any device gives the same.
        settings: sizes, steps, guidance, shift and solver.
        negative_prompt: for all.

    Returns:
        T H W 3 each, 0 to 255.
    """
    set_solver(pipeline, settings.solver, settings.flow_shift)
    clips = pipeline(
        prompt=texts,
        negative_prompt=negative_prompt,
        num_frames=settings.frames,
        height=settings.height,
        width=settings.width,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        max_sequence_length=settings.max_sequence_length,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
    ).frames
    return [np.clip(clip * 255 + 0.5, 0, 255).astype(np.uint8) for clip in clips]


def save_animation(clip: NDArray[np.uint8], path: Path, fps: int = DEFAULTS.fps) -> None:
    """Write a clip as an animated WebP, GIF or PNG, by the path's ending; loops for ever."""
    frames = [Image.fromarray(frame) for frame in clip]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0
    )


def with_settings(**changes: Any) -> Defaults:
    """The defaults with what is given (not None) changed."""
    return replace(DEFAULTS, **{key: value for key, value in changes.items() if value is not None})
