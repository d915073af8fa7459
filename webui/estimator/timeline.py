"""Events in order, and what is alive at each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from webui.estimator.tape import RELEASE, SCRATCH


@dataclass(frozen=True, slots=True)
class Span:
    """Events from `start` to before `end`: one phase of those that follow each other."""

    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Timeline:
    """Storages that are there first, and events; bytes are integers of 64 bits."""

    resident: np.ndarray
    """Bytes of the storages that are there first; their keys are their places (R)."""
    kinds: np.ndarray
    """ALLOCATE, RELEASE, SCRATCH or LOAD: integers of 8 bits (N)."""
    keys: np.ndarray
    """Of the storages: integers of 32 bits (N)."""
    deltas: np.ndarray
    """Bytes in whole blocks, below zero for releases (N)."""

    def live(self, with_scratch: bool = True) -> np.ndarray:
        """Bytes alive at each event beside the first ones; scratch counts at its own event."""
        if not with_scratch or not len(self.scratch):
            return self._kept
        live = self._kept.copy()
        live[self.scratch] += self.deltas[self.scratch]
        return live

    @cached_property
    def scratch(self) -> np.ndarray:
        """Events that live inside one operation."""
        return np.flatnonzero(self.kinds == SCRATCH)

    @cached_property
    def _kept(self) -> np.ndarray:
        kept = self.deltas.copy()
        kept[self.scratch] = 0
        return kept.cumsum(out=kept)

    def most_live(self, with_scratch: bool = True) -> int:
        """The most of `live`, of some events."""
        most = int(self._kept.max())
        if with_scratch and len(self.scratch):
            most = max(most, int((self._kept[self.scratch] + self.deltas[self.scratch]).max()))
        return most

    @cached_property
    def fits_integers(self) -> bool:
        """Whether no sum of its bytes is too much for integers of 64 bits, addresses included."""
        if not len(self.deltas):
            return True
        most = max(int(self.deltas.max()), -int(self.deltas.min()))
        total = float(self.resident.sum(dtype=float)) + float(most) * len(self.deltas)
        return most <= 2**50 and total <= 2**58

    def changed(self, start: int, peak: int, with_scratch: bool = True) -> list[int]:
        """Events that made what is alive at `peak` and was not at `start`, and those that freed
        what was."""
        born: dict[int, int] = {}
        freed = []
        for index in range(start, peak + 1):
            kind, key = int(self.kinds[index]), int(self.keys[index])
            if kind == RELEASE:
                if born.pop(key, None) is None:
                    freed.append(index)
            elif kind != SCRATCH:
                born[key] = index
        at_peak = [peak] if self.kinds[peak] == SCRATCH and with_scratch else []
        return [*born.values(), *freed, *at_peak]
