"""Cuts a recorded decode into the calls of the decoder, which repeat frame after frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from webui.estimator.tape import COSTS, RELEASE, SCRATCH
from webui.tracing.recorder import MARK, Event, Recorder, Recording

DECODER_CALL = "decoder call"


@dataclass(slots=True)
class Call:
    """One call: its events, and how it hangs on the calls before it."""

    events: list[Event] = field(default_factory=list)
    outside: list[tuple[int, int]] = field(default_factory=list)
    """For each storage of earlier calls that it frees: calls back, and number in that call."""
    output: int = -1
    """Number of the storage that it returns, among those made in the call."""
    costs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))


def cut_calls(recording: Recording) -> list[Call]:
    """The calls between the marks, in order.

    A call may free storages of earlier calls (the feature caches that it replaces); they are
    named by how many calls back they were made.
    """
    calls: list[Call] = []
    made_in: dict[int, tuple[int, int]] = {}
    made = 0
    inside = False
    begun: dict[str, float] = {}
    for event in recording.events:
        if event.kind == MARK:
            inside = event.mark.endswith("begins")
            if inside:
                calls.append(Call())
                made = 0
                begun = event.costs
            else:
                calls[-1].output = made_in[event.slot][1]
                calls[-1].costs = {name: event.costs[name] - begun[name] for name in COSTS}
            continue
        if not inside:
            continue
        call = calls[-1]
        call.events.append(event)
        if event.kind == RELEASE:
            index, number = made_in[event.slot]
            if index != len(calls) - 1:
                call.outside.append((len(calls) - 1 - index, number))
        elif event.kind != SCRATCH:
            made_in[event.slot] = (len(calls) - 1, made)
            made += 1
    return calls


@contextmanager
def marked_calls(module: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Marks where each forward pass of the module begins and ends, and what it returns."""

    def before(*_: Any) -> None:
        recorder.mark(f"{DECODER_CALL} begins")

    def after(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        recorder.mark(f"{DECODER_CALL} ends", recorder.slot_of(output))

    handles = (module.register_forward_pre_hook(before), module.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
