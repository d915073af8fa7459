"""Real weights: a folder in transformers' layout, or one of them for each scale."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Swin2SRForImageSuperResolution

from webui.core.model import ModelCard
from webui.pipelines.checkpoint import check_config, damaged, existing_folder, find_files, reading
from webui.pipelines.modules import OnComponent
from webui.pipelines.swin2sr.build import build_random
from webui.pipelines.swin2sr.components import (
    Swin2srPipeline,
    component_dtype,
    components_of,
    finish_module,
    new_placement,
)

_SHAPE_KEYS = ("embed_dim", "depths", "num_heads", "window_size", "upscale", "upsampler")
"""Configuration keys that decide what model a folder holds."""


def load(
    card: ModelCard,
    settings: Mapping[str, Any],
    weights: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> Swin2srPipeline:
    """The pipeline from wherever the weights are.

    Args:
        card: the model.
        settings: complete settings.
        weights: `kind` and `folder`; a folder of several scales has `x2` and `x4` in it.
        device: where it runs.
        on_component: progress.

    Raises:
        MissingWeights: files are not there.
        BadInput: the folder holds something else, or a file is damaged.
    """
    if weights.get("kind") == "random":
        return build_random(card, settings, device, on_component)
    folder = existing_folder(str(weights.get("folder", "")))
    device = torch.device(device)
    placement = new_placement(card, device)
    names = components_of(card)
    parts = {}
    for done, name in enumerate(names):
        if on_component:
            on_component(done, len(names))
        own = folder / name if len(names) > 1 else folder
        check_config(folder, name, card, _SHAPE_KEYS, own)
        find_files(own, f"*.{_suffix(own)}")
        module = reading(name, partial(_read, own, name, settings))
        parts[name] = placement.add(name, module)
    return Swin2srPipeline(card, parts, device, placement)


def _suffix(folder: Path) -> str:
    """Of the file of weights; the older kind where there is no other."""
    return "safetensors" if any(folder.glob("*.safetensors")) else "bin"


def _read(folder: Path, component: str, settings: Mapping[str, Any]) -> nn.Module:
    dtype = component_dtype(settings)
    module, info = Swin2SRForImageSuperResolution.from_pretrained(
        str(folder),
        local_files_only=True,
        use_safetensors=_suffix(folder) == "safetensors",
        output_loading_info=True,
        dtype=dtype,
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise damaged(f"{component}: {missing[0]} is missing")
    return finish_module(module, dtype)
