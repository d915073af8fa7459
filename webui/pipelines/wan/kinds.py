"""The library's Wan pipelines, told where they run, and cut where weights may leave the card.

Their `__call__` encodes pictures and prompts and denoises in one go, with all components on the
card. Here what the pictures give is made in a phase of its own and handed back when the loop asks
for it, so that the numbers are the library's and the loop's memory is the loop's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import WanImageToVideoPipeline, WanPipeline, WanVACEPipeline
from diffusers.video_processor import VideoProcessor
from transformers import CLIPImageProcessorPil

from webui.core.clip import ClipCard, ClipRequest
from webui.pipelines.wan.components import COMPONENTS, transformer_class
from webui.pipelines.wan.prompts import PromptCache


@dataclass(slots=True)
class Conditions:
    """What the pictures of a request become, on the run's device."""

    latents: tuple[torch.Tensor, ...]
    """What the pipeline's `prepare_latents` (image) or `prepare_video_latents` and `prepare_masks`
    (control) gave: of one clip, but the noise, which is of all."""
    embeddings: torch.Tensor | None = None
    """Features of the pictures (pictures, tokens, width), for models with an image encoder."""
    references: int = 0
    """Latent frames that stand before the clip's own and are dropped at the end."""
    clips: int = 1
    """Clips that a control model denoises together."""

    def of_each(self, index: int) -> torch.Tensor:
        """One of the latents for all clips, without a copy."""
        return self.latents[index].expand(self.clips, -1, -1, -1, -1)


class _NoPicture(VideoProcessor):  # type: ignore[misc]
    """Stands in for the pipeline's processor once the pictures are encoded."""

    def preprocess(self, *_: Any, **__: Any) -> torch.Tensor:
        return torch.empty(0)


class _Placed:
    """Told where it runs instead of guessing from where the weights lie.

    With offloading the weights are on the host between phases, and with the text encoder on the
    processor the first component is too; both would make the library choose the wrong device.
    """

    card: ClipCard
    run_device: torch.device = torch.device("cpu")
    placement: Any = None
    prompts: PromptCache | None = None
    """Stands for the text encoder where the settings say `cached`."""
    conditions: Conditions | None = None
    """Made by `webui.pipelines.wan.conditions`; the loop is given them."""

    @property
    def _execution_device(self) -> torch.device:
        return self.run_device


class PlacedWanPipeline(_Placed, WanPipeline):  # type: ignore[misc]
    """Text to video."""


class PlacedWanImagePipeline(_Placed, WanImageToVideoPipeline):  # type: ignore[misc]
    """Starts from a picture, and may end with one."""

    def encode_image(self, *arguments: Any, **named: Any) -> torch.Tensor:
        if self.conditions is not None and self.conditions.embeddings is not None:
            return self.conditions.embeddings
        features: torch.Tensor = super().encode_image(*arguments, **named)
        return features

    def prepare_latents(self, *arguments: Any, **named: Any) -> tuple[torch.Tensor, ...]:
        if self.conditions is not None:
            noise, condition, *mask = self.conditions.latents
            if not mask:
                condition = condition.expand(len(noise), -1, -1, -1, -1)
            return (noise, condition, *mask)
        latents: tuple[torch.Tensor, ...] = super().prepare_latents(*arguments, **named)
        return latents


class PlacedWanControlPipeline(_Placed, WanVACEPipeline):  # type: ignore[misc]
    """Follows a picture that shows who or what should appear."""

    def preprocess_conditions(self, *arguments: Any, **named: Any) -> tuple[Any, Any, Any]:
        if self.conditions is not None:
            nothing = torch.empty(0)
            return nothing, nothing, [[nothing] * self.conditions.references]
        prepared: tuple[Any, Any, Any] = super().preprocess_conditions(*arguments, **named)
        return prepared

    def prepare_video_latents(self, *arguments: Any, **named: Any) -> torch.Tensor:
        if self.conditions is not None:
            return self.conditions.of_each(0)
        latents: torch.Tensor = super().prepare_video_latents(*arguments, **named)
        return latents

    def prepare_masks(self, *arguments: Any, **named: Any) -> torch.Tensor:
        if self.conditions is not None:
            return self.conditions.of_each(1)
        masks: torch.Tensor = super().prepare_masks(*arguments, **named)
        return masks


def kind_of(card: ClipCard, request: ClipRequest | None = None) -> type[_Placed]:
    """The pipeline that a model, or one of its requests, takes."""
    if transformer_class(card).__name__ == "WanVACETransformer3DModel":
        return PlacedWanControlPipeline
    if "image" in card.requires or (request is not None and request.image):
        return PlacedWanImagePipeline
    return PlacedWanPipeline


def new_pipeline(
    card: ClipCard,
    parts: Mapping[str, Any],
    device: torch.device,
    kind: type[_Placed] | None = None,
) -> Any:
    """The pipeline around its parts; the scheduler is made anew for every request."""
    kind = kind or kind_of(card)
    components = {name: parts.get(name) for name in COMPONENTS if name != "image_encoder"}
    arguments = {key: card.pipeline[key] for key in _ARGUMENTS if key in card.pipeline}
    if kind is PlacedWanImagePipeline:
        components["image_encoder"] = parts.get("image_encoder")
    made: Any = kind
    pipe = made(tokenizer=None, scheduler=None, **components, **arguments)
    pipe.tokenizer = parts.get("tokenizer")
    if kind is PlacedWanImagePipeline:
        pipe.image_processor = parts.get("image_processor") or CLIPImageProcessorPil()
    pipe.card = card
    pipe.run_device = device
    pipe.set_progress_bar_config(disable=True)
    return pipe


_ARGUMENTS = ("boundary_ratio", "expand_timesteps")
"""Of a card's `pipeline`, what the library's classes are made with."""


def pipeline_for(pipe: Any, request: ClipRequest) -> Any:
    """The pipeline that the request takes, around the same parts."""
    kind = kind_of(pipe.card, request)
    if type(pipe) is kind:
        return pipe
    parts = {name: getattr(pipe, name, None) for name in (*COMPONENTS, "tokenizer")}
    other = new_pipeline(pipe.card, parts, pipe.run_device, kind)
    other.placement, other.prompts = pipe.placement, pipe.prompts
    return other


def without_pictures() -> VideoProcessor:
    """What the pipeline prepares pictures with, once they are encoded."""
    return _NoPicture()
