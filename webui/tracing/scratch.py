"""Memory that CUDA's kernels take for themselves while one operation runs.

The meta device has no kernels, so it allocates none of it: the rules are those of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

PICKS = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
"""Operations that pick values, by their places or by a mask."""
_FEW_CHANNELS = 32
"""Of an fp32 result. Allocators' records of the last convolutions of Wan2.1 and of the demo's VAE
(H200, torch 2.11, 2026-11-27): with 3 and with 16 it copies, with 96 not; in bf16 never."""
_CHANNEL_BLOCK = 64
"""Pictures (not clips) whose channels are a multiple of it are not copied there: convolutions of 17
numbers of channels to 13, at three sizes, on an H200 (torch 2.11, 2026-11-29)."""
_FILLED = 4
"""Instead the few channels of their result are filled up to a multiple of it (the same runs)."""
_CHANNELS = 8
"""Tensor cores take multiples of so many in half precision."""
_FLASH_ROWS = 128
"""Flash attention's backward pass works on whole blocks of so many rows."""


def scratch_bytes(func: Any, args: tuple[Any, ...], result: Any, true_values: int = 0) -> int:
    """What the operation's kernel takes beside its arguments and its result.

    Args:
        func: the operation.
        args: its arguments.
        result: of it.
        true_values: how many values of a mask are true, where it picks those.
    """
    if func in PICKS:
        # The places of a mask's true values (aten/native/TensorAdvancedIndexing.cpp, `nonzero`).
        return sum(8 * index.ndim * true_values for index in args[1] if is_mask(index))
    rule = _RULES.get(func)
    return rule(args, result) if rule is not None else 0


def _convolution(args: tuple[Any, ...], result: torch.Tensor) -> int:
    """cuDNN computes in channels-last: what is contiguous is copied, its result and kernels too.

    Records of the allocator on an H200 (torch 2.11, cuDNN 9.19): SVD's UNet and VAE, Wan's VAE and
    its patches: input + output + weight, and 147 bytes, which are left out, as are 16 MB more in
    the UNet's lowest layers. In half precision channels are filled up to eight (the 36 of Wan's
    clips with a picture are 40). Where an fp32 result has few channels, it copies the input
    whatever its layout is, unless a picture's channels are a multiple of 64. What is neither
    contiguous nor in channels-last is made contiguous first. A clip that the kernel covers whole is
    a product, which copies nothing (patches of Qwen2.5-VL and GLM-OCR).
    """
    image, weight = args[0], args[1]
    covered = image.ndim == 5 and max(result.shape[2:]) == 1
    if covered or _is_plain_depthwise(image, args[8]):
        return 0
    alike = weight.is_contiguous(memory_format=channels_last(weight))
    copied = 0 if alike else weight.nbytes
    if is_channels_last(image):
        return int(copied + _few_channels(image, result))
    if is_channels_last(weight):
        return int(image.nbytes)
    channels = filled = image.shape[1]
    if image.element_size() == 2:
        filled = -(-channels // _CHANNELS) * _CHANNELS
    gathered = 0 if image.is_contiguous() else image.nbytes
    return int(gathered + (image.nbytes + copied) * filled // channels + result.nbytes)


def _few_channels(image: torch.Tensor, result: torch.Tensor) -> int:
    """What an fp32 convolution in channels-last copies because its result has few channels."""
    made = result.shape[1]
    if image.dtype is not torch.float32 or made >= _FEW_CHANNELS:
        return 0
    if image.ndim == 5 or image.shape[1] % _CHANNEL_BLOCK:
        return int(image.nbytes)
    return int(result.nbytes // made * (-(-made // _FILLED) * _FILLED)) if made % _FILLED else 0


def _is_plain_depthwise(image: torch.Tensor, groups: int) -> bool:
    """A filter for each channel, which PyTorch computes itself in fp32, without copies
    (aten/native/Convolution.cpp, `use_cudnn_depthwise`)."""
    single = image.dtype is torch.float32 and groups == image.shape[1] > 1
    return single and not is_channels_last(image)


def _flash_backward(args: tuple[Any, ...], result: Any) -> int:
    """Gradients of the queries in fp32, a sum a row, and each query head's own keys and values
    (aten/native/transformers/cuda/flash_attn/flash_api.cpp, mha_bwd).
    """
    query, key = args[1], args[2]
    batch, heads, rows, size = query.shape
    padded = -(-rows // _FLASH_ROWS) * _FLASH_ROWS
    multiple = 32 if size <= 128 else 64
    sums = 4 * batch * heads * padded * (1 + -(-size // multiple) * multiple)
    if key.shape[1] == heads:
        return int(sums)
    return int(sums + 2 * query.element_size() * batch * heads * key.shape[2] * size)


def _masked_scatter(args: tuple[Any, ...], result: torch.Tensor) -> int:
    """The whole mask, and where each of its values goes (aten/native/cuda/IndexKernel.cpp)."""
    return 9 * result.numel()


def _masked_scatter_backward(args: tuple[Any, ...], result: torch.Tensor) -> int:
    """The whole mask, and three coordinates of each value that it selects (masked_select, nonzero:
    aten/native/cuda/Nonzero.cu)."""
    return int(args[0].numel()) + 24 * result.numel()


_RULES: dict[Any, Callable[[tuple[Any, ...], Any], int]] = {
    torch.ops.aten.convolution.default: _convolution,
    torch.ops.aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    torch.ops.aten.masked_scatter.default: _masked_scatter,
    torch.ops.aten.masked_scatter_backward.default: _masked_scatter_backward,
}


def is_mask(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype is torch.bool and index.is_meta


def is_channels_last(tensor: torch.Tensor) -> bool:
    """As a convolution takes it: a single picture may have any first stride, but one that would be
    too small for several is not channels-last (c10/core/MemoryFormat.h,
    is_channels_last_strides_2d_s4): such a picture is made contiguous."""
    alike = tensor.is_contiguous(memory_format=channels_last(tensor))
    plain = tensor.is_contiguous()
    return alike and not plain and tensor.stride(0) >= tensor.stride(2) * tensor.shape[2]


def channels_last(tensor: torch.Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.ndim == 4 else torch.channels_last_3d
