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
BIAS_ALIGNMENT = 8
"""Values that the rows of an attention bias are filled up to (aten/native/transformers/
attention.cpp, `preprocess_mask`)."""


def _scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    flash: bool | None = None,
    **_: Any,
) -> torch.Tensor:
    """The choice that SDPA makes on CUDA (aten/native/transformers/cuda/sdp_utils.cpp).

    Only flash takes fewer key heads than query heads, and it copies nothing for them
    (`check_batch_size_and_num_heads_dense<supports_gqa>`); where it cannot be, such heads are
    repeated and the whole matrix is made (`_scaled_dot_product_attention_math`).
    """
    if flash is None:
        flash = query.dtype in (torch.float16, torch.bfloat16)
    if attn_mask is None and flash and query.shape[-1] <= FLASH_MAX_HEAD_DIM:
        return torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, is_causal, False, scale=scale
        )[0]
    if enable_gqa and key.shape[1] != query.shape[1]:
        return torch.ops.aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, 0.0, is_causal, None, scale=scale, enable_gqa=True
        )[0]
    if attn_mask is not None:
        attn_mask = _bias(attn_mask, query)
    trains = torch.is_grad_enabled() and query.requires_grad
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, trains, 0.0, is_causal, scale=scale
    )[0]


def _bias(mask: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """A mask as the efficient kernel takes it: added numbers, in rows of whole multiples."""
    if mask.dtype is torch.bool:
        zero = torch.zeros((), dtype=query.dtype, device=query.device)
        mask = torch.where(mask, zero, torch.full_like(zero, float("-inf")))
    length = mask.shape[-1]
    if length % BIAS_ALIGNMENT:
        gap = BIAS_ALIGNMENT - length % BIAS_ALIGNMENT
        mask = functional.pad(mask, (0, gap))[..., :length]
    return mask.expand(*query.shape[:3], length)


def _rms_norm(
    input: torch.Tensor,
    normalized_shape: list[int],
    weight: torch.Tensor | None = None,
    eps: float | None = None,
) -> torch.Tensor:
    """One kernel on CUDA, with a factor for each row (aten/native/cuda/layer_norm_kernel.cu); on
    meta even `_fused_rms_norm` falls apart into operations in fp32. The factor is in fp32, also for
    inputs in half precision."""
    result = torch.empty_like(input)
    input.new_empty((*input.shape[: -len(normalized_shape)], 1), dtype=torch.float32)
    return result


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


def cuda_kernels(flash: bool | None = None) -> AbstractContextManager[None]:
    """Inside, SDPA and RMSNorm on meta tensors allocate as on CUDA.

    Args:
        flash: whether there are kernels that make no matrix and repeat no heads: on cards since
            Ampere in half precision (the default), on older cards never.
    """
    return _kernels(partial(_scaled_dot_product_attention, flash=flash))


def processor_kernels() -> AbstractContextManager[None]:
    """Inside, SDPA on meta tensors allocates as on a processor."""
    return _kernels(_processor_attention)


@contextmanager
def _kernels(attention: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Patched functions rather than a `TorchFunctionMode`: a mode is left inside backward."""
    former, norm = functional.scaled_dot_product_attention, functional.rms_norm
    functional.scaled_dot_product_attention = attention  # type: ignore[assignment]
    functional.rms_norm = _rms_norm  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = former
        functional.rms_norm = norm
