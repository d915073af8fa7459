"""Seconds of a training step's phases: one step of the optimizer, with all its micro-batches."""

from __future__ import annotations

from webui.core.card import Card
from webui.estimator.optimizer_states import step_costs
from webui.estimator.qwen_vl_shape import vision_attention_of
from webui.estimator.qwen_vl_training import TrainingMemory
from webui.estimator.seconds import compute_seconds, transfer_seconds
from webui.estimator.tape import term_values
from webui.estimator.told import longest


def phase_seconds(name: str, memory: TrainingMemory, repeats: int, card: Card, host: Card) -> float:
    """Seconds of one phase in one step of the optimizer.

    Args:
        name: forward, backward or optimizer.
        memory: the same request's memory.
        repeats: micro-batches of a step.
        card: where it runs.
        host: the processor beside it, which a step does not need.
    """
    if name == "optimizer":
        return _optimizer(memory, card)
    if name == "forward":
        seconds = repeats * _compute(memory, "forward", card)
        return seconds + _gathered(memory, repeats, card)
    seconds = _compute(memory, "backward", card)
    if repeats > 1:
        seconds += (repeats - 1) * _compute(memory, "again", card)
    return seconds + _gathered(memory, repeats, card) + _reduced(memory, repeats, seconds, card)


def _compute(memory: TrainingMemory, direction: str, card: Card) -> float:
    """One pass of one micro-batch."""
    prefix = f"{memory.variant}.costs"
    products = [str(names) for names in memory.template.array(f"{prefix}.terms")]
    terms = tuple(tuple(names.split("*")) if names else () for names in products)
    cut = vision_attention_of(memory.card, memory.request)
    shape = memory.step.to_dict() | {"q": cut.q, "x": cut.x}
    costs = memory.template.array(f"{prefix}.{direction}") @ term_values(shape, terms)
    return compute_seconds(costs, card, memory.width == "half")


def _optimizer(memory: TrainingMemory, card: Card) -> float:
    """One step; with ZeRO each GPU does its share and sends the new weights to all others."""
    trained = memory.trained
    if not memory.zero_stage:
        name = str(memory.settings["optimizer"])
        return compute_seconds(step_costs(name, trained, memory.value_bytes), card, False)
    share = trained / memory.gpus * (4 / memory.value_bytes)
    seconds = compute_seconds(step_costs("adamw-fused", share, 4), card, False)
    if memory.zero_stage < 3:  # its weights stay apart
        seconds += transfer_seconds(_sent(memory, float(trained.sum())), card)
    return seconds


def _reduced(memory: TrainingMemory, repeats: int, backward_s: float, card: Card) -> float:
    """Adding up gradients over the GPUs, beyond what hides behind the backward pass.

    Without ZeRO each gradient is sent there and back while others are computed; stage 1 sends it
    once a step; from stage 2 on each micro-batch sends its own, and adds it to the GPU's share.
    """
    if memory.gpus == 1:
        return 0.0
    gradients = float(memory.trained.sum())
    sent = transfer_seconds(_sent(memory, gradients), card)
    if memory.zero_stage == 0:
        return longest(0.0, 2 * sent - backward_s)
    if memory.zero_stage == 1:
        return sent
    share = 3 * gradients / memory.gpus / card.bandwidth_bytes_s
    return repeats * (sent + share)


def _gathered(memory: TrainingMemory, repeats: int, card: Card) -> float:
    """Bringing the weights of each layer together, in stage 3."""
    if memory.zero_stage < 3:
        return 0.0
    weights = float(memory.template.array("weights").sum())
    return repeats * transfer_seconds(_sent(memory, weights), card)


def _sent(memory: TrainingMemory, size_bytes: float) -> float:
    """What each GPU sends so that all have all, in a ring."""
    return size_bytes * (memory.gpus - 1) / memory.gpus
