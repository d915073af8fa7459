"""The optimizers of the setting `optimizer`: three ways to run AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from webui.core.errors import MissingDependency
from webui.core.text import Text

LEARNING_RATE = 1e-5
WEIGHT_DECAY = 0.015
"""Of the authors of OmniSVG (OpenVGLab/OmniSVG-train, configs/train_config.yaml)."""
_EPS = {torch.float16: 1e-4}
"""Where PyTorch's own, 1e-8, would be zero."""


def build_optimizer(name: str, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of that name; its states come with its first step.

    Args:
        name: `adamw-fused`, `adamw` (foreach) or `adamw-8bit`.
        parameters: what it changes.

    Raises:
        MissingDependency: 8-bit states without a bitsandbytes that works here.
    """
    values: dict[str, Any] = {
        "lr": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "eps": _EPS.get(parameters[0].dtype, 1e-8),
    }
    if name == "adamw-8bit":
        kind = _eight_bit(parameters[0].device)
        made: torch.optim.Optimizer = kind(parameters, **values)
        return made
    fused = name == "adamw-fused"
    return torch.optim.AdamW(parameters, fused=fused, foreach=not fused, **values)


def _eight_bit(device: torch.device) -> Any:
    if device.type == "cuda":
        try:
            return import_module("bitsandbytes").optim.AdamW8bit
        # It looks for CUDA's libraries while it is imported, and fails in many ways.
        except Exception:
            pass
    raise MissingDependency(
        Text(
            "The optimizer adamw-8bit needs an NVIDIA GPU and a bitsandbytes that works with it.",
            "优化器 adamw-8bit 需要 NVIDIA GPU 以及可用的 bitsandbytes。",
        ),
        Text(
            'Install the extra: pip install -e ".[gpu]"; or use adamw-fused.',
            '请安装附加依赖：pip install -e ".[gpu]"；或使用 adamw-fused。',
        ),
        "settings.optimizer",
    )
