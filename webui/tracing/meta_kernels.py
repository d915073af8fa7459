"""Lets meta tensors take the kernels that a CUDA card takes, where memory depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn import functional

FLASH_MAX_HEAD_DIM = 256
"""Flash attention takes heads up to this size, in half precision and without a mask."""


_plain_attention = functional.scaled_dot_product_attention
"""On the meta device it computes by the plain formula."""


def _scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    flash: bool = True,
    **_: Any,
) -> torch.Tensor:
    """The choice that SDPA makes on CUDA (aten/native/transformers/cuda/sdp_utils.cpp).

    Fewer heads of keys than of queries: flash attention takes them as they are, and the
    memory-efficient kernel takes none (check_batch_size_and_num_heads_dense), so that the plain
    formula remains, which the meta device runs as CUDA does.
    """
    half = flash and query.dtype in (torch.float16, torch.bfloat16)
    if attn_mask is None and half and query.shape[-1] <= FLASH_MAX_HEAD_DIM:
        return torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, is_causal, False, scale=scale
        )[0]
    if enable_gqa and key.shape[1] != query.shape[1]:
        return _plain_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=True
        )
    trains = torch.is_grad_enabled() and query.requires_grad
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, trains, 0.0, is_causal, scale=scale
    )[0]


def _rms_norm(
    input: torch.Tensor,
    normalized_shape: list[int],
    weight: torch.Tensor | None = None,
    eps: float | None = None,
) -> torch.Tensor:
    """One fused kernel on CUDA; on meta it would fall apart into several operations."""
    return torch.ops.aten._fused_rms_norm(input, normalized_shape, weight, eps)[0]


def _processor_attention(
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
    """The kernel of processors: any number format, and fewer heads of keys as they are."""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )[0]


def cuda_kernels() -> AbstractContextManager[None]:
    """Inside, SDPA and RMSNorm on meta tensors allocate as on CUDA.

    Patched functions rather than a `TorchFunctionMode`: a mode is left inside backward.
    """
    return _kernels(_scaled_dot_product_attention)


def older_kernels() -> AbstractContextManager[None]:
    """As on CUDA cards before Ampere, which have no flash attention."""
    return _kernels(partial(_scaled_dot_product_attention, flash=False))


def processor_kernels() -> AbstractContextManager[None]:
    """Inside, SDPA on meta tensors allocates as on a processor."""
    return _kernels(_processor_attention)


@contextmanager
def _kernels(attention: Callable[..., torch.Tensor]) -> Iterator[None]:
    former, norm = functional.scaled_dot_product_attention, functional.rms_norm
    functional.scaled_dot_product_attention = attention  # type: ignore[assignment]
    functional.rms_norm = _rms_norm  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = former
        functional.rms_norm = norm
