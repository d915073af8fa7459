"""How a request's steps fall to the two transformers of a model that has two."""

from __future__ import annotations

import numpy as np

from webui.core.clip import ClipCard, ClipRequest

FEW_STEPS = 3
"""So many are traced: the later ones are like the last of them (`tracing.wan_request`)."""
_MANY_STEPS = 200
"""With so many, each transformer that has a step at all has more than `FEW_STEPS`."""
_NEARLY_ONE = 1e-6
"""UniPC begins this much below 1."""


def relevant_steps(phase: str, card: ClipCard, request: ClipRequest) -> int:
    """A number of steps that stands for all with which a phase has the same memory."""
    if not phase.startswith("denoise"):
        return card.defaults.steps
    if steps_of(phase, card, request) < FEW_STEPS:
        return request.steps
    return FEW_STEPS if phase == "denoise" else _MANY_STEPS


def steps_of(phase: str, card: ClipCard, request: ClipRequest) -> int:
    """The steps of a phase that denoises."""
    if phase == "denoise":
        return request.steps
    return expert_steps(card, request, request.steps)[phase == "denoise_low"]


def expert_steps(card: ClipCard, request: ClipRequest, steps: int) -> tuple[int, int]:
    """Steps of the first transformer, for noisy latents, and of the second.

    The times are those of the flow solvers (diffusers, schedulers/scheduling_unipc_multistep.py
    and scheduling_dpmsolver_multistep.py, `set_timesteps` with `use_flow_sigmas`); the pipeline
    compares each with `boundary_ratio`. A test compares with the schedulers themselves.

    Args:
        card: the model.
        request: names the solver and its shift.
        steps: of the whole loop.
    """
    train_steps = int(card.configs["scheduler"].get("num_train_timesteps", 1000))
    alphas = np.linspace(1, 1 / train_steps, steps + 1)
    shift = request.flow_shift
    if request.solver == "unipc":
        sigmas = _shifted(alphas[:-1], shift)
        if abs(sigmas[0] - 1) < _NEARLY_ONE:
            sigmas[0] -= _NEARLY_ONE
    else:
        sigmas = np.flip(_shifted(1.0 - alphas, shift))[:-1]
    times = (sigmas * train_steps).astype(np.int64)
    high = int((times >= float(card.pipeline["boundary_ratio"]) * train_steps).sum())
    return high, steps - high


def _shifted(sigmas: np.ndarray, shift: float) -> np.ndarray:
    shifted: np.ndarray = shift * sigmas / (1 + (shift - 1) * sigmas)
    return shifted
