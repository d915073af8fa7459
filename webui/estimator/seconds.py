"""Seconds of each phase: operations, bytes and transfers against the card's rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from webui.core.card import Card
from webui.estimator.tape import COSTS


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What a kind of device reaches of its data sheet."""

    matmul: float
    conv_half: float
    conv_full: float
    """Of the tf32 rate, half of the half-precision one, where the card has it."""
    attention: float
    bandwidth: float
    """Above 1 where caches serve what the count takes for memory traffic."""
    kernel_s: float
    """Launching one operation; hidden behind the device's work when that is longer."""


CUDA = Efficiency(
    matmul=0.60,
    conv_half=0.19,
    conv_full=0.24,
    attention=0.50,
    bandwidth=1.3,
    kernel_s=13e-6,
)
"""Fitted on an H200 (torch 2.11, CUDA 13.0, 2026-11-21): Wan 1.3B and 14B, 480p."""

CPU = Efficiency(
    matmul=0.55,
    conv_half=0.05,
    conv_full=0.30,
    attention=0.35,
    bandwidth=0.5,
    kernel_s=8e-6,
)
"""Two cores of a server processor, torch 2.13; receipts of the machine correct it."""

_FIRST_TF32 = (8, 0)


def compute_seconds(costs: np.ndarray, card: Card, half: bool) -> float:
    """Seconds of work with these costs (one value for each of COSTS).

    Args:
        costs: operations, bytes and kernels, as `webui.estimator.tape.COSTS` names them.
        card: the device's rates.
        half: two bytes a value; else four.
    """
    reach = CUDA if card.kind == "cuda" else CPU
    amount: dict[str, float] = dict(zip(COSTS, costs.tolist(), strict=True))
    tf32 = card.kind == "cuda" and (card.compute_capability or (0, 0)) >= _FIRST_TF32
    matrix_flops = card.bf16_flops if half else card.fp32_flops
    conv_flops = max(card.fp32_flops, card.bf16_flops / 2) if tf32 else card.fp32_flops
    busy = (
        amount["matmul"] / (matrix_flops * reach.matmul)
        + amount["attention"] / (matrix_flops * reach.attention)
        + amount["bytes"] / (card.bandwidth_bytes_s * reach.bandwidth)
    )
    if half:
        busy += amount["conv"] / (card.bf16_flops * reach.conv_half)
    else:
        busy += amount["conv"] / (conv_flops * reach.conv_full)
    launches = amount["kernels"] * reach.kernel_s
    return float(max(busy, launches) if card.kind == "cuda" else busy + launches)


def transfer_seconds(size_bytes: float, card: Card) -> float:
    """Seconds to bring bytes from pinned host memory to the card."""
    return size_bytes / card.pcie_bytes_s
