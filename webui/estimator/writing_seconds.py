"""Seconds of a batch that is read and answered.

A pass is as long as the longer of what the card does (operations; bytes of weights and cache that
are read) and what the host does to launch it: a step has a thousand small operations, and on fast
cards the host is what it waits for.
"""

from __future__ import annotations

import numpy as np

from webui.core.card import Card
from webui.estimator.seconds import compute_seconds, transfer_seconds
from webui.estimator.tape import COSTS
from webui.estimator.templates import width_of
from webui.estimator.told import longest
from webui.estimator.writing import WritingMemory

HOST_S = {"cuda": 38e-6, "cpu": 8e-6}
"""What one operation of transformers' modules and its `generate` takes the host, by kind of device:
more than in diffusers' loops, because the tensors are small and there is more Python between them.
Fitted to 68 runs of documents and language models beside H200s (torch 2.11, transformers 5.17 and
5.23, 2026-11-21 to 27), whose hosts differed: single runs were best told by 22 to 61 us. With this
94 % of them are within the range that is told. The very first passes of a process, which load their
kernels, took up to 4 s more. A quantised layer's operations are taken to need the host no longer
than others, which was not measured; those of int8 wait for the card too."""


def batch_seconds(
    name: str, memory: WritingMemory, card: Card, batch: int, windowed_tokens: int | None = None
) -> float:
    """Seconds of one phase of one batch.

    Args:
        name: vision, prefill or generate.
        memory: of the request.
        card: where it runs.
        batch: prompts or pages in it.
        windowed_tokens: a picture's, with each window of the tower a whole one.
    """
    if name == "generate":
        return _generate(memory, card, batch)
    costs = memory.costs(name, b=batch)
    if windowed_tokens is not None and name == "vision":
        kernels = COSTS.index("kernels")
        costs[kernels] = memory.costs(name, b=batch, m=windowed_tokens)[kernels]
    part = "vision" if name == "vision" else "language"
    pass_s = compute_seconds(
        costs,
        card,
        _half(memory),
        kernel_s=HOST_S[card.kind],
        streamed_tensors=_streamed(memory, part),
    )
    return _beside_transfer(memory, pass_s, card, part)


def _generate(memory: WritingMemory, card: Card, batch: int) -> float:
    """The first token, and the steps: as many as the one with the cache of middle length."""
    half, host_s = _half(memory), HOST_S[card.kind]
    seconds = compute_seconds(memory.costs("first", b=batch), card, half, kernel_s=host_s)
    if not memory.steps:
        return seconds
    cached = memory.shape["s"] + (memory.steps - 1) / 2
    # Weights in 4 bits that a step restores are written once and read once more.
    restored_bytes = 2 * memory.restored_bytes.get("all", 0)
    cache_bytes = batch * cached * int(memory.template.array("bytes.token"))
    step_s = compute_seconds(
        memory.costs("step", b=batch, c=cached),
        card,
        half,
        kernel_s=host_s,
        read_bytes=int(memory.template.array("bytes.step")) + cache_bytes + restored_bytes,
        streamed_tensors=_streamed(memory, "language"),
    )
    return seconds + memory.steps * _beside_transfer(memory, step_s, card, "language")


def _beside_transfer(memory: WritingMemory, pass_s: float, card: Card, part: str) -> float:
    """A pass with the weights that come meanwhile, where they are streamed."""
    if not memory.streamed:
        return pass_s
    return longest(pass_s, transfer_seconds(int(memory.template.array(f"bytes.{part}")), card))


def _streamed(memory: WritingMemory, part: str) -> int:
    """Tensors that a pass of the tower (`vision`) or of the language model brings."""
    if not memory.streamed:
        return 0
    sizes = memory.template.array("weights")
    # The tower's come first.
    of_tower = int(np.searchsorted(np.cumsum(sizes), memory.template.array("bytes.vision")))
    return of_tower if part == "vision" else len(sizes) - of_tower


def _half(memory: WritingMemory) -> bool:
    return width_of(str(memory.settings["precision"])) == "half"
