"""What the families' components have in common: number formats, memory layout, their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

OnComponent = Callable[[int, int], None]
"""Called with the number of components that are ready, and how many there are."""


def keeps_fp32(module: nn.Module, parameter: str, dtype: torch.dtype) -> bool:
    """Whether `from_pretrained` keeps this parameter in fp32 when it loads in `dtype`.

    diffusers matches whole parts of the name in every dtype (models/model_loading_utils.py,
    load_model_dict_into_meta); transformers matches anywhere, and only for fp16
    (modeling_utils.py, _get_dtype_plan).
    """
    names = getattr(module, "_keep_in_fp32_modules", None) or ()
    # Asked by name: importing diffusers takes seconds, and its models bring it along.
    if any(kind.__module__.startswith("diffusers.") for kind in type(module).__mro__):
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
    """Parameters, buffers and what quantised layers keep beside them, each once."""
    seen: set[int] = set()
    for tensor in (*module.parameters(), *module.buffers(), *quantization_statistics(module)):
        for part in _parts(tensor):
            if id(part) not in seen:
                seen.add(id(part))
                yield part


def _parts(tensor: Any) -> Iterator[torch.Tensor]:
    """What a tensor consists of: torchao's of values and scales, all others of themselves."""
    if is_traceable_wrapper_subclass(tensor):
        yield from (getattr(tensor, name) for name in tensor.__tensor_flatten__()[0])
    else:
        yield tensor


def quantization_statistics(module: nn.Module) -> Iterator[torch.Tensor]:
    """The tensors that bitsandbytes' layers keep beside their parameters.

    Scales of the blocks (themselves in 8 bits, with scales and an offset of their own) and tables
    of 4-bit layers, the scales of the rows of 8-bit ones.
    """
    for layer in module.modules():
        state = getattr(getattr(layer, "weight", None), "quant_state", None)
        if state is not None:
            yield from (state.absmax, state.code)
            if state.nested:
                yield from (state.offset, state.state2.absmax, state.state2.code)
        scales = getattr(getattr(layer, "state", None), "SCB", None)
        if isinstance(scales, torch.Tensor):
            yield scales
