"""Pipelines without files: on the meta device for tracing, with random weights for `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from webui.core.model import ModelCard
from webui.pipelines.wan.components import (
    COMPONENTS,
    OnComponent,
    empty_module,
    finish_module,
    meta_module,
    new_pipeline,
    to_channels_last,
    wants_text_encoder,
)
from webui.pipelines.wan.placement import Placement

SPREAD = 0.035
"""Half width of the uniform distribution of random weights: std 0.02, as the authors initialise."""
_TILE = 2**22
"""Values drawn once and repeated: drawing 5.7 billion on a processor takes minutes."""


@dataclass(slots=True)
class Tokens:
    """What the pipeline reads of a tokenizer's answer."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor


class RandomTokenizer:
    """Stands in for a tokenizer where there are no files.

    A quarter of the sequence is text and the rest padding, as with real prompts: without any
    padding the text encoder would drop its mask and take another attention path.
    """

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def __call__(self, prompts: list[str], *, max_length: int, **_: Any) -> Tokens:
        """Ids and mask, both (prompts, max_length), int64."""
        generator = torch.Generator("cpu").manual_seed(0)
        shape = (len(prompts), max_length)
        ids = torch.randint(0, self.vocabulary, shape, generator=generator)
        mask = (torch.arange(max_length) < max(1, max_length // 4)).to(torch.int64)
        return Tokens(ids, mask.repeat(len(prompts), 1))


def random_tokenizer(card: ModelCard) -> RandomTokenizer:
    return RandomTokenizer(int(card.configs["text_encoder"]["vocab_size"]))


def build_meta(card: ModelCard, settings: Mapping[str, Any]) -> Any:
    """The pipeline with every tensor on the meta device, for the tracer.

    Text encoders that do not run on the card (`absent`, `cpu`) are left out.
    """
    parts: dict[str, Any] = {"tokenizer": random_tokenizer(card)}
    for component in COMPONENTS:
        if component == "text_encoder" and settings.get("text_encoder") in ("absent", "cpu"):
            continue
        parts[component] = meta_module(component, card, settings)
    if settings.get("channels_last"):
        to_channels_last(parts["vae"])
    return new_pipeline(card, parts, torch.device("meta"))


def build_random(
    card: ModelCard,
    settings: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> Any:
    """The pipeline at full size with random weights: the true memory without a download.

    Same dtypes and ties as `from_pretrained` gives; values are small, finite and not zero.
    """
    device = torch.device(device)
    placement = Placement(settings, device)
    names = [name for name in COMPONENTS if name != "text_encoder" or wants_text_encoder(settings)]
    parts: dict[str, Any] = {"tokenizer": random_tokenizer(card)}
    for done, name in enumerate(names):
        if on_component:
            on_component(done, len(names))
        stays = placement.modes[name] == "always"
        home = device if stays else torch.device("cpu")
        module = empty_module(name, card, settings)
        fill_random(module, home)
        parts[name] = placement.add(name, finish_module(module))
    pipe = new_pipeline(card, parts, device)
    pipe.placement = placement
    return pipe


def fill_random(module: nn.Module, device: torch.device) -> None:
    """Gives every meta parameter a storage with small random values.

    Args:
        module: parameters on meta.
        device: where the values are made.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    tile = torch.empty(_TILE).uniform_(-SPREAD, SPREAD, generator=generator)
    made: dict[int, nn.Parameter] = {}
    for owner_name, owner in module.named_modules():
        for key, parameter in list(owner._parameters.items()):
            if parameter is None or not parameter.is_meta:
                continue
            if id(parameter) not in made:
                value = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
                _fill(value, f"{owner_name}.{key}", tile)
                made[id(parameter)] = nn.Parameter(value, requires_grad=False)
            owner._parameters[key] = made[id(parameter)]


def _fill(value: torch.Tensor, name: str, tile: torch.Tensor) -> None:
    if name.endswith("gamma") or (name.endswith("weight") and value.ndim == 1):
        value.fill_(1.0)
    elif value.device.type == "cpu":
        flat = value.view(-1)
        part = tile[: min(_TILE, flat.numel())].to(value.dtype)
        for start in range(0, flat.numel(), _TILE):
            piece = flat[start : start + _TILE]
            piece.copy_(part[: piece.numel()])
    else:
        value.uniform_(-SPREAD, SPREAD)
