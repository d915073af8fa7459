"""A run and its three phases, each one function, the same on a GPU, a processor and meta.

The steps are those of StableVideoDiffusionPipeline's `__call__`, cut where a component may leave
the card; the parts are the pipeline's own methods, and a test compares the result with it.

Shapes: B clips of the request (twice as many inside the loop with guidance), T frames, C latent
channels, H height and W width of the latent, D width of the image's embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from webui.core.clip import ClipRequest
from webui.pipelines.running import (
    CheckCancel,
    OnProgress,
    OnStep,
    Report,
    check_finite,
    checked,
    decode_each,
    noise_sources,
    to_frames,
)
from webui.pipelines.svd.pieces import set_pieces

MIN_GUIDANCE = 1.0
MOTION_BUCKET = 127
NOISE_AUGMENTATION = 0.02
"""The library's defaults (diffusers 0.42.1, StableVideoDiffusionPipeline.__call__): guidance rises
from this at the first frame to the request's at the last; amount of motion; noise on the
picture."""


@dataclass(slots=True)
class Encoded:
    """The picture as the model takes it, on the run's device."""

    embeddings: torch.Tensor
    """B 1 D; with guidance as many zero ones stand before them."""
    latents: torch.Tensor
    """B C H W; with guidance as many zero ones stand before them."""
    generators: list[torch.Generator]
    """Of each clip: has drawn the noise on its picture, and draws the clip's next."""


def run(
    pipe: Any, request: ClipRequest, settings: Mapping[str, Any], report: Report
) -> list[NDArray[np.uint8]]:
    """Picture to frames (T H W C, uint8) of each clip.

    Raises:
        Cancelled: the report says so, at the next block.
        RunFailed: the numbers overflowed.
    """
    report.begin("image_encode")
    encoded = encode(pipe, request, settings, check_cancel=report.check)
    report.begin("denoise")
    latents = denoise(
        pipe, encoded, request, settings, on_step=report.latent_step, check_cancel=report.check
    )
    check_finite(latents)
    del encoded
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
) -> Encoded:
    """The picture to an embedding, and to a latent for each clip, whose noise is its own.

    Without a picture (`verify`) a grey one.
    """
    image = _picture(request)
    sources = noise_sources(request)
    embeddings = encode_embedding(pipe, image, request, check_cancel=check_cancel)
    dtype = embeddings.dtype
    latents = [
        encode_latent(pipe, image, request, source, dtype, check_cancel=check_cancel)
        for source in sources
    ]
    if len(sources) == 1:
        return Encoded(embeddings, latents[0], sources)
    # Those without the picture come first, then those with it.
    together = torch.stack(latents, dim=1).flatten(0, 1)
    return Encoded(embeddings.repeat_interleave(request.batch, dim=0), together, sources)


@torch.no_grad()
def encode_embedding(
    pipe: Any, image: Image.Image, request: ClipRequest, *, check_cancel: CheckCancel | None = None
) -> torch.Tensor:
    """What the picture shows (1 1 D, with guidance 2 1 D), on the run's device.

    That is so wherever the encoder computes.
    """
    on_host = pipe.placement is not None and pipe.placement.modes["image_encoder"] == "host"
    where = torch.device("cpu") if on_host else pipe.run_device
    with checked(pipe.image_encoder.vision_model.encoder.layers, check_cancel):
        embeddings = pipe._encode_image(image, where, 1, request.guidance > 1)
    moved: torch.Tensor = embeddings.to(pipe.run_device)
    return moved


@torch.no_grad()
def encode_latent(
    pipe: Any,
    image: Image.Image,
    request: ClipRequest,
    generator: torch.Generator,
    dtype: torch.dtype,
    *,
    check_cancel: CheckCancel | None = None,
) -> torch.Tensor:
    """The picture, with a little noise, as a latent (1 C H W, with guidance 2 C H W).

    A VAE in fp16 encodes in fp32, as its configuration asks (`force_upcast`).
    """
    pixels = pipe.video_processor.preprocess(image, height=request.height, width=request.width)
    noise = torch.randn(pixels.shape, generator=generator, dtype=pixels.dtype)
    pixels = (pixels + NOISE_AUGMENTATION * noise).to(pipe.run_device)
    vae = pipe.vae
    narrow = vae.dtype
    upcast = narrow == torch.float16 and vae.config.force_upcast
    if upcast:
        _cast(vae, torch.float32)
    try:
        with checked(vae.encoder.down_blocks, check_cancel):
            latents = pipe._encode_vae_image(pixels, pipe.run_device, 1, request.guidance > 1)
        cast: torch.Tensor = latents.to(dtype)
        return cast
    finally:
        if upcast:
            _cast(vae, narrow)


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """As the pipeline does; the library's own `to` would log a warning about nothing."""
    nn.Module.to(module, dtype=dtype)


def _picture(request: ClipRequest) -> Image.Image:
    if not request.image:
        return Image.new("RGB", (request.width, request.height), (128, 128, 128))
    with Image.open(Path(request.image)) as opened:
        return opened.convert("RGB")


def build_scheduler(pipe: Any) -> Any:
    """The model's own solver."""
    config = {k: v for k, v in pipe.card.configs["scheduler"].items() if not k.startswith("_")}
    return EulerDiscreteScheduler.from_config(config)


@torch.no_grad()
def denoise(
    pipe: Any,
    encoded: Encoded,
    request: ClipRequest,
    settings: Mapping[str, Any] | None = None,
    *,
    on_step: OnStep | None = None,
    check_cancel: CheckCancel | None = None,
) -> torch.Tensor:
    """Noise to a latent (B T C H W, in the UNet's number format).

    The noise is drawn on the processor, so that a seed means the same on every device.
    """
    chosen = settings or {}
    set_pieces(pipe.unet, int(chosen.get("ffn_chunks", 1)))
    passes = 2 if chosen.get("split_guidance") and request.guided else 1
    pipe.scheduler = scheduler = build_scheduler(pipe)
    try:
        with checked(_blocks(pipe.unet), check_cancel):
            return _loop(pipe, scheduler, encoded, request, passes, on_step)
    finally:
        pipe.scheduler = None


def _loop(
    pipe: Any,
    scheduler: Any,
    encoded: Encoded,
    request: ClipRequest,
    passes: int,
    on_step: OnStep | None,
) -> torch.Tensor:
    guided = request.guided
    device, dtype = pipe.run_device, encoded.embeddings.dtype
    image_latents = encoded.latents.unsqueeze(1).repeat(1, request.frames, 1, 1, 1)
    # The model was trained with the rate less one (Stability-AI/generative-models,
    # scripts/sampling/simple_video_sample.py).
    time_ids = pipe._get_add_time_ids(
        request.fps - 1, MOTION_BUCKET, NOISE_AUGMENTATION, dtype, request.batch, 1, guided
    ).to(device)
    # On the processor: the solver looks up each time's place, which a GPU would be waited for.
    scheduler.set_timesteps(request.steps)
    latents = pipe.prepare_latents(
        request.batch,
        request.frames,
        int(pipe.unet.config.in_channels),
        request.height,
        request.width,
        dtype,
        device,
        encoded.generators,
    )
    guidance = torch.linspace(MIN_GUIDANCE, request.guidance, request.frames)
    guidance = guidance.to(device, dtype).view(1, -1, 1, 1, 1)
    for index, time in enumerate(scheduler.timesteps):
        doubled = torch.cat([latents] * 2) if guided else latents
        doubled = scheduler.scale_model_input(doubled, time)
        doubled = torch.cat([doubled, image_latents], dim=2)
        halves = zip(
            doubled.chunk(passes),
            encoded.embeddings.chunk(passes),
            time_ids.chunk(passes),
            strict=True,
        )
        predictions = [
            pipe.unet(
                sample,
                time,
                encoder_hidden_states=embeddings,
                added_time_ids=ids,
                return_dict=False,
            )[0]
            for sample, embeddings, ids in halves
        ]
        predicted = predictions[0] if passes == 1 else torch.cat(predictions)
        del predictions
        if guided:
            without, with_image = predicted.chunk(2)
            predicted = without + guidance * (with_image - without)
        stepped = scheduler.step(predicted, time, latents)
        latents = stepped.prev_sample
        if on_step is not None:
            on_step(index + 1, request.steps, stepped.pred_original_sample.transpose(1, 2))
        del stepped
    return latents


def _blocks(unet: Any) -> list[Any]:
    return [*unet.down_blocks, unet.mid_block, *unet.up_blocks]


@torch.no_grad()
def decode(
    pipe: Any,
    latents: torch.Tensor,
    settings: Mapping[str, Any],
    *,
    on_progress: OnProgress | None = None,
    check_cancel: CheckCancel | None = None,
) -> NDArray[np.uint8]:
    """One clip's latent (1 T C H W) to frames (T H W C, uint8) in host memory, chunk by chunk."""
    count = int(latents.shape[1])
    chunk = min(count, int(settings["decode_chunk"]))
    total = -(-count // chunk)
    done = 0

    def on_call() -> None:
        nonlocal done
        if check_cancel is not None:
            check_cancel()
        if on_progress is not None:
            on_progress(done, total)
        done += 1

    with checked((pipe.vae.decoder,), on_call):
        video = pipe.decode_latents(latents.to(pipe.vae.dtype), count, chunk)
    if on_progress is not None:
        on_progress(total, total)
    return to_frames(video)
