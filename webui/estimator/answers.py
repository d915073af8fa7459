"""What each phase's memory and time depend on, and the answers that were given before.

A slider that does not change a phase costs nothing: its key stays the same.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from threading import Lock

from webui.core.card import Card
from webui.core.model import ModelCard
from webui.core.request import Request
from webui.core.settings import Settings
from webui.estimator.events import PhaseEvents
from webui.estimator.families import Memory, find_family
from webui.estimator.replay import Replay
from webui.estimator.rules import Rules
from webui.estimator.seconds import start_seconds
from webui.estimator.templates import template_source, use_local_folder

_KEPT_REPLAYS = 512
_KEPT_PHASES = 48
"""Whose events are kept: those of one search, each with some hundred thousand bytes."""


class Key:
    """What a phase's events depend on, as a cache key."""

    __slots__ = ("_hash", "_parts", "model", "request", "rules", "settings")

    def __init__(
        self, model: ModelCard, request: Request, settings: Settings, rules: Rules
    ) -> None:
        self.model, self.request, self.settings, self.rules = model, request, settings, rules
        values = dict(settings)
        values.pop("allocator", None)  # it is among the rules
        chosen = frozenset(values.items())
        self._parts = (model.name, model.task, *request.shape, rules, chosen, template_source())
        self._hash = hash(self._parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self._parts == other._parts and self.model is other.model


def key_of(phase: str, model: ModelCard, request: Request, settings: Settings, rules: Rules) -> Key:
    """The key of a phase: what the phase does not depend on is left out of it."""
    known = find_family(model).relevant(phase, model, request, settings, rules)
    return Key(model, *known, rules)


@lru_cache(maxsize=64)
def memory_of(key: Key) -> Memory:
    """The phases' events, put together when they are asked for."""
    return find_family(key.model).memory(key.model, key.request, key.settings, key.rules)


@lru_cache(maxsize=_KEPT_PHASES)
def phase_events(key: Key, phase: str) -> PhaseEvents:
    """A phase's events; not to be added to."""
    return memory_of(key).phase(phase)


@lru_cache(maxsize=4096)
def raw_seconds(key: Key, phase: str, repeats: int, card: Card, host: Card) -> float:
    """A phase's seconds, before this machine's correction."""
    family = find_family(key.model)
    working = family.seconds(phase, memory_of(key), repeats, card, host)
    return working + start_seconds(card) if working and family.starts else working


@lru_cache(maxsize=2048)
def live_peak(key: Key, phase: str) -> int:
    """A phase's most live bytes, without a replay."""
    events = phase_events(key, phase)
    return events.peak_live_bytes(with_scratch=key.rules.has_scratch)


@lru_cache(maxsize=_KEPT_REPLAYS)
def _replay_within(key: Key, phase: str, room: int | None) -> Replay:
    events = phase_events(key, phase)
    if key.rules.kind == "cuda":
        return events.replay(key.rules.expandable, room)
    live = events.peak_live_bytes(with_scratch=False)
    fits = room is None or live <= room
    return Replay(
        allocated_bytes=live,
        reserved_bytes=live,
        resident_bytes=events.resident_bytes,
        fits=fits,
        retries=0,
        met_limit=not fits,
        asked_bytes=live,
    )


_unhindered: dict[tuple[Key, str], Replay] = {}
"""Replays that met no limit: they are the same within any room that they would not meet either."""
_unhindered_lock = Lock()


def replay(key: Key, phase: str, room: int | None) -> Replay:
    """A phase's replay within the room that the allocator has; None for any."""
    known = _unhindered.get((key, phase))
    if known is not None and (room is None or known.asked_bytes <= room):
        return known
    found = _replay_within(key, phase, room)
    if room is None or (not found.met_limit and found.asked_bytes <= room):
        with _unhindered_lock:
            _unhindered[key, phase] = found
            if len(_unhindered) > _KEPT_REPLAYS:
                del _unhindered[next(iter(_unhindered))]
    return found


def use_templates(folder: Path) -> None:
    """Reads templates from this folder first; answers from others are forgotten."""
    use_local_folder(folder)
    for cached in (memory_of, phase_events, raw_seconds, _replay_within, live_peak):
        cached.cache_clear()
    with _unhindered_lock:
        _unhindered.clear()
