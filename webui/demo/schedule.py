"""How far a training run is: counts steps or minutes, survives a pause, sets the learning rate."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """A budget of minutes, of steps, or of whichever ends first.

    Args:
        minutes: training time in all, over every session.
        steps: steps in all.
        spent_s: seconds of earlier sessions.
        step: steps done.
    """

    minutes: float | None = None
    steps: int | None = None
    spent_s: float = 0.0
    step: int = 0
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            raise ValueError("give minutes, steps or both: without either, training never ends")

    @property
    def elapsed_s(self) -> float:
        """Seconds of training so far, earlier sessions included."""
        return self.spent_s + time.monotonic() - self._started

    @property
    def fraction(self) -> float:
        """0 at the start, 1 when the budget is used up."""
        by_time = self.elapsed_s / (60 * self.minutes) if self.minutes else float(self.minutes == 0)
        by_steps = self.step / self.steps if self.steps else 0.0
        return max(by_time, by_steps)

    def rate_share(self, warmup_steps: int) -> float:
        """The learning rate, by its peak: a short linear rise, then a cosine down to 1 %."""
        rise = min(1.0, (self.step + 1) / warmup_steps)
        fall = 0.505 + 0.495 * math.cos(math.pi * min(1.0, self.fraction))
        return rise * fall
