"""The order of tokens by windows, and which windows are near each other.

A window is 2 latent frames by 8 x 8 tokens. Tokens are ordered by windows (time, row, column)
and within a window alike; those of two latent frames, a slab, stand together.

Shapes: B batch, N tokens, C channels; a grid is (frames, rows, columns) of tokens.
"""

from __future__ import annotations

import torch

WINDOW = (2, 8, 8)
"""Latent frames, rows, columns of a window (FlashVSR, arXiv 2510.12747)."""
WINDOW_TOKENS = 128
Grid = tuple[int, int, int]


def to_windows(tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Tokens (B N C) by frame, row and column, to the order of windows."""
    parts = tokens.unflatten(1, _split(grid))
    return parts.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(1, 6)


def from_windows(tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Tokens (B N C) in the order of windows, to that of frame, row and column."""
    frames, inside, rows, tall, columns, wide = _split(grid)
    parts = tokens.unflatten(1, (frames, rows, columns, inside, tall, wide))
    return parts.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 6)


def _split(grid: Grid) -> tuple[int, ...]:
    sizes: list[int] = []
    for count, size in zip(grid, WINDOW, strict=True):
        sizes += (count // size, size)
    return tuple(sizes)


def local_mask(
    rows: int, columns: int, local_range: int, device: torch.device | str
) -> torch.Tensor:
    """Which windows of a slab a window may look at (S S, bool), S = rows * columns.

    Args:
        rows: of windows.
        columns: of windows.
        local_range: windows that are seen along each side; not moved at borders.
        device: of the result.
    """
    near = [_near(count, local_range, device) for count in (rows, columns)]
    both = near[0][:, None, :, None] & near[1][None, :, None, :]
    return both.reshape(rows * columns, rows * columns)


def _near(count: int, local_range: int, device: torch.device | str) -> torch.Tensor:
    place = torch.arange(count, device=device)
    distance = place[None, :] - place[:, None] + local_range // 2
    return (distance >= 0) & (distance < local_range)
