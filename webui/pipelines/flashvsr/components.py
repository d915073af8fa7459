"""The parts of FlashVSR as empty modules: classes, number formats, memory layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn

from webui.core.model import ModelCard
from webui.pipelines.flashvsr.decoder import Decoder
from webui.pipelines.flashvsr.projection import ClipConvolution, Projection
from webui.pipelines.flashvsr.transformer import make_streaming
from webui.pipelines.modules import DTYPES, cast_parameters

PROMPT_TOKENS = 512
"""Of the authors' `posi_prompt.pth`."""


@dataclass
class FlashVsrPipeline:
    """The placed parts of the model."""

    card: ModelCard
    projection: Any
    transformer: Any
    decoder: Any
    """The tiny decoder, or None."""
    vae: Any
    """The other decoder, or None."""
    prompt: torch.Tensor
    """Embedding of the one prompt that the model was trained with (1 L D), on the run's device."""
    run_device: torch.device
    placement: Any = None

    @property
    def dtype(self) -> torch.dtype:
        """What the transformer computes in."""
        return self.prompt.dtype


def components_of(card: ModelCard, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The components that a run has, in the order of their use.

    Raises:
        KeyError: the card has no VAE, and the settings ask for it.
    """
    decoder = "vae" if settings.get("decoder") == "full" else "decoder"
    assert card.configs[decoder]
    return ("projection", "transformer", decoder)


def component_dtype(settings: Mapping[str, Any]) -> torch.dtype:
    """The number format that the settings ask for; parts of the transformer stay in fp32."""
    return DTYPES[str(settings.get("precision", "bf16"))]


def new_module(component: str, card: ModelCard) -> nn.Module:
    """A component by its configuration, as its class makes it (on the current default device)."""
    config = {k: v for k, v in card.configs[component].items() if not k.startswith("_")}
    if component == "transformer":
        transformer: nn.Module = make_streaming(WanTransformer3DModel.from_config(config))
        return transformer
    if component == "projection":
        return Projection(**config)
    if component == "decoder":
        return Decoder(**config)
    vae = AutoencoderKLWan.from_config(config)
    # Nothing is encoded.
    vae.encoder = vae.quant_conv = None
    return vae  # type: ignore[no-any-return]


def meta_module(component: str, card: ModelCard, settings: Mapping[str, Any]) -> nn.Module:
    """A component with parameters on the meta device."""
    with torch.device("meta"):
        module = new_module(component, card)
    return finish_module(cast_parameters(module, component_dtype(settings)))


def empty_module(component: str, card: ModelCard, settings: Mapping[str, Any]) -> nn.Module:
    """A component with parameters on meta, to be filled."""
    with init_empty_weights(include_buffers=False):
        module = new_module(component, card)
    return cast_parameters(module, component_dtype(settings))


def finish_module(module: nn.Module) -> nn.Module:
    """What every component needs before it runs: our convolutions' weights channels-last."""
    for part in module.modules():
        if isinstance(part, ClipConvolution):
            part.store_for_pictures()
        elif isinstance(module, Decoder) and isinstance(part, nn.Conv2d):
            part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)
    return module.eval().requires_grad_(False)


def prompt_shape(card: ModelCard) -> tuple[int, int, int]:
    """Of the prompt's embedding."""
    return (1, PROMPT_TOKENS, int(card.configs["transformer"]["text_dim"]))
