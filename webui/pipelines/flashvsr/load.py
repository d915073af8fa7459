"""Real weights from the authors' files, as their repositories have them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    convert_wan_transformer_to_diffusers,
    convert_wan_vae_to_diffusers,
)
from safetensors.torch import load_file
from torch import nn

from webui.core.model import ModelCard
from webui.pipelines.checkpoint import damaged, existing_folder, find_files, reading
from webui.pipelines.flashvsr.build import build_random, new_pipeline
from webui.pipelines.flashvsr.components import (
    FlashVsrPipeline,
    component_dtype,
    components_of,
    empty_module,
    finish_module,
    prompt_shape,
)
from webui.pipelines.flashvsr.placement import Placement
from webui.pipelines.modules import OnComponent, parameter_dtype

FILES = {
    "projection": "LQ_proj_in.ckpt",
    "transformer": "diffusion_pytorch_model_streaming_dmd.safetensors",
    "decoder": "TCDecoder.ckpt",
    "vae": "Wan2.1_VAE.pth",
}
"""Of JunhaoZhuang/FlashVSR and JunhaoZhuang/FlashVSR-v1.1."""
PROMPT_FILE = "posi_prompt.pth"
"""Of the authors' repository of code (examples/WanVSR/prompt_tensor); not on the hub."""


def load(
    card: ModelCard,
    settings: Mapping[str, Any],
    weights: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> FlashVsrPipeline:
    """The pipeline, placed, from wherever the weights are.

    Args:
        card: the model.
        settings: complete settings.
        weights: `kind` (random, or the authors' layout) and `folder`.
        device: where it runs.
        on_component: progress.

    Raises:
        MissingWeights: files are not there; names the first.
        BadInput: a file is damaged, or of another model.
    """
    if weights.get("kind") == "random":
        return build_random(card, settings, device, on_component)
    folder = existing_folder(str(weights.get("folder", "")))
    names = components_of(card, settings)
    paths = {name: find_files(folder, FILES[name])[0] for name in names}
    prompt_path = find_files(folder, PROMPT_FILE)[0]
    device = torch.device(device)
    placement = Placement(settings, device)
    parts: dict[str, Any] = {}
    for done, name in enumerate(names):
        if on_component:
            on_component(done, len(names))
        module = reading(paths[name].name, partial(_read, name, paths[name], card, settings))
        parts[name] = placement.add(name, module)
    prompt = reading(prompt_path.name, partial(_read_prompt, prompt_path, card))
    pipe = new_pipeline(card, parts, prompt.to(component_dtype(settings)).to(device), device)
    pipe.placement = placement
    return pipe


def _read(component: str, path: Path, card: ModelCard, settings: Mapping[str, Any]) -> nn.Module:
    if path.suffix == ".safetensors":
        values = load_file(path)
    else:
        values = torch.load(path, map_location="cpu", weights_only=True)
    if component == "transformer":
        values = convert_wan_transformer_to_diffusers(dict(values))
    elif component == "vae":
        converted = convert_wan_vae_to_diffusers(dict(values))
        unused = ("encoder.", "quant_conv.")
        values = {key: value for key, value in converted.items() if not key.startswith(unused)}
    module = empty_module(component, card, settings)
    dtype = component_dtype(settings)
    wanted = set(module.state_dict())
    for wrong, what in ((wanted - set(values), "is missing"), (set(values) - wanted, "is unknown")):
        if wrong:
            raise damaged(f"{path.name}: {min(wrong)} {what}")
    # Copies, since what is mapped from a file is not aligned, and sums then differ.
    state = {
        key: value.to(parameter_dtype(module, key, dtype), copy=True)
        for key, value in values.items()
    }
    expected = module.state_dict()
    for key, value in state.items():
        if value.shape != expected[key].shape:
            shapes = f"{tuple(value.shape)} instead of {tuple(expected[key].shape)}"
            raise damaged(f"{path.name}: {key} is {shapes}")
    module.load_state_dict(state, assign=True)
    return finish_module(module)


def _read_prompt(path: Path, card: ModelCard) -> torch.Tensor:
    """The prompt's embedding (1 L D)."""
    value = torch.load(path, map_location="cpu", weights_only=True)
    width = prompt_shape(card)[-1]
    if not isinstance(value, torch.Tensor) or value.ndim not in (2, 3) or value.shape[-1] != width:
        raise damaged(f"{path.name} holds no embedding of width {width}")
    return value.reshape(1, -1, width)
