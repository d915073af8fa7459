"""The parts of a Wan pipeline as empty modules: classes, number formats, tied weights.

Whatever way the weights come (files, random, none on meta), the modules have the dtypes that
`from_pretrained` gives, so that an estimate and a run count the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan, ModelMixin, WanPipeline, WanTransformer3DModel
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from webui.core.model import ModelCard

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COMPONENTS = ("text_encoder", "transformer", "vae")

OnComponent = Callable[[int, int], None]
"""Called with the number of components that are ready, and how many there are."""


class PlacedWanPipeline(WanPipeline):
    """WanPipeline that is told where it runs instead of guessing from where the weights lie.

    With offloading the weights are on the host between phases, and with the text encoder on the
    processor the first component is too; both would make the library choose the wrong device.
    """

    card: ModelCard
    run_device: torch.device = torch.device("cpu")
    placement: Any = None

    @property
    def _execution_device(self) -> torch.device:
        return self.run_device


def component_dtype(component: str, settings: Mapping[str, Any]) -> torch.dtype:
    """The number format that the settings ask for; parts of it may stay in fp32."""
    name = "vae_precision" if component == "vae" else "precision"
    return DTYPES[str(settings.get(name, "fp32" if component == "vae" else "bf16"))]


def wants_text_encoder(settings: Mapping[str, Any]) -> bool:
    return settings.get("text_encoder") != "absent"


def new_module(component: str, card: ModelCard) -> nn.Module:
    """A component by its configuration, as its class makes it (on the current default device)."""
    config = {k: v for k, v in card.configs[component].items() if not k.startswith("_")}
    if component == "transformer":
        return WanTransformer3DModel.from_config(config)
    if component == "vae":
        return AutoencoderKLWan.from_config(config)
    return UMT5EncoderModel(UMT5Config(**config))


def meta_module(component: str, card: ModelCard, settings: Mapping[str, Any]) -> nn.Module:
    """A component with parameters and buffers on the meta device."""
    with torch.device("meta"):
        module = new_module(component, card)
    dtype = component_dtype(component, settings)
    return finish_module(cast_parameters(share_embedding(module), dtype))


def empty_module(component: str, card: ModelCard, settings: Mapping[str, Any]) -> nn.Module:
    """A component with parameters on meta, to be filled, and real buffers (rotary tables)."""
    with init_empty_weights(include_buffers=False):
        module = new_module(component, card)
    return cast_parameters(share_embedding(module), component_dtype(component, settings))


def finish_module(module: nn.Module) -> nn.Module:
    """What every component needs before it runs."""
    return share_embedding(module).eval().requires_grad_(False)


def share_embedding(module: nn.Module) -> nn.Module:
    """Makes UMT5's two tied embeddings one module, as `set_input_embeddings` does.

    The tie is between parameters; filling a meta model or streaming it leaf by leaf would give
    each of the two its own 2.1 GB.
    """
    if isinstance(module, UMT5EncoderModel):
        module.encoder.set_input_embeddings(module.shared)
    return module


def keeps_fp32(module: nn.Module, parameter: str, dtype: torch.dtype) -> bool:
    """Whether `from_pretrained` keeps this parameter in fp32 when it loads in `dtype`.

    diffusers matches whole parts of the name in every dtype (models/model_loading_utils.py,
    load_model_dict_into_meta); transformers matches anywhere, and only for fp16
    (modeling_utils.py, _get_dtype_plan).
    """
    names = getattr(module, "_keep_in_fp32_modules", None) or ()
    if isinstance(module, ModelMixin):
        return any(name in parameter.split(".") for name in names)
    return dtype == torch.float16 and any(name in parameter for name in names)


def parameter_dtype(module: nn.Module, parameter: str, dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if keeps_fp32(module, parameter, dtype) else dtype


def cast_parameters(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Casts parameters in place as `from_pretrained` would; tied ones stay tied."""
    for name, parameter in module.named_parameters():
        parameter.data = parameter.data.to(parameter_dtype(module, name, dtype))
    return module


def to_channels_last(vae: nn.Module) -> None:
    """Stores convolution weights channels-last, which cuDNN then takes without a copy."""
    for parameter in vae.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        elif parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def owned_tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters and buffers, each once."""
    seen: set[int] = set()
    for tensor in (*module.parameters(), *module.buffers()):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor


def new_pipeline(card: ModelCard, parts: Mapping[str, Any], device: torch.device) -> Any:
    """The pipeline around its parts; the scheduler is made anew for every request."""
    pipe: Any = PlacedWanPipeline(
        tokenizer=None,
        text_encoder=parts.get("text_encoder"),
        vae=parts["vae"],
        scheduler=None,
        transformer=parts["transformer"],
    )
    pipe.tokenizer = parts.get("tokenizer")
    pipe.card = card
    pipe.run_device = device
    pipe.set_progress_bar_config(disable=True)
    return pipe
