"""Weights in fewer bits: the setting `quantization`, by bitsandbytes.

`weight_only` has the values that torchao makes, `gguf` that of files in blocks.

The libraries' own configurations and lists decide which layers are replaced and by what. Their
`from_pretrained` quantises files of one layout, and only on a GPU; here the layers are filled one
by one from weights that wait on the host, whatever way those came (files of either layout, random):
no more than one layer is on the device in its full width.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any
from unittest.mock import patch

import diffusers
import torch
import transformers
from torch import nn
from transformers.quantizers.base import HfQuantizer

from webui.core.errors import MissingDependency
from webui.core.gguf import GGUF
from webui.core.settings import NOT_QUANTIZED
from webui.core.text import Text
from webui.pipelines.gguf import put_blocks
from webui.pipelines.modules import DTYPES
from webui.pipelines.weight_only import CONFIGS, narrow, narrow_weights

_PROBED = 64
"""Rows and columns of the layer that is tried: a whole block of 4-bit values."""


def quantization_of(settings: Mapping[str, Any]) -> str:
    """The setting's value; `none` where a family does not know it."""
    return str(settings.get("quantization", NOT_QUANTIZED))


def is_quantized(settings: Mapping[str, Any]) -> bool:
    return quantization_of(settings) != NOT_QUANTIZED


def quantizes(settings: Mapping[str, Any]) -> bool:
    """Whether weights are read as they are and quantised here; GGUF's come quantised."""
    return quantization_of(settings) not in (NOT_QUANTIZED, GGUF)


def quantize_meta(module: Any, settings: Mapping[str, Any]) -> None:
    """As `quantize`, or with the layers of GGUF, for a module on meta."""
    if quantization_of(settings) == GGUF:
        put_blocks(module, settings, torch.device("meta"))
    elif is_quantized(settings):
        quantize(module, settings, torch.device("meta"))


def quantize(module: Any, settings: Mapping[str, Any], device: torch.device) -> None:
    """Replaces a model's linear layers by quantised ones on the device, in place.

    What stays as it is (biases, norms, the layers on the libraries' lists) stays where it is.

    Args:
        module: of diffusers or transformers, with its weights on the host, or all on meta.
        settings: complete; `precision` is what the layers compute in.
        device: where the layers are quantised, and stay.

    Raises:
        MissingDependency: no library that works on the device.
    """
    name, dtype = quantization_of(settings), DTYPES[str(settings["precision"])]
    check_quantization(name, device)
    if name in CONFIGS:
        narrow_weights(module, name, device)
        return
    wide = {path: layer for path, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    _replace(module, name, dtype)
    with _tables(device):
        for path, layer in module.named_modules():
            if _is_quantized_layer(layer):
                _fill(layer, wide.pop(path), device)


def check_quantization(name: str, device: torch.device) -> None:
    """Tries a small layer: that the library can be imported says little of this device.

    Raises:
        MissingDependency: there is no such library, or it does not work there.
    """
    library = "torchao" if name in CONFIGS else "bitsandbytes"
    try:
        if _works(name, device):
            return
    except torch.OutOfMemoryError:
        raise
    # It looks for CUDA's libraries while it is imported, and fails in many ways.
    except Exception:
        logging.getLogger(__name__).warning("%s does not work here", library, exc_info=True)
    raise MissingDependency(
        Text(
            f"Quantisation to {name} needs a {library} that works on this device.",
            f"量化为 {name} 需要能在此设备上工作的 {library}。",
        ),
        Text(
            'Install the extra: pip install -e ".[gpu]"; or use quantization: none.',
            '请安装附加依赖：pip install -e ".[gpu]"；或使用 quantization: none。',
        ),
        "settings.quantization",
    )


def _works(name: str, device: torch.device) -> bool:
    """Whether a small layer computes on the device; on meta, whether the library is there."""
    dtype = torch.bfloat16 if name in CONFIGS else torch.float16
    layer: Any = nn.Linear(_PROBED, _PROBED, dtype=dtype)
    if name in CONFIGS:
        import_module("torchao.quantization")
        if device.type == "meta":
            return True
        narrow(layer, name, device)
    else:
        bitsandbytes = import_module("bitsandbytes")
        if device.type == "meta":
            return True
        wide, layer = layer, _layer_kinds(bitsandbytes)[name](_PROBED)
        with _tables(device):
            _fill(layer, wide, device)
    layer.bias.data = layer.bias.data.to(device)
    values = torch.ones((1, _PROBED), dtype=dtype, device=device)
    with torch.no_grad():
        return bool(torch.isfinite(layer.eval()(values)).all())


def _replace(module: Any, name: str, dtype: torch.dtype) -> None:
    """Puts the library's empty quantised layers in place of those that it would quantise."""
    # Both import bitsandbytes, which a run without it must not wait for, nor fail with.
    if isinstance(module, diffusers.ModelMixin):
        replace = import_module("diffusers.quantizers.bitsandbytes.utils").replace_with_bnb_linear
        replace(
            module,
            # quantizers/bitsandbytes/bnb_quantizer.py, _process_model_before_weight_loading
            modules_to_not_convert=list(module._keep_in_fp32_modules or ()),
            quantization_config=diffusers.BitsAndBytesConfig(**_options(name, dtype)),
        )
    else:
        kept = HfQuantizer.get_modules_to_not_convert(module, None, module._keep_in_fp32_modules)
        replace = import_module("transformers.integrations.bitsandbytes").replace_with_bnb_linear
        replace(
            module,
            modules_to_not_convert=kept,
            quantization_config=transformers.BitsAndBytesConfig(**_options(name, dtype)),
        )


def _options(name: str, dtype: torch.dtype) -> dict[str, Any]:
    """Of both libraries' `BitsAndBytesConfig`.

    The scales of 4-bit blocks are quantised once more, which saves 0.37 bits a value and costs no
    quality that its authors could measure (QLoRA, arXiv 2305.14314, section 3).
    """
    if name == "int8":
        return {"load_in_8bit": True}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": name,
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }


def _layer_kinds(bitsandbytes: Any) -> dict[str, Any]:
    """Makes a small square layer of each kind, to try it."""
    layers = bitsandbytes.nn
    return {
        "int8": lambda size: layers.Linear8bitLt(size, size, has_fp16_weights=False, threshold=6.0),
        "nf4": lambda size: layers.LinearNF4(size, size, compute_dtype=torch.float16),
    }


def _is_quantized_layer(layer: nn.Module) -> bool:
    layers = import_module("bitsandbytes").nn
    return isinstance(layer, layers.Linear4bit | layers.Linear8bitLt)


def _fill(layer: Any, wide: nn.Linear, device: torch.device) -> None:
    """Gives an empty quantised layer the values of the layer that it stands for."""
    layer.train(wide.training)
    empty = layer.weight
    weight = type(empty)(wide.weight.data, requires_grad=False, **vars(empty))
    # What `.to(device)` calls, which does nothing on meta.
    layer.weight = weight._quantize(device)
    if wide.bias is not None:
        layer.bias = nn.Parameter(wide.bias.data, requires_grad=False)
    if hasattr(layer, "state"):
        layer.init_8bit_state()
        # One tensor under both names: whoever moves the parameter moves what is computed with.
        layer.state.CB = layer.weight
        # It says in every call that 8-bit products take fp16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


def _tables(device: torch.device) -> Any:
    """Inside, tables that the library keeps for all layers are made on the device.

    Beside it other tables may be kept for a processor or for meta, which layers would then take.
    """
    kept = import_module("bitsandbytes.functional")
    dynamic = kept.create_dynamic_map().to(device)
    return patch.dict(kept.name2qmap, {"dynamic": dynamic})
