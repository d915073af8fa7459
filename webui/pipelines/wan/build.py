"""Pipelines without files: on the meta device for tracing, with random weights for `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from webui.core.clip import ClipCard
from webui.core.gguf import GGUF
from webui.core.settings import FP8
from webui.pipelines.gguf import put_blocks
from webui.pipelines.modules import OnComponent, to_channels_last
from webui.pipelines.quantization import quantization_of, quantize_meta, quantizes
from webui.pipelines.random_weights import fill_random
from webui.pipelines.wan.attention import check_attention
from webui.pipelines.wan.components import (
    TRANSFORMERS,
    components_of,
    empty_module,
    finish_module,
    meta_module,
    store_in_fp8,
    wants_text_encoder,
)
from webui.pipelines.wan.kinds import new_pipeline
from webui.pipelines.wan.placement import Placement


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


def random_tokenizer(card: ClipCard) -> RandomTokenizer:
    return RandomTokenizer(int(card.configs["text_encoder"]["vocab_size"]))


def build_meta(card: ClipCard, settings: Mapping[str, Any]) -> Any:
    """The pipeline with every tensor on the meta device, for the tracer.

    Text encoders that do not run on the card (`absent`, `cached`, `cpu`) are left out.
    """
    parts: dict[str, Any] = {"tokenizer": random_tokenizer(card)}
    for component in components_of(card):
        if component == "text_encoder" and settings.get("text_encoder") in (
            "absent",
            "cached",
            "cpu",
        ):
            continue
        parts[component] = meta_module(component, card, settings)
    if settings.get("channels_last"):
        to_channels_last(parts["vae"])
    if settings.get("precision") == FP8:
        for name in TRANSFORMERS:
            if name in parts:
                store_in_fp8(parts[name])
    for name in TRANSFORMERS:
        if name in parts:
            quantize_meta(parts[name], settings)
    return new_pipeline(card, parts, torch.device("meta"))


def build_random(
    card: ClipCard,
    settings: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> Any:
    """The pipeline at full size with random weights: the true memory without a download.

    Same dtypes and ties as `from_pretrained` gives; values are small, finite and not zero.

    Raises:
        MissingDependency, BadInput: see `check_attention`.
    """
    device = torch.device(device)
    check_attention(card, settings, device)
    placement = Placement(card, settings, device)
    names = [
        name
        for name in components_of(card)
        if name != "text_encoder" or wants_text_encoder(settings)
    ]
    parts: dict[str, Any] = {"tokenizer": random_tokenizer(card)}
    for done, name in enumerate(names):
        if on_component:
            on_component(done, len(names))
        # Layers go to the card when they are quantised, one by one.
        waits = name in TRANSFORMERS and quantizes(settings)
        stays = placement.modes[name] == "always" and not waits
        home = device if stays else torch.device("cpu")
        module = finish_module(empty_module(name, card, settings))
        if name in TRANSFORMERS and quantization_of(settings) == GGUF:
            put_blocks(module, settings, home)
        fill_random(module, home)
        parts[name] = placement.add(name, module)
    pipe = new_pipeline(card, parts, device)
    pipe.placement = placement
    return pipe
