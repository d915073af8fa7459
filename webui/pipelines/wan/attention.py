"""Which kernels compute the transformers' attention, through the library's backends: `attention`.

Shapes: B batch (1), N queries, K keys, H heads, E channels of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.attention_dispatch import attention_backend, dispatch_attention_fn

from webui.core.clip import ClipCard
from webui.core.errors import BadInput, MissingDependency
from webui.core.text import Text
from webui.pipelines.wan.components import component_dtype

SDPA = "sdpa"
_PACKAGES = {"flash": "flash-attn", "sage": "sageattention", "xformers": "xformers"}
"""What brings the kernels of each value; the library's backend has the value's name."""
_QUERIES, _KEYS, _HEADS = 320, 257, 2
"""Of the attention that is tried: odd lengths that differ, as in attention to a picture."""
_MOST_ERROR = 0.1
"""Relative error against SDPA that 8-bit kernels stay well within (SageAttention2, arXiv
2411.10958: a few percent); a kernel that does not know the card gives something else entirely."""


def check_attention(card: ClipCard, settings: Mapping[str, Any], device: torch.device) -> None:
    """Tries the chosen kernels on the device, before any weights are read.

    Args:
        card: says how wide a head is.
        settings: complete settings.
        device: where the run will be.

    Raises:
        MissingDependency: their package is not there, or too old.
        BadInput: they do not work on this device, or in this precision.
    """
    name = str(settings.get("attention", SDPA))
    if name == SDPA:
        return
    try:
        with attention_backend(name):
            pass
    except RuntimeError:  # raised by the library's check of the package
        package = _PACKAGES[name]
        extra = ' (pip install -e ".[gpu]")' if name == "xformers" else ""
        raise MissingDependency(
            Text(
                f"attention: {name} needs {package}, which is not installed or too old.",
                f"attention: {name} 需要 {package}，但未安装或版本过旧。",
            ),
            Text(
                f"Install {package}{extra}, or use attention: sdpa.",
                f"请安装 {package}{extra}，或改用 attention: sdpa。",
            ),
            "settings.attention",
        ) from None
    dtype = component_dtype("transformer", settings)
    if not _works(name, int(card.configs["transformer"]["attention_head_dim"]), dtype, device):
        precision = str(dtype).removeprefix("torch.")
        raise BadInput(
            "settings.attention",
            Text(
                f"attention: {name} does not compute {precision} on this device.",
                f"attention: {name} 无法在此设备上以 {precision} 计算。",
            ),
            Text(
                "Use attention: sdpa. flash and sage need bf16 or fp16, and Ampere or newer.",
                "请改用 attention: sdpa。flash 和 sage 需要 bf16 或 fp16，以及 Ampere 或更新架构。",
            ),
        )


def use_attention(transformer: Any, settings: Mapping[str, Any]) -> None:
    """Gives a transformer the chosen kernels; other models keep theirs."""
    name = str(settings.get("attention", SDPA))
    if name != SDPA:
        # Setting it for one model makes it the default of all; leaving this takes that back.
        with attention_backend(name):
            transformer.set_attention_backend(name)


@torch.no_grad()
def _works(name: str, channels: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernels give what SDPA gives, for queries (B N H E) and keys (B K H E)."""
    generator = torch.Generator("cpu").manual_seed(0)
    query, key, value = (
        torch.randn((1, length, _HEADS, channels), generator=generator).to(device, dtype)
        for length in (_QUERIES, _KEYS, _KEYS)
    )
    expected = dispatch_attention_fn(query, key, value, backend="native").float()
    try:
        found = dispatch_attention_fn(query, key, value, backend=name).float()
        error = (found - expected).norm() / expected.norm()
    except Exception:  # each package refuses in its own way
        return False
    return bool(error < _MOST_ERROR)
