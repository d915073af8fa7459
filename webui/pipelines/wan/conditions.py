"""The phase between prompt and denoising: what the pictures of a request become.

Shapes: C channels, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from webui.core.clip import ClipRequest
from webui.pipelines.running import CheckCancel, checked, noise_sources
from webui.pipelines.wan.kinds import Conditions, PlacedWanControlPipeline, PlacedWanPipeline
from webui.pipelines.wan.tiling import set_tiling


def takes_conditions(pipe: Any) -> bool:
    """Whether the pipeline has pictures, or a clip, to encode before it denoises."""
    return not isinstance(pipe, PlacedWanPipeline)


@torch.no_grad()
def encode_conditions(
    pipe: Any,
    request: ClipRequest,
    settings: Mapping[str, Any],
    *,
    check_cancel: CheckCancel | None = None,
) -> Conditions:
    """Pictures to features and latents, by the pipeline's own methods, on the run's device.

    Where a picture is needed and none is given (`verify`) it is grey.
    """
    pipe.conditions = None
    set_tiling(pipe.vae, settings)
    try:
        with checked((pipe.vae.encoder,), check_cancel):
            if isinstance(pipe, PlacedWanControlPipeline):
                return _control(pipe, request)
            return _pictures(pipe, request, check_cancel)
    finally:
        pipe.vae.clear_cache()


def _pictures(pipe: Any, request: ClipRequest, check_cancel: CheckCancel | None) -> Conditions:
    pictures = [read_picture(request, key) for key in pictures_of(pipe, request)]
    embeddings = None
    if pipe.image_encoder is not None:
        with checked(pipe.image_encoder.encoder.layers, check_cancel):
            embeddings = pipe.encode_image(pictures, pipe.run_device)
        embeddings = embeddings.to(pipe.transformer.dtype)
    pixels = [
        pipe.video_processor.preprocess(picture, height=request.height, width=request.width).to(
            pipe.run_device, torch.float32
        )
        for picture in pictures
    ]
    noise, *others = pipe.prepare_latents(
        pixels[0],
        1,
        int(pipe.vae.config.z_dim),
        request.height,
        request.width,
        request.frames,
        torch.float32,
        pipe.run_device,
        noise_sources(request)[0],
        None,
        pixels[1] if len(pixels) > 1 else None,
    )
    if request.batch > 1:
        shape = (request.batch, *noise.shape[1:])
        noise = randn_tensor(shape, noise_sources(request), pipe.run_device, noise.dtype)
    return Conditions((noise, *others), embeddings)


def _control(pipe: Any, request: ClipRequest) -> Conditions:
    picture = read_picture(request, "image") if request.image else None
    clip, mask, references = pipe.preprocess_conditions(
        None,
        None,
        picture,
        1,
        request.height,
        request.width,
        request.frames,
        torch.float32,
        pipe.run_device,
    )
    latents = pipe.prepare_video_latents(clip, mask, references, None, pipe.run_device)
    masks = pipe.prepare_masks(mask, references)
    return Conditions((latents, masks), references=len(references[0]), clips=request.batch)


def pictures_of(pipe: Any, request: ClipRequest) -> tuple[str, ...]:
    """The request's keys of the pictures that it starts from and ends with."""
    named = [key for key in pipe.card.pictures if getattr(request, key)]
    return tuple(dict.fromkeys([*pipe.card.requires, *named]))


def read_picture(request: ClipRequest, key: str) -> Image.Image:
    """The picture under a key of the request, in RGB; grey where none is named."""
    path = getattr(request, key)
    if not path:
        return Image.new("RGB", (request.width, request.height), (128, 128, 128))
    with Image.open(Path(path)) as opened:
        return opened.convert("RGB")
