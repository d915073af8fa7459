"""One choice of settings for a request on a target: cheap questions, and the dear one: fits it?"""

from __future__ import annotations

from dataclasses import replace

from webui.core.model import ModelCard
from webui.core.request import Request
from webui.core.settings import Settings
from webui.estimator.answers import Key, key_of, live_peak, memory_of, raw_seconds, replay
from webui.estimator.blocks import LARGE_SEGMENT
from webui.estimator.families import find_family
from webui.estimator.replay import Replay
from webui.estimator.rules import rules_for
from webui.estimator.target import Target, room_bytes

BESIDE_LIMIT = 1.01
"""At its limit the allocator gives back its cache, or just not; of two limits this near to each
other the one that leaves it more is told. The context, which decides where the limit is, varied by
1 % of a small limit between an H200's runs (690 to 782 MiB)."""


class Case:
    """What a search asks of each of its candidates.

    Args:
        model: the catalogue's card of the request's model.
        request: the workload.
        settings: a value for each of the model's settings.
        target: the device.
    """

    __slots__ = (
        "_keys",
        "allowed_bytes",
        "model",
        "request",
        "room_bytes",
        "rules",
        "settings",
        "target",
    )

    def __init__(
        self, model: ModelCard, request: Request, settings: Settings, target: Target
    ) -> None:
        self.model, self.request, self.settings, self.target = model, request, settings, target
        allocator = str(settings.get("allocator", "default"))
        self.rules = rules_for(target.card, allocator, request.platform)
        self.room_bytes = max(0, room_bytes(target, self.rules))
        """What the allocator may need: the margin stays free."""
        self.allowed_bytes = max(self.room_bytes, self._worker_limit())
        """What it may reserve: its cache fills the margin too, and is given back when needed."""
        # Not of a kept memory: the number of steps decides which experts run, and is in no key.
        names = find_family(model).memory(model, request, settings, self.rules).phase_names()
        self._keys = {name: key_of(name, model, request, settings, self.rules) for name in names}

    @property
    def free_bytes(self) -> int:
        """What the context leaves of the limit."""
        return self.target.limit_bytes - self.target.card.context_bytes

    def _worker_limit(self) -> int:
        """The limit that the worker sets (`_BEYOND_LIMIT_BYTES` in worker/device.py)."""
        return self.free_bytes - LARGE_SEGMENT if self.rules.kind == "cuda" else self.free_bytes

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that the request has, in order."""
        return tuple(self._keys)

    def key(self, phase: str) -> Key:
        """What the phase's answers depend on."""
        return self._keys[phase]

    def peak_bytes(self, phase: str) -> int:
        """A phase's most live bytes, without a replay: a lower bound of what it reserves."""
        return live_peak(self._keys[phase], phase)

    @property
    def peaks_bytes(self) -> tuple[int, int]:
        """The highest phase's live bytes, and those of all phases added up, which decide ties."""
        peaks = [self.peak_bytes(phase) for phase in self._keys]
        return max(peaks), sum(peaks)

    def kept_bytes(self, phase: str) -> int:
        """What stays free of the room because runs ran out of memory in the phase."""
        share = self.target.short_shares.get(phase, 0.0)
        learned = int(self.peak_bytes(phase) * share) if share else 0
        return max(learned, self.target.short_bytes.get(phase, 0))

    def room_of(self, phase: str) -> int:
        """The room, less what is kept free of it."""
        return max(0, self.room_bytes - self.kept_bytes(phase))

    def excess_bytes(self, overhead: float = 1.0) -> float:
        """How many bytes too many the worst phase needs, without a replay; negative where all fit.

        Args:
            overhead: reserved over live bytes.
        """
        return max(self.peak_bytes(name) * overhead - self.room_of(name) for name in self._keys)

    def may_hold(self, phase: str) -> bool:
        """Whether a phase's live bytes alone leave it open that it fits."""
        return self.peak_bytes(phase) <= self.room_of(phase)

    @property
    def fits(self) -> bool:
        """Whether every phase's replay stays within the room.

        The phase with the most live bytes is replayed first: it is the one that fails, if any does.
        """
        if not all(map(self.may_hold, self._keys)):  # the first that cannot is enough
            return False
        hardest_first = sorted(self._keys, key=self.peak_bytes, reverse=True)
        return all(self.holds(phase) for phase in hardest_first)

    def replay(self, phase: str, unlimited: bool = False) -> Replay:
        """A phase's replay within the room, or without a limit."""
        return replay(self._keys[phase], phase, None if unlimited else self.room_of(phase))

    def holds(self, phase: str) -> bool:
        """Whether a phase stays within the room, and within what the allocator is allowed.

        The second does not follow from the first: with more room the allocator gives back its
        cache elsewhere, and what it then keeps may lie worse.
        """
        return (
            self.may_hold(phase)
            and self.replay(phase).fits
            and replay(self._keys[phase], phase, self.allowed_bytes).fits
        )

    def expected(self, phase: str) -> Replay:
        """What will be measured: a replay at the limit that the worker's allocator has.

        Without a limit for what does not fit.
        """
        if not self.holds(phase):
            return replace(self.replay(phase, unlimited=True), fits=False)
        key, allowed = self._keys[phase], self.allowed_bytes
        found = replay(key, phase, allowed)
        if not found.met_limit:
            return found
        beside = replay(key, phase, int(allowed * BESIDE_LIMIT))
        if not beside.fits or beside.reserved_bytes <= found.reserved_bytes:
            return found
        return replace(beside, reserved_bytes=min(beside.reserved_bytes, allowed), met_limit=True)

    def raw_seconds(self, phase: str) -> float:
        """A phase's seconds, before this machine's correction."""
        target = self.target
        return raw_seconds(self._keys[phase], phase, self.request.repeats, target.card, target.host)

    def seconds(self, phase: str) -> float:
        """A phase's seconds, corrected by what this machine showed."""
        return self.raw_seconds(phase) * self.target.speed.get(phase, 1.0)

    def least_share(self, phase: str) -> float:
        """The share of a phase's seconds that it takes in any case."""
        memory = memory_of(self._keys[phase])
        return find_family(self.model).least(phase, memory, self.request.repeats)

    @property
    def total_seconds(self) -> float:
        """Of all phases."""
        return sum(self.seconds(phase) for phase in self._keys)
