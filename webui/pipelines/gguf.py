"""Weights in the blocks of GGUF: the value `gguf` of the setting `quantization`.

diffusers has the layers (quantizers/gguf): each keeps its weight as bytes and restores it in fp16,
then in what it computes in, whenever it is called. Here they get their bytes: none on meta, random
ones for `verify`, or a file's.
Which layer is in which blocks `webui.core.gguf` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from webui.core.errors import MissingDependency
from webui.core.gguf import GGUF_MIXES
from webui.core.text import Text
from webui.pipelines.modules import DTYPES
from webui.pipelines.pieces import hold_as

_BLOCKS = ("blocks.", "vace_blocks.")
_FINER = (".to_v", ".ffn.net.2")
"""How the names of layers in finer blocks end."""
_SCALES: dict[str, dict[int, float]] = {
    "Q8_0": {0: 2.7e-4},
    "Q6_K": {208: 1.5e-5},
    "Q5_K": {0: 5e-5, 2: 7.5e-4},
    "Q4_K": {0: 1e-4, 2: 7.5e-4},
}
"""Where a block has its fp16 scales (ggml-common.h), and such as make random values as small as
`random_weights` makes them."""
_DRAWN = 2**22
"""Random bytes that are drawn once and repeated."""


def check_gguf() -> None:
    """The libraries' layers can be had.

    Raises:
        MissingDependency: there is no package `gguf`.
    """
    if find_spec("gguf") is None:
        raise MissingDependency(
            Text(
                "Weights in GGUF need the package gguf.",
                "使用 GGUF 权重需要 gguf 包。",
            ),
            Text(
                'Install the extra: pip install -e ".[gpu]"; or use quantization: none.',
                '请安装附加依赖：pip install -e ".[gpu]"；或使用 quantization: none。',
            ),
            "settings.quantization",
        )


def library() -> Any:
    """diffusers' module with the layers; it imports the package."""
    check_gguf()
    return import_module("diffusers.quantizers.gguf.utils")


def put_blocks(module: Any, settings: Mapping[str, Any], device: torch.device) -> None:
    """Replaces a transformer's layers by those of GGUF with random bytes, in place.

    Args:
        module: of diffusers, its weights on meta; those of other layers stay there.
        settings: complete; `gguf_type` says which blocks.
        device: where the bytes are made; on meta there are none.

    Raises:
        MissingDependency: see `check_gguf`.
    """
    weights = {
        f"{path}.weight": _random_blocks(module.get_submodule(path), name, device)
        for path, name in layers_of(module, str(settings["gguf_type"])).items()
    }
    replace_layers(module, weights, DTYPES[str(settings["precision"])])


def layers_of(module: nn.Module, gguf_type: str) -> dict[str, str]:
    """The layers that a file of this type has in blocks, each with its kind of block."""
    usual, finer = GGUF_MIXES[gguf_type]
    sizes = library().GGML_QUANT_SIZES
    kinds = import_module("gguf").GGMLQuantizationType
    found = {}
    for path, layer in module.named_modules():
        if not (isinstance(layer, nn.Linear) and path.startswith(_BLOCKS)):
            continue
        name = finer if path.endswith(_FINER) else usual
        # Rows are cut into whole blocks; the converter leaves others as they are.
        if layer.in_features % sizes[kinds[name]][0] == 0:
            found[path] = name
    return found


def replace_layers(module: Any, weights: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Puts the library's layers in place of those that have weights here, and the weights in them.

    Args:
        module: of diffusers; other layers stay as they are.
        weights: the library's parameters by the names of the module's.
        dtype: what the layers compute in.

    Raises:
        ValueError: a weight of another shape than the layer's.
    """
    wide = {name: module.get_submodule(name.removesuffix(".weight")) for name in weights}
    library()._replace_with_gguf_linear(module, dtype, weights)
    for name, weight in weights.items():
        if tuple(weight.quant_shape) != tuple(wide[name].weight.shape):
            raise ValueError(f"{name} has the shape {tuple(weight.quant_shape)}")
        layer = module.get_submodule(name.removesuffix(".weight"))
        layer.weight, layer.bias = weight, wide[name].bias
        layer.train(wide[name].training)
        hold_as(wide[name], layer)


def _random_blocks(layer: nn.Linear, name: str, device: torch.device) -> Any:
    """A weight of the layer's shape whose bytes are random, and its scales small."""
    kind = import_module("gguf").GGMLQuantizationType[name]
    values, size = library().GGML_QUANT_SIZES[kind]
    count = layer.out_features * layer.in_features // values
    data = torch.empty((count, size), dtype=torch.uint8, device=device)
    if device.type == "cpu":
        drawn = torch.randint(0, 256, (min(_DRAWN, data.numel()),), dtype=torch.uint8)
        flat = data.view(-1)
        for start in range(0, flat.numel(), _DRAWN):
            piece = flat[start : start + _DRAWN]
            piece.copy_(drawn[: piece.numel()])
    elif device.type != "meta":
        data.random_(0, 256)
    if device.type != "meta":
        for place, scale in _SCALES[name].items():
            as_bytes = torch.tensor([scale], dtype=torch.float16).view(torch.uint8)
            data[:, place : place + 2] = as_bytes.to(device)
    return library().GGUFParameter(data.view(layer.out_features, -1), quant_type=kind)
