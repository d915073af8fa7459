"""Seconds of writing: one batch of answers through its phases."""

from __future__ import annotations

from webui.core.card import Card
from webui.estimator.language import TextMemory
from webui.estimator.writing_seconds import batch_seconds


def phase_seconds(name: str, memory: TextMemory, repeats: int, card: Card, host: Card) -> float:
    """Seconds of one phase, the weights' way to the card included.

    Args:
        name: prefill or generate.
        memory: the same request's memory.
        repeats: 1: all answers are one batch.
        card: where it runs.
        host: the processor beside it.
    """
    return repeats * batch_seconds(name, memory, card, memory.shape["b"])
