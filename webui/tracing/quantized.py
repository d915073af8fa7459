"""Operations of bitsandbytes as its CUDA kernels do them: by others, with what those allocate.

Its own stand-ins for meta tensors give the results only. Sources: bitsandbytes 0.50,
backends/cuda/ops.py and backends/default/ops.py.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.nn import functional

FUSED_ROWS = 4
"""Rows of values up to which every card multiplies by 4-bit weights as they are; beyond, it depends
on the card and the layer up to 512 rows, and then they are always restored first."""


def parts_of_operation(func: Any, args: tuple[Any, ...]) -> Callable[..., Any] | None:
    """What does the operation by others; None where it is one kernel."""
    name = func.name()
    if name == "bitsandbytes::gemm_4bit" and _is_fused(*args[:5]):
        return None
    return _PARTS.get(name)


def product_flops(func: Any, args: tuple[Any, ...]) -> int | None:
    """Operations of one of the library's matrix products; None for what is none.

    Within an operation that is recorded by its parts PyTorch does not take `linear` apart.
    """
    name = func.name()
    if name == "aten::linear":
        return 2 * args[0].numel() * int(args[1].shape[0])
    if name == "bitsandbytes::gemm_4bit":
        return 2 * args[0].numel() * int(args[2][0])
    if name == "bitsandbytes::int8_linear_matmul":
        return 2 * args[0].numel() * int(args[1].shape[0])
    return None


def _is_fused(
    values: torch.Tensor, _weight: Any, _shape: Any, _scales: Any, block_size: int
) -> bool:
    width = values.shape[-1]
    return values.numel() // width <= FUSED_ROWS and width % block_size == 0


def _gemm_4bit(
    values: torch.Tensor,
    weight: torch.Tensor,
    shape: list[int],
    scales: torch.Tensor,
    block_size: int,
    kind: str,
    bias: torch.Tensor | None = None,
    absmax_8bit: torch.Tensor | None = None,
    absmax_code: torch.Tensor | None = None,
    absmax_offset: torch.Tensor | None = None,
) -> torch.Tensor:
    """The whole weight in the values' format, then the product (`_dequant_linear_fallback`)."""
    operations = torch.ops.bitsandbytes
    if absmax_8bit is not None:
        read = operations.dequantize_blockwise(absmax_8bit, scales, absmax_code, 256, torch.float32)
        scales = read + absmax_offset
    wide = operations.dequantize_4bit(weight, scales, block_size, kind, shape, values.dtype)
    return functional.linear(values, wide, bias)


def _int8_vectorwise_quant(
    values: torch.Tensor, threshold: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Rows of 8-bit values, and what looking for outliers takes.

    Which columns have outliers is in the values; their few columns are taken to be none.
    """
    rows = prod(values.shape[:-1])
    scales = torch.empty(rows, dtype=torch.float32, device=values.device)
    narrow = torch.empty_like(values, dtype=torch.int8)
    if not threshold:
        return narrow, scales, None
    outliers = values.abs() >= threshold
    columns = outliers.new_empty(0, dtype=torch.int64)
    return narrow, scales, columns


def _int8_mixed_scaled_mm(
    values: torch.Tensor,
    narrow: torch.Tensor,
    weight: torch.Tensor,
    scales: torch.Tensor,
    weight_scales: torch.Tensor,
    _columns: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The product of the columns without outliers."""
    found = torch.ops.bitsandbytes.int8_scaled_mm(
        narrow, weight, scales, weight_scales, bias=bias, dtype=values.dtype
    )
    return found, values.new_empty(0)


def _int8_scaled_mm(
    values: torch.Tensor,
    weight: torch.Tensor,
    scales: torch.Tensor,
    weight_scales: torch.Tensor,
    bias: torch.Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Sums in 32 bits, then scaled."""
    operations = torch.ops.bitsandbytes
    sums = operations.int8_linear_matmul(values, weight)
    return operations.int8_mm_dequant(sums, scales, weight_scales, dtype=dtype, bias=bias)


def _int8_mm_dequant(
    sums: torch.Tensor,
    _scales: torch.Tensor,
    _weight_scales: torch.Tensor,
    dtype: torch.dtype | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """In fp16, which is all that the kernel writes, and then in the format that was asked for."""
    found = torch.empty_like(sums, dtype=torch.float16)
    if bias is not None and bias.dtype is not torch.float16:
        found.add_(bias)
    return found.to(dtype or torch.float16)


_PARTS: dict[str, Callable[..., Any]] = {
    "bitsandbytes::gemm_4bit": _gemm_4bit,
    "bitsandbytes::int8_vectorwise_quant": _int8_vectorwise_quant,
    "bitsandbytes::int8_mixed_scaled_mm": _int8_mixed_scaled_mm,
    "bitsandbytes::int8_scaled_mm": _int8_scaled_mm,
    "bitsandbytes::int8_mm_dequant": _int8_mm_dequant,
}
