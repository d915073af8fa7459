"""What pictures become before a Wan model denoises: the image encoder, and all around the VAE.

The VAE's encoder is a loop over frames and tiles. Here it is only noted (a CALL, with the number of
frames); `wan_vae` traces its calls, and the estimator puts them in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from webui.core.clip import PICTURES, ClipCard, ClipRequest
from webui.core.settings import Settings
from webui.pipelines import wan
from webui.pipelines.wan import conditions
from webui.tracing.fit import fit_costs, fit_tape, grid
from webui.tracing.recorder import Recorder, Recording
from webui.tracing.recording import record_run, weight_sizes
from webui.tracing.wan_request import request_of, settings_of

Arrays = dict[str, np.ndarray]

VARIABLES = ("t", "h", "w")
"""Frames of the clip, latent height and width."""
_SHAPES = [*grid(f=(3, 5), h=(8, 12), w=(16, 22)), {"f": 7, "h": 14, "w": 26}]
GIVEN = "picture"
"""Stands for a picture's file: on meta its pixels do not matter."""


def trace_image(card: ClipCard, precision: str) -> Arrays:
    """Weights of the image encoder, and the way of one and of two pictures through it.

    Models that take one picture and models that take two have the same encoder, and share a file.
    """
    pipe = wan.build_meta(card, settings_of(precision, text_encoder="absent"))
    arrays: Arrays = {"weights": weight_sizes(pipe.image_encoder)}

    def encode(count: int) -> torch.Tensor:
        pictures = [Image.new("RGB", (64, 64))] * count
        features: torch.Tensor = pipe.encode_image(pictures, pipe.run_device)
        return features.to(pipe.transformer.dtype)

    for count in range(1, len(PICTURES) + 1):
        with torch.no_grad():
            recording = record_run(pipe.image_encoder, "resident", lambda n=count: encode(n))
        arrays |= fit_tape([({}, recording.events)], ()).to_arrays(f"encode.{count}")
        arrays[f"costs.{count}"] = fit_costs([({}, recording.costs)], ())
    return arrays


def pictures_given(card: ClipCard) -> dict[str, tuple[str, ...]]:
    """The choices of pictures that a request of the model may come with, by name."""
    required = tuple(card.requires)
    if "transformer" in card.configs and card.configs["transformer"].get("vace_layers"):
        return {"none": (), "reference": ("image",)}
    return {"pictures": required or tuple(card.pictures)}


def trace_conditions(card: ClipCard, precision: str) -> Arrays:
    """Around the VAE's encoder, for each choice of pictures."""
    arrays: Arrays = {}
    settings = settings_of(precision, text_encoder="absent")
    for name, keys in pictures_given(card).items():
        recordings = []
        for shape in _SHAPES:
            request = request_of(card, shape, **dict.fromkeys(keys, GIVEN))
            recording = record_conditions(card, request, settings)
            recordings.append(({**shape, "t": request.frames}, recording.events))
        arrays |= fit_tape(recordings, VARIABLES).to_arrays(f"conditions.{name}")
    return arrays


def record_conditions(
    card: ClipCard, request: ClipRequest, settings: Settings, whole: bool = False
) -> Recording:
    """The phase's events without the image encoder; `whole` with the VAE's encoder's own."""
    configs = {name: value for name, value in card.configs.items() if name != "image_encoder"}
    pipe = wan.build_meta(replace(card, configs=configs), settings)
    pipe = wan.pipeline_for(pipe, request)

    def run(recorder: Recorder) -> Any:
        unread = nullcontext() if whole else unread_clips(pipe.vae, recorder.call)
        with given_pictures(), unread:
            return wan.encode_conditions(pipe, request, settings)

    return record_run(pipe.vae, "resident", run, wants_recorder=True)


@contextmanager
def given_pictures() -> Iterator[None]:
    """Inside, every picture is there, and grey."""

    def grey(asked: ClipRequest, key: str) -> Image.Image:
        return Image.new("RGB", (asked.width, asked.height), (128, 128, 128))

    with patch.object(conditions, "read_picture", grey):
        yield


@contextmanager
def unread_clips(vae: Any, on_clip: Callable[[int], None] = lambda frames: None) -> Iterator[None]:
    """Inside, the VAE's encoder gives its moments without running.

    Args:
        vae: on meta.
        on_clip: told the number of frames of each clip.
    """
    ratio, channels = vae.spatial_compression_ratio, 2 * int(vae.config.z_dim)

    def encode(clip: torch.Tensor) -> torch.Tensor:
        _, _, frames, height, width = clip.shape
        on_clip(frames)
        shape = (1, channels, (frames - 1) // 4 + 1, height // ratio, width // ratio)
        return torch.empty(shape, dtype=clip.dtype, device=clip.device)

    vae._encode = encode
    try:
        yield
    finally:
        del vae._encode
