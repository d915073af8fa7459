"""Models of transformers from their configuration: empty, on meta, with the ties and dtypes of
`from_pretrained`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights
from transformers import CONFIG_MAPPING

from webui.pipelines.modules import cast_parameters

PROCESSOR_KEY = "image_processor_type"
"""What a checkpoint's `preprocessor_config.json` has; here it may stand beside the keys of
`config.json`, for models whose class does not tell their picture processor."""
_NO_CONFIG_KEYS = ("architectures", "model_type", PROCESSOR_KEY)


def model_class(config: Mapping[str, Any]) -> Any:
    """The library's class that a configuration names."""
    return getattr(transformers, str(config["architectures"][0]))


def read_config(config: Mapping[str, Any]) -> Any:
    """The library's configuration object of a checkpoint's `config.json`.

    Raises:
        KeyError: the library knows no such model.
    """
    # A copy: the library writes into what it is given.
    values = {k: deepcopy(value) for k, value in config.items() if k not in _NO_CONFIG_KEYS}
    return CONFIG_MAPPING[str(config["model_type"])](**values)


def new_model(config: Mapping[str, Any], attention: str = "sdpa") -> Any:
    """A model by its configuration, on the current default device.

    Args:
        config: as the checkpoint's `config.json` has it.
        attention: `sdpa`, `eager` or another of the library's implementations.
    """
    made = read_config(config)
    made._attn_implementation = attention
    return model_class(config)(made)


def meta_model(config: Mapping[str, Any], dtype: torch.dtype, attention: str = "sdpa") -> Any:
    """A model with parameters and buffers on the meta device; tied weights are one tensor."""
    with torch.device("meta"):
        module = new_model(config, attention)
    return cast_parameters(module, dtype)


def empty_model(config: Mapping[str, Any], dtype: torch.dtype, attention: str = "sdpa") -> Any:
    """A model with parameters on meta, to be filled, and real buffers (rotary tables)."""
    with init_empty_weights(include_buffers=False):
        module = new_model(config, attention)
    module.tie_weights()  # each parameter was moved to meta by itself
    return cast_parameters(module, dtype)
