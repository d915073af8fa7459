"""Where a request is to run, and how much of it may be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from webui.core.card import Card
from webui.core.text import Text
from webui.core.units import MIB
from webui.estimator.rules import Rules

MARGIN_SHARE = 0.035
MARGIN_BYTES = 64 * MIB
"""Where it was measured: the furthest that one of 367 runs on an H200 and an H100 went above its
estimate was 3.1 % of its limit and 64 MiB (`python -m webui accuracy`)."""
UNMEASURED_MARGIN_SHARE = 0.05
UNMEASURED_MARGIN_BYTES = 128 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request is to run."""

    card: Card
    limit_bytes: int
    """What the process may use in all."""
    host: Card
    """The processor beside it."""
    gpus: int = 1
    """Cards of the machine that may share work, this one included."""
    speed: Mapping[str, float] = field(default_factory=dict)
    """Measured over estimated seconds by phase, from receipts of this machine."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Installed libraries, as a worker reported them; empty when none has run."""
    speed_receipts: Mapping[str, int] = field(default_factory=dict)
    """From how many receipts each phase's speed comes."""
    speed_seconds: Mapping[str, float] = field(default_factory=dict)
    """The estimated seconds of those; without them a phase's speed is taken to be well known."""
    short_bytes: Mapping[str, int] = field(default_factory=dict)
    """What a phase has to leave free of the room, from attempts of the same job."""
    short_shares: Mapping[str, float] = field(default_factory=dict)
    """By how much of a phase's estimate it was too low in other jobs that ran out of memory: so
    much of the room is left free."""
    context_receipts: int = 0
    """From how many receipts the card's `context_bytes` comes; 0: from the list of cards."""
    notes: tuple[Text, ...] = ()
    """What the plan says about this device: calibration, other programs."""


def room_bytes(target: Target, rules: Rules) -> int:
    """What the allocator may reserve: the limit less the context and the margin."""
    return target.limit_bytes - target.card.context_bytes - margin_bytes(target, rules)


def margin_bytes(target: Target, rules: Rules) -> int:
    """What is kept free: more where nothing was measured, none in host memory."""
    share, shared, fixed = margin_parts(target, rules)
    return int(shared * share) + fixed


def margin_parts(target: Target, rules: Rules) -> tuple[float, int, int]:
    """The margin's rule: a share, the bytes that it is a share of, and fixed bytes."""
    shared = min(target.limit_bytes, target.card.vram_bytes)
    if target.card.kind == "cpu":
        return 0.0, shared, 0
    measured = rules.measured and target.card.context_measured
    if measured:
        return MARGIN_SHARE, shared, MARGIN_BYTES
    return UNMEASURED_MARGIN_SHARE, shared, UNMEASURED_MARGIN_BYTES
