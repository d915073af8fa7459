"""Lets meta tensors take the kernels that a CUDA card takes, where memory depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

FLASH_MAX_HEAD_DIM = 256
"""Flash attention takes heads up to this size, in half precision and without a mask."""


def _scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    **_: Any,
) -> torch.Tensor:
    """The choice that SDPA makes on CUDA (aten/native/transformers/cuda/sdp_utils.cpp)."""
    if enable_gqa and key.shape[1] != query.shape[1]:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    half = query.dtype in (torch.float16, torch.bfloat16)
    if attn_mask is None and half and query.shape[-1] <= FLASH_MAX_HEAD_DIM:
        return torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, is_causal, False, scale=scale
        )[0]
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, False, 0.0, is_causal, scale=scale
    )[0]


def _rms_norm(
    input: torch.Tensor,
    normalized_shape: list[int],
    weight: torch.Tensor | None = None,
    eps: float | None = None,
) -> torch.Tensor:
    """One fused kernel on CUDA; on meta it would fall apart into several operations."""
    return torch.ops.aten._fused_rms_norm(input, normalized_shape, weight, eps)[0]


@contextmanager
def cuda_kernels() -> Iterator[None]:
    """Inside, SDPA and RMSNorm on meta tensors allocate as on CUDA.

    Patched functions rather than a `TorchFunctionMode`: a mode is left inside backward.
    """
    attention, norm = functional.scaled_dot_product_attention, functional.rms_norm
    functional.scaled_dot_product_attention = _scaled_dot_product_attention  # type: ignore[assignment]
    functional.rms_norm = _rms_norm  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = attention  # type: ignore[assignment]
        functional.rms_norm = norm  # type: ignore[assignment]
