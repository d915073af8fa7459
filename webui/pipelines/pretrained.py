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

_NO_CONFIG_KEYS = ("architectures", "model_type")


def model_class(config: Mapping[str, Any]) -> Any:
    """The library's class that a configuration names."""
    return getattr(transformers, str(config["architectures"][0]))


def new_model(config: Mapping[str, Any], attention: str = "sdpa") -> Any:
    """A model by its configuration, on the current default device.

    Args:
        config: as the checkpoint's `config.json` has it.
        attention: `sdpa`, `eager` or another of the library's implementations.
    """
    # A copy: the library writes into the dictionaries that it is given.
    values = deepcopy({key: config[key] for key in config if key not in _NO_CONFIG_KEYS})
    made = CONFIG_MAPPING[str(config["model_type"])](**values)
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
