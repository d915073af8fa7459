"""Attention over chosen windows: PyTorch's compiled flex_attention, or an exact way without it.

Shapes: B batch, N queries, K keys, H heads, E channels of a head, Q and W windows of the queries
and the keys.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from webui.pipelines.flashvsr.windows import WINDOW_TOKENS

_LOG = logging.getLogger(__name__)
_MOST_SHAPES = 256
"""Sizes that may be compiled for in a process; each takes a few seconds once."""
_MOST_SCORES_BYTES = 2**27
"""That the exact way holds at a time, should SDPA not have a kernel that holds none."""
_MOST_ERROR = 0.02
"""Relative, against the exact way in bf16; a kernel that ignores the choice is far outside."""
_SLABS = ((3, 3), (1, 4))
"""Of queries and keys, in the first chunk and in later ones."""
Kernel = Callable[..., torch.Tensor]


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kept: torch.Tensor
) -> torch.Tensor:
    """Softmax attention of every query over the tokens of the windows that its window keeps.

    Args:
        query: B N H E in the order of windows.
        key: B K H E.
        value: B K H E.
        kept: B H Q W, bool.

    Returns:
        B N H E; zeros where a window keeps none.
    """
    query, key, value = (tokens.transpose(1, 2) for tokens in (query, key, value))
    if query.is_meta:
        found = _like_compiled(query, kept)
    elif compiled_works(query.device, query.dtype):
        found = attend_compiled(query, key, value, kept)
    else:
        found = attend_exactly(query, key, value, kept)
    empty = ~kept.any(-1)
    found.unflatten(2, (-1, WINDOW_TOKENS)).masked_fill_(empty[..., None, None], 0)
    return found.transpose(1, 2)


def attend_to_all(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Dense attention (all B N H E), to compare with."""
    found = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    )
    return found.transpose(1, 2)


def _window_lists(kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many windows each window keeps (B H Q), and which, those first (B H Q W); int32."""
    order = kept.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return kept.sum(-1, dtype=torch.int32), order.to(torch.int32)


def attend_compiled(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kept: torch.Tensor
) -> torch.Tensor:
    """Through the compiled kernel, which skips what is not kept (all B H N E)."""
    counts, order = _window_lists(kept)
    return _compiled()(query, key, value, kept, counts, order, *_no_lists(counts, order))


def _no_lists(counts: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of windows that are kept in part, which there are none of: tensors of their own, since the
    kernel's templates take no tensor twice."""
    return torch.zeros_like(counts), torch.zeros_like(order)


@cache
def _compiled() -> Kernel:
    limit = max(torch._dynamo.config.recompile_limit, _MOST_SHAPES)
    torch._dynamo.config.recompile_limit = limit
    # Whole or not at all: what is not compiled ignores the lists and holds every score.
    return torch.compile(_flex, fullgraph=True, dynamic=False)


def _flex(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    kept: torch.Tensor,
    counts: torch.Tensor,
    order: torch.Tensor,
    no_counts: torch.Tensor,
    no_order: torch.Tensor,
) -> Any:
    def looked_up(
        batch: torch.Tensor, head: torch.Tensor, at: torch.Tensor, to: torch.Tensor
    ) -> torch.Tensor:
        return kept[batch, head, at // WINDOW_TOKENS, to // WINDOW_TOKENS]

    # Kept windows are kept whole, so the kernel need not look up their tokens.
    blocks = BlockMask.from_kv_blocks(
        no_counts,
        no_order,
        counts,
        order,
        BLOCK_SIZE=WINDOW_TOKENS,
        mask_mod=looked_up,
        seq_lengths=(query.shape[2], key.shape[2]),
        compute_q_blocks=False,
    )
    return flex_attention(query, key, value, block_mask=blocks)


def _like_compiled(query: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Allocates what the compiled kernel does: the lists, the result, and two values a query
    (torch/_inductor/kernel/flex/flex_attention.py: logsumexp, max_scores)."""
    counts, order = _window_lists(kept)
    none = _no_lists(counts, order)
    rows = [query.new_empty(query.shape[:3], dtype=torch.float32) for _ in range(2)]
    found = torch.empty_like(query)
    del counts, order, none, rows
    return found


def attend_exactly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kept: torch.Tensor
) -> torch.Tensor:
    """The same without compiling (all B H N E): window by window, by as many heads as fit."""
    scores_bytes = 4 * len(query) * WINDOW_TOKENS * key.shape[2]
    group = max(1, _MOST_SCORES_BYTES // scores_bytes)
    # In the memory order of the query, as the compiled kernel has it.
    found = torch.empty_like(query)
    for head in range(0, query.shape[1], group):
        heads = slice(head, head + group)
        for window in range(kept.shape[2]):
            at = slice(window * WINDOW_TOKENS, (window + 1) * WINDOW_TOKENS)
            allowed = kept[:, heads, window].repeat_interleave(WINDOW_TOKENS, -1)[:, :, None]
            found[:, heads, at] = functional.scaled_dot_product_attention(
                query[:, heads, at], key[:, heads], value[:, heads], attn_mask=allowed
            )
    return found


@cache
@torch.no_grad()  # as in the run: what is compiled for another mode is compiled again
def warm_up(device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int, int]) -> None:
    """Has the kernel compiled for the two passes of a size: the first, and every later one. Only
    where `compiled_works`.

    Args:
        device: of the run.
        dtype: of the tokens.
        shape: batch, tokens of a slab, heads, channels of a head.
    """
    batch, slab, heads, channels = shape
    for queries, keys in _SLABS:
        query, key, value = (
            torch.zeros((batch, slabs * slab, heads, channels), dtype=dtype, device=device)
            for slabs in (queries, keys, keys)
        )
        windows = slab // WINDOW_TOKENS
        kept = torch.eye(queries * windows, keys * windows, dtype=torch.bool, device=device)
        attend(query, key, value, kept.expand(batch, heads, -1, -1).contiguous())


def compiled_works(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the compiled kernel runs on the device and gives what the exact way gives.

    Tried once, by running it; it needs a GPU, Triton and a C compiler.
    """
    return can_compile(device) and _probed(device, dtype)


def can_compile(device: torch.device) -> bool:
    """Whether there is a compiled kernel for such devices at all."""
    return device.type == "cuda"


@cache
@torch.no_grad()
def _probed(device: torch.device, dtype: torch.dtype) -> bool:
    generator = torch.Generator("cpu").manual_seed(0)
    query, key, value = (
        torch.randn((1, windows * WINDOW_TOKENS, 2, 128), generator=generator)
        .to(device, dtype)
        .transpose(1, 2)
        for windows in (2, 4, 4)
    )
    kept = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0]], dtype=torch.bool, device=device)
    kept = kept.expand(1, 2, 2, 4).contiguous()
    try:
        found = attend_compiled(query, key, value, kept).float()
    except Exception as error:  # Triton, the compiler and the driver each refuse in their own way
        why = (str(error).strip().splitlines() or [""])[0][:200]
        _LOG.warning(
            "Sparse attention is not compiled on %s, so it is exact but slow: %s: %s",
            device,
            type(error).__name__,
            why,
        )
        return False
    expected = attend_exactly(query, key, value, kept).float()
    off_by = float((found - expected).norm() / expected.norm())
    if not off_by < _MOST_ERROR:
        _LOG.warning(
            "Compiled sparse attention is off by %.3f on %s: the exact way is taken", off_by, device
        )
        return False
    return True
