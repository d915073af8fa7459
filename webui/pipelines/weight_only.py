"""Weights in 8 bits by torchao: the values `int8wo` and `fp8wo` of the setting `quantization`.

A layer stays what it is; its weight becomes one of the library's tensors, of 8-bit values and a
scale a row, which is widened for each product (weight-only: what comes in stays in bf16).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import nn

CONFIGS = {"int8wo": "Int8WeightOnlyConfig", "fp8wo": "Float8WeightOnlyConfig"}
"""The library's configuration for each value of the setting."""


def narrow_weights(module: Any, name: str, device: torch.device) -> None:
    """Replaces the weights of a model's linear layers by narrow ones on the device, in place.

    Args:
        module: of diffusers; what its class keeps in fp32 stays as it is.
        name: the setting's value.
        device: where the weights are made, one by one, and stay.
    """
    kept = set(module._keep_in_fp32_modules or ())
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Linear) and not kept & set(path.split(".")):
            narrow(layer, name, device)


def narrow(layer: nn.Linear, name: str, device: torch.device) -> None:
    """Gives a layer a narrow weight on the device; its bias stays where it is."""
    library: Any = import_module("torchao.quantization")
    layer.weight = nn.Parameter(layer.weight.data.to(device), requires_grad=False)
    # What it would set is for compiled models, and for the whole process.
    library.quantize_(layer, getattr(library, CONFIGS[name])(set_inductor_config=False))
