"""Real weights from a folder in diffusers' layout, as the hub has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import nn
from transformers import CLIPVisionModelWithProjection

from webui.core.clip import ClipCard
from webui.pipelines.checkpoint import check_config, damaged, existing_folder, find_files, reading
from webui.pipelines.modules import OnComponent
from webui.pipelines.svd.build import build_random
from webui.pipelines.svd.components import (
    COMPONENTS,
    ClipNormalizer,
    component_dtype,
    finish_module,
    new_pipeline,
)
from webui.pipelines.svd.placement import Placement

_SHAPE_KEYS = {
    "image_encoder": ("hidden_size", "intermediate_size", "num_hidden_layers", "projection_dim"),
    "unet": ("block_out_channels", "in_channels", "layers_per_block", "cross_attention_dim"),
    "vae": ("block_out_channels", "latent_channels", "layers_per_block"),
}
"""Configuration keys that decide what model a folder holds."""
_STEMS = {
    "image_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
_CLASSES: dict[str, Any] = {
    "image_encoder": CLIPVisionModelWithProjection,
    "unet": UNetSpatioTemporalConditionModel,
    "vae": AutoencoderKLTemporalDecoder,
}


def load(
    card: ClipCard,
    settings: Mapping[str, Any],
    weights: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> Any:
    """The pipeline, placed, from wherever the weights are.

    Args:
        card: the model.
        settings: complete settings.
        weights: `kind` (diffusers, random) and `folder`.
        device: where it runs.
        on_component: progress.

    Raises:
        MissingWeights: files are not there.
        BadInput: the folder holds something else, or a file is damaged.
    """
    if weights.get("kind") == "random":
        return build_random(card, settings, device, on_component)
    folder = existing_folder(str(weights.get("folder", "")))
    variants = {}
    for component in COMPONENTS:
        check_config(folder, component, card, _SHAPE_KEYS[component])
        variants[component] = _variant(folder, component)
    device = torch.device(device)
    placement = Placement(settings, device)
    parts: dict[str, Any] = {"feature_extractor": _feature_extractor(folder)}
    for done, component in enumerate(COMPONENTS):
        if on_component:
            on_component(done, len(COMPONENTS))
        read = partial(_read, folder, component, settings, variants[component])
        parts[component] = placement.add(component, reading(component, read))
    pipe = new_pipeline(card, parts, device)
    pipe.placement = placement
    return pipe


def _variant(folder: Path, component: str) -> str | None:
    """`fp16` where only the half-size files were fetched."""
    stem = _STEMS[component]
    if any((folder / component).glob(f"{stem}.safetensors*")):
        return None
    if any((folder / component).glob(f"{stem}.fp16.safetensors*")):
        return "fp16"
    find_files(folder / component, f"{stem}*.safetensors")
    return None


def _read(
    folder: Path, component: str, settings: Mapping[str, Any], variant: str | None
) -> nn.Module:
    dtype = component_dtype(component, settings)
    name = "dtype" if component == "image_encoder" else "torch_dtype"
    module, info = _CLASSES[component].from_pretrained(
        str(folder),
        subfolder=component,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        variant=variant,
        **{name: dtype},
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise damaged(f"{component}: {missing[0]} is missing")
    return finish_module(module)


def _feature_extractor(folder: Path) -> ClipNormalizer:
    """Mean and deviation of the folder's own file; CLIP's where it has none."""
    path = folder / "feature_extractor" / "preprocessor_config.json"
    if not path.is_file():
        return ClipNormalizer()
    data = reading("feature_extractor", lambda: json.loads(path.read_text(encoding="utf-8")))
    return reading(
        "feature_extractor",
        lambda: ClipNormalizer(tuple(data["image_mean"]), tuple(data["image_std"])),
    )
