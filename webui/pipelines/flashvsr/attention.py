"""Locality-constrained sparse attention: which windows are attended to, and what streams along.

The rules are those of FlashVSR (OpenImagingLab/FlashVSR, diffsynth/models/wan_video_dit.py).

Shapes: B batch (tiles, each with a choice of its own), N queries, K keys, H heads, E channels of
a head; S windows of a slab, Q and W windows of the queries and the keys. Tokens are in the order
of windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from webui.pipelines.flashvsr.windows import WINDOW_TOKENS, local_mask

SPARSE_RATIOS = {"stable": 2.0, "fast": 1.5}
"""By the setting `sparsity`; more is denser (the authors' scripts and README)."""
LOCAL_RANGE = 11
KV_RATIO = 3.0
"""Of the authors' scripts (examples/WanVSR/infer_flashvsr_v1.1_tiny.py)."""
_TRAINED_PX = 768 * 1280
"""Pixels of the frames that the sparse ratio is meant for."""


@dataclass(slots=True)
class Rule:
    """How the attention of one size of frames chooses; made by `make_rule`."""

    local: torch.Tensor
    """Which windows of a slab see each other (S S)."""
    keep: int
    """Pairs of windows that are kept for each slab of queries, in each head."""
    kv_ratio: float = KV_RATIO
    """Slabs that are remembered."""
    dense: bool = False
    """Everything is attended to; only to compare with."""


def make_rule(
    height: int,
    width: int,
    device: torch.device | str,
    *,
    sparse_ratio: float = SPARSE_RATIOS["stable"],
    local_range: int = LOCAL_RANGE,
    kv_ratio: float = KV_RATIO,
    dense: bool = False,
) -> Rule:
    """The rule for frames of a size.

    Args:
        height: of the frames in pixels, a multiple of 128.
        width: likewise.
        device: of the run.
        sparse_ratio: how much is kept; about 60 times this many windows for each window.
        local_range: windows that are seen along each side.
        kv_ratio: slabs that are remembered.
        dense: attend to everything.
    """
    rows, columns = height // WINDOW_TOKENS, width // WINDOW_TOKENS
    ratio = sparse_ratio * _TRAINED_PX / (height * width)
    return Rule(
        local=local_mask(rows, columns, local_range, device),
        keep=kept_pairs(rows * columns, ratio),
        kv_ratio=kv_ratio,
        dense=dense,
    )


def kept_pairs(windows: int, topk_ratio: float) -> int:
    """Pairs of windows that are kept for a slab of `windows`; in the authors' order of factors,
    which decides in one of twenty sizes."""
    return int(windows * windows * topk_ratio) - 1


def select_windows(query: torch.Tensor, key: torch.Tensor, rule: Rule) -> torch.Tensor:
    """The windows that each window of queries attends to.

    Args:
        query: B N H E, after the rotary embedding.
        key: B K H E, of the remembered slabs and the present one.
        rule: of the frames' size.

    Returns:
        B H Q W, bool. A window may keep none.
    """
    windows = len(rule.local)
    pooled_query, pooled_key = (
        tokens.unflatten(1, (-1, WINDOW_TOKENS)).mean(2, dtype=torch.float32)
        for tokens in (query, key)
    )
    scores = torch.einsum("bqhe,bkhe->bhqk", pooled_query, pooled_key)
    scores = scores * query.shape[-1] ** -0.5
    split = scores.unflatten(3, (-1, windows)).unflatten(2, (-1, windows))
    split.masked_fill_(~rule.local[:, None, :], float("-inf"))
    chances = scores.softmax(-1)
    # Chosen for all windows of a slab together: some keep more, some none.
    pairs = chances.unflatten(2, (-1, windows)).flatten(3)
    count = pairs.shape[-1]
    above = max(0, min(count - 1, rule.keep))
    threshold = pairs.kthvalue(count - above, dim=-1, keepdim=True).values
    return (pairs > threshold).unflatten(3, (windows, -1)).flatten(2, 3)


class KeyCache:
    """Keys and values of one block's last slabs, older first.

    Once it is full its storage stays: every chunk is written over the oldest.
    """

    def __init__(self) -> None:
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def joined(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The remembered and the present ones (B K H E)."""
        if self.keys is None or self.values is None:
            return keys, values
        return torch.cat((self.keys, keys), 1), torch.cat((self.values, values), 1)

    def remember(self, keys: torch.Tensor, values: torch.Tensor, rule: Rule) -> None:
        """Keeps what `joined` gave, less the oldest slab where there are more than it holds."""
        slab = len(rule.local) * WINDOW_TOKENS
        drop = slab if keys.shape[1] // slab > int(rule.kv_ratio) else 0
        self.keys = _kept(self.keys, keys, drop)
        self.values = _kept(self.values, values, drop)


def _kept(before: torch.Tensor | None, joined: torch.Tensor, drop: int) -> torch.Tensor:
    rest = joined[:, drop:]
    if before is not None and before.shape == rest.shape:
        return before.copy_(rest)
    return rest.clone() if drop else joined
