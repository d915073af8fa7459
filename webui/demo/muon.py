"""The optimiser: Muon for matrices and convolutions, AdamW for everything else.

Muon (K. Jordan, 2024) turns the momentum of a weight matrix into the nearest matrix whose
directions are all equally long; small networks learn in fewer steps with it than with AdamW.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_KEPT_BY_ADAM = (
    "shared", "embed_tokens", "relative_attention_bias", "scale_shift_table", "patch_embedding",
    "proj_out", "conv_in", "conv_out", "quant_conv",
)  # fmt: skip


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal.

    Args:
        params: weights of two or more dimensions; all but the first are taken as one.
        lr: length of a step; about 16 times what AdamW takes at width 256.
        momentum: of the running gradient.
    """

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; matrices of one size go through the iteration together."""
        for group in self.param_groups:
            by_size: defaultdict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_size[weight.shape[0], weight[0].numel()].append(weight)
            for (rows, columns), weights in by_size.items():
                updates = []
                for weight in weights:
                    gradient = weight.grad
                    assert gradient is not None
                    state: dict[str, Any] = self.state[weight]
                    if not state:
                        state["momentum"] = torch.zeros_like(weight)
                    state["momentum"].lerp_(gradient, 1 - group["momentum"])
                    updates.append(gradient.lerp(state["momentum"], group["momentum"]).flatten(1))
                steps = orthogonalise(torch.stack(updates)) * max(1.0, rows / columns) ** 0.5
                for weight, step in zip(weights, steps, strict=True):
                    weight.add_(step.view_as(weight), alpha=-group["lr"])


def orthogonalise(matrices: Tensor) -> Tensor:
    """About U V^T of each matrix U S V^T, by five Newton-Schulz steps.

    Args:
        matrices: N rows columns.

    Returns:
        The same shape and dtype; singular values between about 0.7 and 1.2.
    """
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def build_optimisers(
    module: nn.Module, matrix_rate: float, other_rate: float
) -> list[torch.optim.Optimizer]:
    """Muon and AdamW over a module; every group keeps its highest rate under "peak"."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in module.named_parameters():
        flat = weight.ndim < 2 or weight[0].numel() == 1 or weight.shape[0] == 1
        kept = flat or any(part in name for part in _KEPT_BY_ADAM)
        (others if kept else matrices).append(weight)
    optimisers = [
        Muon(matrices, matrix_rate),
        torch.optim.AdamW(others, other_rate, betas=(0.9, 0.98), weight_decay=1e-3),
    ]
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return optimisers


def clip_gradients(module: nn.Module, largest: float = 1.0) -> None:
    """Scale the gradients down to a length; a step that overflowed becomes one without gradient.

    One such step would otherwise end the run. Nothing is read back, so that a GPU never waits.
    """
    torch.nn.utils.clip_grad_norm_(module.parameters(), largest)
    for weight in module.parameters():
        if weight.grad is not None:
            torch.nan_to_num_(weight.grad, nan=0.0, posinf=0.0, neginf=0.0)


def set_rates(optimisers: list[torch.optim.Optimizer], share: float) -> None:
    """Set every learning rate to a share of its peak."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * share
