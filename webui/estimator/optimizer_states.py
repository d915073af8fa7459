"""What the optimizers keep and take for a step: it follows from the parameters alone.

Sources: torch/optim/adam.py (2.11 to 2.13), bitsandbytes/optim/optimizer.py (0.49 to 0.50); tests
compare with the real ones.
"""

from __future__ import annotations

import numpy as np

from webui.estimator.tape import COSTS

SCALAR_BYTES = 4
_EIGHT_BIT_FROM = 4096
"""Smaller tensors keep their states in fp32 (`min_8bit_size`)."""
_BLOCK = 256
"""Values that share one scale in fp32."""
_MAP_BYTES = 256 * SCALAR_BYTES
"""The table of the 256 values that 8 bits stand for; there are two, with and without a sign."""


def states_of(name: str, trained: np.ndarray, value_bytes: int, device: str) -> np.ndarray:
    """Bytes of each state, in the order in which they come.

    Args:
        name: the optimizer.
        trained: bytes of each trained parameter.
        value_bytes: of one of its values.
        device: `cuda` or `cpu`.
    """
    if name == "adamw-8bit":
        return _eight_bit_states(trained // value_bytes)
    # The number of steps is a scalar, which foreach keeps on the processor.
    counts = name == "adamw-fused" or device == "cpu"
    counted = [np.full_like(trained, SCALAR_BYTES)] if counts else []
    return np.stack([*counted, trained, trained], axis=1).reshape(-1)


def _eight_bit_states(values: np.ndarray) -> np.ndarray:
    small = values < _EIGHT_BIT_FROM
    states = np.where(small, SCALAR_BYTES * values, values)
    scales = SCALAR_BYTES * -(-values // _BLOCK)
    sizes = np.stack([states, states, scales, scales], axis=1)
    there = np.ones(sizes.shape, dtype=bool)
    there[small, 2:] = False  # fp32 has no scales
    return np.concatenate([[_MAP_BYTES, _MAP_BYTES], sizes[there]])


def temporaries_of(name: str, trained: np.ndarray) -> np.ndarray:
    """Bytes that a step takes for a moment: foreach has the root of every second moment at once."""
    return trained if name == "adamw" else trained[:0]


_PASSES = {"adamw-fused": 7, "adamw": 20}
"""How often a step reads or writes something of the parameters' size. Fused: weight, gradient and
both states are read, all but the gradient written. Foreach: eight operations after each other."""
_KERNELS = {"adamw-fused": 1, "adamw": 8}
"""Operations that are launched for a list of parameters."""


def step_costs(name: str, trained: np.ndarray, value_bytes: int) -> np.ndarray:
    """Costs of one step of the optimizer, in the order of COSTS."""
    size = float(trained.sum())
    if name == "adamw-8bit":
        states = float(_eight_bit_states(trained // value_bytes).sum())
        moved, kernels = 3 * size + 2 * states, len(trained)
    else:
        moved, kernels = _PASSES[name] * size, _KERNELS[name]
    costs = {"bytes": moved, "kernels": float(kernels)}
    return np.array([costs.get(cost, 0.0) for cost in COSTS])
