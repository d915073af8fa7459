"""The parts of a Stable Video Diffusion pipeline as empty modules, and the pipeline around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import (
    AutoencoderKLTemporalDecoder,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from webui.core.clip import ClipCard
from webui.pipelines.modules import DTYPES, cast_parameters
from webui.pipelines.svd.pieces import make_splittable

COMPONENTS = ("image_encoder", "unet", "vae")
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the training images (openai/CLIP, clip/clip.py); what `feature_extractor` of the published
checkpoint has."""


class PlacedSvdPipeline(StableVideoDiffusionPipeline):
    """The library's pipeline, told where it runs instead of guessing from where the weights lie."""

    card: ClipCard
    run_device: torch.device = torch.device("cpu")
    placement: Any = None

    @property
    def _execution_device(self) -> torch.device:
        return self.run_device


@dataclass(slots=True)
class PixelValues:
    """What the pipeline reads of a feature extractor's answer."""

    pixel_values: torch.Tensor


class ClipNormalizer:
    """What the pipeline asks of its `CLIPImageProcessor`: only the normalisation.

    The library's own class would bring torchvision, for one subtraction and one division.
    """

    def __init__(
        self, mean: tuple[float, ...] = CLIP_MEAN, std: tuple[float, ...] = CLIP_STD
    ) -> None:
        self._mean = torch.tensor(mean).view(1, 3, 1, 1)
        self._std = torch.tensor(std).view(1, 3, 1, 1)

    def __call__(self, images: torch.Tensor, **_: Any) -> PixelValues:
        """Pixels in 0..1 (B 3 H W) as the encoder takes them."""
        return PixelValues((images - self._mean) / self._std)


def component_dtype(component: str, settings: Mapping[str, Any]) -> torch.dtype:
    """The number format that the settings ask for."""
    return DTYPES[str(settings["vae_precision" if component == "vae" else "precision"])]


def new_module(component: str, card: ClipCard) -> nn.Module:
    """A component by its configuration, as its class makes it (on the current default device)."""
    config = {k: v for k, v in card.configs[component].items() if not k.startswith("_")}
    if component == "unet":
        return UNetSpatioTemporalConditionModel.from_config(config)
    if component == "vae":
        return AutoencoderKLTemporalDecoder.from_config(config)
    kinds = ("architectures", "model_type")
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(**{k: v for k, v in config.items() if k not in kinds})
    )


def meta_module(component: str, card: ClipCard, settings: Mapping[str, Any]) -> nn.Module:
    """A component with parameters and buffers on the meta device."""
    with torch.device("meta"):
        module = new_module(component, card)
    # `mix_factor` is made from a list, which the default device does not reach.
    module = module.to("meta")
    return finish_module(cast_parameters(module, component_dtype(component, settings)))


def empty_module(component: str, card: ClipCard, settings: Mapping[str, Any]) -> nn.Module:
    """A component with parameters on meta, to be filled, and real buffers."""
    with init_empty_weights(include_buffers=False):
        module = new_module(component, card)
    return cast_parameters(module, component_dtype(component, settings))


def finish_module(module: nn.Module) -> nn.Module:
    """What every component needs before it runs."""
    make_splittable(module)
    return module.eval().requires_grad_(False)


def new_pipeline(card: ClipCard, parts: Mapping[str, Any], device: torch.device) -> Any:
    """The pipeline around its parts; the scheduler is made anew for every request."""
    pipe: Any = PlacedSvdPipeline(
        vae=parts["vae"],
        image_encoder=parts["image_encoder"],
        unet=parts["unet"],
        scheduler=None,
        feature_extractor=None,
    )
    pipe.feature_extractor = parts.get("feature_extractor") or ClipNormalizer()
    pipe.card = card
    pipe.run_device = device
    pipe.set_progress_bar_config(disable=True)
    return pipe
