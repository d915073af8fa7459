"""A run and its phases, each one function, the same on a GPU, a processor and meta.

Shapes: B clips of the request, L text tokens, D text width, C channels, T frames, H height, W width
(latent frames and sides where the tensor is a latent).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from webui.core.clip import ClipCard, ClipRequest
from webui.pipelines.running import (
    CheckCancel,
    OnProgress,
    OnStep,
    Report,
    before_first,
    check_finite,
    checked,
    decode_each,
    noise_sources,
    to_frames,
)
from webui.pipelines.solving import solving_on_host
from webui.pipelines.wan.components import component_dtype
from webui.pipelines.wan.conditions import encode_conditions, takes_conditions
from webui.pipelines.wan.kinds import (
    Conditions,
    PlacedWanImagePipeline,
    pipeline_for,
    without_pictures,
)
from webui.pipelines.wan.pieces import set_pieces
from webui.pipelines.wan.step_cache import step_cache
from webui.pipelines.wan.tiling import decoder_calls, set_tiling


@dataclass(slots=True)
class Embeddings:
    """Text embeddings (1 L D); `negative` is None when there is no guidance."""

    positive: torch.Tensor
    negative: torch.Tensor | None


def run(
    pipe: Any, request: ClipRequest, settings: Mapping[str, Any], report: Report
) -> list[NDArray[np.uint8]]:
    """Prompt, and pictures where the model takes them, to frames (T H W C, uint8) of each clip.

    Raises:
        Cancelled: the report says so, at the next block.
        RunFailed: the numbers overflowed.
    """
    pipe = pipeline_for(pipe, request)
    report.begin("encode")
    embeddings = encode(pipe, request, settings, check_cancel=report.check)
    conditions = None
    if takes_conditions(pipe):
        report.begin("image_encode")
        conditions = encode_conditions(pipe, request, settings, check_cancel=report.check)
    first, *later = denoise_phases(pipe.card)
    report.begin(first)
    latents = denoise(
        pipe,
        embeddings,
        request,
        settings,
        conditions,
        on_step=report.latent_step,
        on_second=lambda: report.begin(later[0]),
        check_cancel=report.check,
    )
    check_finite(latents)
    del embeddings, conditions
    report.begin("decode")

    def decoded(latent: torch.Tensor, on_progress: OnProgress) -> NDArray[np.uint8]:
        return decode(pipe, latent, settings, on_progress=on_progress, check_cancel=report.check)

    return decode_each(latents, decoded, report.step)


@torch.no_grad()
def encode(
    pipe: Any,
    request: ClipRequest,
    settings: Mapping[str, Any],
    *,
    check_cancel: CheckCancel | None = None,
) -> Embeddings:
    """Prompt and negative prompt to embeddings on the run's device.

    Without a text encoder (`absent`; on meta also `cpu`) the embeddings are drawn.
    """
    guided = request.guided
    length = pipe.card.max_sequence_length
    if pipe.prompts is not None:
        prompts = [request.prompt, *([request.negative_prompt] if guided else [])]
        made = pipe.prompts.embed(pipe, prompts, check_cancel)
        return Embeddings(made[0], made[1] if guided else None)
    if pipe.text_encoder is None:
        shape = (1, length, int(pipe.transformer.config.text_dim))
        dtype = component_dtype("text_encoder", settings)
        drawn = [_drawn(shape, dtype, pipe.run_device, seed) for seed in range(1 + guided)]
        return Embeddings(drawn[0], drawn[1] if guided else None)
    # What an encoder on the processor makes is moved once, when it is done.
    on_host = settings.get("text_encoder") == "cpu" and pipe.run_device.type != "meta"
    on_meta = _MetaAnswers() if pipe.run_device.type == "meta" else nullcontext()
    with on_meta, checked(pipe.text_encoder.encoder.block, check_cancel):
        positive, negative = pipe.encode_prompt(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            do_classifier_free_guidance=guided,
            max_sequence_length=length,
            device=torch.device("cpu") if on_host else pipe.run_device,
        )
    made = [item.to(pipe.run_device) for item in (positive, negative)[: 1 + guided]]
    return Embeddings(made[0], made[1] if guided else None)


class _MetaAnswers(TorchDispatchMode):
    """Answers questions about values on meta with 0.

    The text encoder asks whether its mask hides nothing (transformers/masking_utils.py); with a
    real prompt the answer is no.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return False if args[0].dtype == torch.bool else 0
        return func(*args, **(kwargs or {}))


def _drawn(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, seed: int
) -> torch.Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype).to(device)


def second_guidance(card: ClipCard, guidance: float) -> float:
    """The second transformer's guidance: how far the authors' two values are from none (1), in the
    proportion that the request asks for."""
    authors = float(card.pipeline["guidance_2"])
    return 1 + (guidance - 1) * (authors - 1) / (card.defaults.guidance - 1)


def build_scheduler(pipe: Any, request: ClipRequest) -> Any:
    """The request's solver, from the model's own configuration."""
    config = {k: v for k, v in pipe.card.configs["scheduler"].items() if not k.startswith("_")}
    if request.solver == "unipc":
        return solving_on_host(
            _from_the_start(
                UniPCMultistepScheduler.from_config(config, flow_shift=request.flow_shift)
            )
        )
    return _from_the_start(
        DPMSolverMultistepScheduler.from_config(
            {key: config[key] for key in ("num_train_timesteps",) if key in config},
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=request.flow_shift,
        )
    )


def _from_the_start(scheduler: Any) -> Any:
    """The scheduler, which begins at its first step instead of looking that up by its time.

    WanPipeline does so; its siblings leave the lookup, which waits for the device, and skips a step
    where two times are the same whole number.
    """
    set_timesteps = scheduler.set_timesteps

    def set_and_begin(*arguments: Any, **named: Any) -> None:
        set_timesteps(*arguments, **named)
        scheduler.set_begin_index(0)

    scheduler.set_timesteps = set_and_begin
    return scheduler


@torch.no_grad()
def denoise(
    pipe: Any,
    embeddings: Embeddings,
    request: ClipRequest,
    settings: Mapping[str, Any] | None = None,
    conditions: Conditions | None = None,
    *,
    on_step: OnStep | None = None,
    on_second: Callable[[], None] | None = None,
    check_cancel: CheckCancel | None = None,
) -> torch.Tensor:
    """Noise to a normalised latent (B C T H W, float32), through the pipeline's own loop.

    The noise is drawn on the processor, so that a seed means the same on every device.

    Args:
        pipe: of the kind that the request takes.
        embeddings: of the prompts.
        request: the workload.
        settings: `ffn_chunks` and `step_cache` among them.
        conditions: of the pictures, where the pipeline takes them.
        on_step: told after every step, which is counted for each transformer by itself.
        on_second: called once, before a second transformer takes over.
        check_cancel: asked before every block.
    """
    transformers = [part for part in (pipe.transformer, pipe.transformer_2) if part is not None]
    for transformer in transformers:
        set_pieces(transformer, int((settings or {}).get("ffn_chunks", 1)))
    pipe.scheduler = build_scheduler(pipe, request)
    pipe.conditions = conditions

    def on_end(_pipe: Any, index: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        if on_step is not None:
            predicted = pipe.scheduler.model_outputs[-1]
            clean = values["latents"] if predicted is None else predicted
            first = _first_steps(pipe, request)
            if index < first:
                on_step(index + 1, first, clean)
            else:
                on_step(index + 1 - first, request.steps - first, clean)
        return {}

    negative = embeddings.negative
    arguments: dict[str, Any] = {
        "prompt_embeds": embeddings.positive.expand(request.batch, -1, -1),
        "negative_prompt_embeds": (
            None if negative is None else negative.expand(request.batch, -1, -1)
        ),
        "height": request.height,
        "width": request.width,
        "num_frames": request.frames,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance,
        "generator": noise_sources(request),
        "output_type": "latent",
        "callback_on_step_end": on_end,
        "max_sequence_length": pipe.card.max_sequence_length,
    }
    if pipe.transformer_2 is not None:
        # The authors' two values, in the proportion that the request asks for.
        arguments["guidance_scale_2"] = second_guidance(pipe.card, request.guidance)
    processor = pipe.video_processor
    if isinstance(pipe, PlacedWanImagePipeline):
        arguments["image"] = torch.empty(0)
        pipe.video_processor = without_pictures()
    blocks = [block for transformer in transformers for block in blocks_of(transformer)]
    try:
        with (
            before_first(pipe.transformer_2, on_second),
            step_cache(pipe, settings or {}),
            checked(blocks, check_cancel),
        ):
            latents = pipe(**arguments).frames
    finally:
        # The solver's history is of latent size and would stay on the card while decoding.
        pipe.scheduler = pipe.conditions = None
        pipe.video_processor = processor
    assert isinstance(latents, torch.Tensor)
    return latents[:, :, conditions.references :] if conditions is not None else latents


def _first_steps(pipe: Any, request: ClipRequest) -> int:
    """Steps that the first transformer does: all where there is no second."""
    if pipe.transformer_2 is None:
        return request.steps
    boundary = pipe.config.boundary_ratio * pipe.scheduler.config.num_train_timesteps
    return int((pipe.scheduler.timesteps >= boundary).sum())


def denoise_phases(card: ClipCard) -> tuple[str, ...]:
    """One phase for each transformer."""
    two = "transformer_2" in card.configs
    return ("denoise_high", "denoise_low") if two else ("denoise",)


def blocks_of(transformer: Any) -> list[nn.Module]:
    """All blocks of a transformer, those that follow a control clip among them."""
    return [*transformer.blocks, *getattr(transformer, "vace_blocks", ())]


@torch.no_grad()
def decode(
    pipe: Any,
    latents: torch.Tensor,
    settings: Mapping[str, Any],
    *,
    on_progress: OnProgress | None = None,
    check_cancel: CheckCancel | None = None,
) -> NDArray[np.uint8]:
    """A normalised latent (B C T H W) to frames (T H W C, uint8) in host memory.

    The steps are those of WanPipeline's `__call__`, but frames are converted one at a time, so
    that the device's peak is that of `vae.decode` itself.
    """
    vae = pipe.vae
    set_tiling(vae, settings)
    latents = latents.to(pipe.run_device, vae.dtype)
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(latents.device, latents.dtype)
    inverse_std = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(
        latents.device, latents.dtype
    )
    latents = latents / inverse_std + mean
    total = decoder_calls(vae, latents.shape)
    done = 0

    def on_call() -> None:
        nonlocal done
        if check_cancel is not None:
            check_cancel()
        if on_progress is not None:
            on_progress(done, total)
        done += 1

    try:
        with checked((vae.decoder,), on_call):
            video = vae.decode(latents, return_dict=False)[0]
    finally:
        vae.clear_cache()
    if on_progress is not None:
        on_progress(total, total)
    return to_frames(video)
