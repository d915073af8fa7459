"""Seconds of each phase: operations, bytes and transfers against the card's rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from webui.core.card import Card
from webui.estimator.tape import COSTS
from webui.estimator.told import SecondsTerm, note


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
    read: float
    """Of the bandwidth, where weights are read once for a few tokens. Assumed, not measured;
    receipts of the machine correct it."""
    start_s: float
    """What a phase takes before it is under way: kernels are chosen and loaded."""


CUDA = Efficiency(
    matmul=0.60,
    conv_half=0.19,
    conv_full=0.24,
    attention=0.50,
    bandwidth=1.3,
    kernel_s=26e-6,
    start_s=0.16,
    read=0.75,
)
"""Fitted on an H200 (torch 2.11, CUDA 13.0) to 65 phases of Wan 1.3B and 14B of 2026-11-21, 86 % of
them within 15 %; `python -m webui accuracy` compares with the runs that are kept."""

CPU = Efficiency(
    matmul=0.55,
    conv_half=0.05,
    conv_full=0.30,
    attention=0.35,
    bandwidth=0.5,
    kernel_s=8e-6,
    start_s=0.0,
    read=0.6,
)
"""Two cores of a server processor, torch 2.13; receipts of the machine correct it."""

STREAMED_KERNELS = 8
"""Bringing one streamed tensor takes the host as long as so many launches, hidden like them behind
the device's work: 0.2 ms in diffusers' loops, 0.4 ms in transformers'. From an H200's runs (64
cores, torch 2.11, 2026-11-27), streamed beside resident: Wan 1.3B and SVD 0.2 ms, Qwen3-VL,
Qwen2.5-VL and GLM-Edge 0.22 to 0.47."""
PIECES_SHARE = 0.01
"""What doing the token-wise work in pieces is taken to cost: more and smaller kernels for the same
operations. Assumed, not measured; receipts of the machine correct it."""
NARROW_OPERATIONS = 110
"""What a value costs in kernels that normalise a few dozen channels, or move windows of them about:
they are busy with instructions and not with memory. Swin2SR with 48 channels on an H200 (torch
2.11, 2026-11-28), 16 tiles of 256 px at a time: 4.5 and 6.7 ms a tile for x2 and x4 in half
precision, 6.3 and 9.4 in single, which is 104 to 120 beside the bytes."""
_FIRST_TF32 = (8, 0)
_OVERLAP = 4
"""Fitted with the others: infinite would be a plain maximum, 1 no overlap at all."""


def compute_seconds(
    costs: np.ndarray,
    card: Card,
    half: bool,
    kernel_s: float | None = None,
    read_bytes: float = 0.0,
    streamed_tensors: int = 0,
    narrow_values: float = 0.0,
) -> float:
    """Seconds of work with these costs (one value for each of COSTS).

    Args:
        costs: operations, bytes and kernels, as `webui.estimator.tape.COSTS` names them.
        card: the device's rates.
        half: two bytes a value; else four.
        kernel_s: seconds of launching one operation, where it is not as usual.
        read_bytes: of weights that matrix products with few rows read.
        streamed_tensors: that the host brings meanwhile.
        narrow_values: that operations over few channels go through, on a GPU.
    """
    reach = CUDA if card.kind == "cuda" else CPU
    amount: dict[str, float] = dict(zip(COSTS, costs.tolist(), strict=True))
    tf32 = card.kind == "cuda" and (card.compute_capability or (0, 0)) >= _FIRST_TF32
    matrix_flops = card.bf16_flops if half else card.fp32_flops
    conv_flops = max(card.fp32_flops, card.bf16_flops / 2) if tf32 else card.fp32_flops
    reached = {
        "matmul": (matrix_flops, reach.matmul),
        "attention": (matrix_flops, reach.attention),
        "bytes": (card.bandwidth_bytes_s, reach.bandwidth),
        "conv": (card.bf16_flops, reach.conv_half) if half else (conv_flops, reach.conv_full),
    }
    if read_bytes:
        amount["read"] = read_bytes
        reached["read"] = (card.bandwidth_bytes_s, reach.read)
    rates = {name: rate * share for name, (rate, share) in reached.items()}
    if narrow_values and card.kind == "cuda":
        amount["narrow"] = narrow_values
        rates["narrow"] = card.fp32_flops / NARROW_OPERATIONS
    busy = sum(amount[name] / rate for name, rate in rates.items())
    launch_s = reach.kernel_s if kernel_s is None else kernel_s
    launches = amount["kernels"] * launch_s
    rates["kernels"] = launch_s
    if streamed_tensors:
        amount["streamed"] = streamed_tensors
        rates["streamed"] = STREAMED_KERNELS * launch_s
        launches += streamed_tensors * STREAMED_KERNELS * launch_s
    seconds = float(_overlapped(busy, launches) if card.kind == "cuda" else busy + launches)
    return note(SecondsTerm("compute", card.name, amount, rates, seconds, reached))


def _overlapped(busy_s: float, launches_s: float) -> float:
    """Device and host work at the same time: the longer counts, and a little more where they are
    about as long, since neither then hides behind the other all the time."""
    longest = max(busy_s, launches_s)
    if not longest:
        return 0.0
    shares = (busy_s / longest, launches_s / longest)
    return longest * math.pow(sum(share**_OVERLAP for share in shares), 1 / _OVERLAP)


def costs_of_clips(costs: np.ndarray, clips: int) -> np.ndarray:
    """Costs of a pass through the model with several clips, from those with one: as many kernels,
    each with more to do."""
    return costs * np.where(np.array(COSTS) == "kernels", 1, clips)


def start_seconds(card: Card) -> float:
    """What a phase takes before it is under way."""
    seconds = (CUDA if card.kind == "cuda" else CPU).start_s
    return note(SecondsTerm("start", card.name, {}, {}, seconds)) if seconds else 0.0


def transfer_seconds(size_bytes: float, card: Card) -> float:
    """Seconds to bring bytes from pinned host memory to the card."""
    rate = card.pcie_bytes_s
    term = SecondsTerm(
        "transfer", card.name, {"bytes": size_bytes}, {"bytes": rate}, size_bytes / rate
    )
    return note(term)
