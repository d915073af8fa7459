"""The parts of a Wan pipeline as empty modules: classes, number formats, tied weights.

Whatever way the weights come (files, random, none on meta), the modules have the dtypes that
`from_pretrained` gives, so that an estimate and a run count the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan, WanTransformer3DModel, WanVACETransformer3DModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from webui.core.clip import ClipCard
from webui.core.settings import FP8
from webui.pipelines.modules import DTYPES, cast_parameters
from webui.pipelines.wan.pieces import make_splittable

COMPONENTS = ("text_encoder", "image_encoder", "transformer", "transformer_2", "vae")
"""In the order of their use; `components_of` says which of them a model has."""
TRANSFORMERS = ("transformer", "transformer_2")


def components_of(card: ClipCard) -> tuple[str, ...]:
    """The components of a model that have weights."""
    return tuple(name for name in COMPONENTS if name in card.configs)


def component_dtype(component: str, settings: Mapping[str, Any]) -> torch.dtype:
    """The number format that the settings ask for; parts of it may stay in fp32.

    The image encoder is always fp32, as the library's guide loads it: its features steer every
    step, and it leaves the card before the first (diffusers, docs, api/pipelines/wan.md).
    """
    if component == "image_encoder":
        return torch.float32
    name = "vae_precision" if component == "vae" else "precision"
    value = str(settings.get(name, "fp32" if component == "vae" else "bf16"))
    return DTYPES["bf16" if value == FP8 else value]


def wants_text_encoder(settings: Mapping[str, Any]) -> bool:
    """Whether the text encoder is loaded with the other components."""
    return settings.get("text_encoder") not in ("absent", "cached")


def new_module(component: str, card: ClipCard) -> nn.Module:
    """A component by its configuration, as its class makes it (on the current default device)."""
    config = {k: v for k, v in card.configs[component].items() if not k.startswith("_")}
    if component in TRANSFORMERS:
        return transformer_class(card).from_config(config)
    if component == "vae":
        return AutoencoderKLWan.from_config(config)
    if component == "image_encoder":
        kinds = ("architectures", "model_type")
        return CLIPVisionModel(
            CLIPVisionConfig(**{k: v for k, v in config.items() if k not in kinds})
        )
    return UMT5EncoderModel(UMT5Config(**config))


def transformer_class(card: ClipCard) -> Any:
    """The library's class of the model's transformer, as its configuration names it."""
    controlled = card.configs["transformer"].get("_class_name") == "WanVACETransformer3DModel"
    return WanVACETransformer3DModel if controlled else WanTransformer3DModel


def meta_module(component: str, card: ClipCard, settings: Mapping[str, Any]) -> nn.Module:
    """A component with parameters and buffers on the meta device."""
    with torch.device("meta"):
        module = new_module(component, card)
    dtype = component_dtype(component, settings)
    return finish_module(cast_parameters(share_embedding(module), dtype))


def empty_module(component: str, card: ClipCard, settings: Mapping[str, Any]) -> nn.Module:
    """A component with parameters on meta, to be filled, and real buffers (rotary tables)."""
    with init_empty_weights(include_buffers=False):
        module = new_module(component, card)
    return cast_parameters(share_embedding(module), component_dtype(component, settings))


def finish_module(module: nn.Module) -> nn.Module:
    """What every component needs before it runs."""
    make_splittable(module)
    return share_embedding(module).eval().requires_grad_(False)


def store_in_fp8(transformer: Any) -> None:
    """Keeps the large layers in float8_e4m3fn; each is cast to bf16 while it computes.

    What stays in bf16 or fp32 (patch and condition embedding, norms) the class says itself
    (`_skip_layerwise_casting_patterns`). Streaming hooks must come after this.
    """
    transformer.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16
    )


def share_embedding(module: nn.Module) -> nn.Module:
    """Makes UMT5's two tied embeddings one module, as `set_input_embeddings` does.

    The tie is between parameters; filling a meta model or streaming it leaf by leaf would give
    each of the two its own 2.1 GB.
    """
    if isinstance(module, UMT5EncoderModel):
        module.encoder.set_input_embeddings(module.shared)
    return module
