"""What recording costs: each row with and without it, in turns, and the ratio of the times.

A run's seconds are the whole job's, from the queue to its end: hooking the modules and writing
the events are in them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from webui.core.errors import error_from_json
from webui.service.profile.rows import Row

if TYPE_CHECKING:
    from webui.service.profile.running import Profiler

PAIRS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Seconds of one row's jobs, all of them whole; traces are off."""

    row: str
    bare_s: tuple[float, ...]
    recorded_s: tuple[float, ...]

    @property
    def best(self) -> float:
        """Share that recording adds, by the fastest run of each kind: the least disturbed."""
        return min(self.recorded_s) / min(self.bare_s) - 1

    @property
    def usual(self) -> float:
        """The same by the medians."""
        return median(self.recorded_s) / median(self.bare_s) - 1

    def to_json(self) -> dict[str, Any]:
        return {
            "row": self.row,
            "bare_s": list(self.bare_s),
            "recorded_s": list(self.recorded_s),
            "bare_median_s": median(self.bare_s),
            "recorded_median_s": median(self.recorded_s),
            "overhead_best": self.best,
            "overhead_median": self.usual,
        }


def measure_overhead(
    profiler: Profiler,
    rows: Iterable[Row],
    visitor: str,
    pairs: int = PAIRS,
    on_run: Callable[[str, bool, float], None] = lambda row, recorded, seconds: None,
) -> tuple[Overhead, ...]:
    """Runs each row `pairs` times with and without recording, in turns, after one to warm up.

    Args:
        profiler: runs them.
        rows: those that can run.
        visitor: whose runs they are.
        pairs: of runs a row.
        on_run: told each run's row, kind and seconds.

    Raises:
        StudioError: a row cannot run.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            if row.error is not None:
                raise row.error
            plain = replace(row, options=replace(row.options, trace=False, snapshot=False))
            bare = replace(plain, options=replace(plain.options, memory=False))
            _seconds(profiler, bare, visitor, Path(folder))
            times: dict[bool, list[float]] = {False: [], True: []}
            for number in range(pairs):
                # The order changes, so that a machine that grows slower favours neither.
                for recorded in (False, True) if number % 2 == 0 else (True, False):
                    seconds = _seconds(profiler, plain if recorded else bare, visitor, Path(folder))
                    times[recorded].append(seconds)
                    on_run(row.name, recorded, seconds)
            found.append(
                Overhead(row=row.name, bare_s=tuple(times[False]), recorded_s=tuple(times[True]))
            )
    return tuple(found)


def overhead_table(found: Sequence[Overhead]) -> str:
    """A table for a terminal."""
    lines = [f"{'row':<28} {'of':<8} {'bare s':>9} {'recorded s':>11} {'overhead':>9}"]
    pick: tuple[tuple[str, Callable[[Sequence[float]], float]], ...] = (
        ("medians", median), ("fastest", min)
    )  # fmt: skip
    for item in found:
        for name, of in pick:
            lines.append(_line(item.row, name, of(item.bare_s), of(item.recorded_s)))
    if len(found) > 1:
        for name, of in pick:
            bare, recorded = (
                sum(of(times) for times in kind)
                for kind in ([i.bare_s for i in found], [i.recorded_s for i in found])
            )
            lines.append(_line("all", name, bare, recorded))
    return "\n".join(lines)


def _line(row: str, of: str, bare_s: float, recorded_s: float) -> str:
    share = recorded_s / bare_s - 1
    return f"{row[:28]:<28} {of:<8} {bare_s:>9.3f} {recorded_s:>11.3f} {share:>+9.2%}"


def _seconds(profiler: Profiler, row: Row, visitor: str, folder: Path) -> float:
    request = profiler.request_of(row)
    receipt, seconds = profiler.run_timed(
        request, profiler.profile_of(row, request, folder), visitor, lambda view: None
    )
    if receipt.error is not None:
        raise error_from_json(receipt.error)
    return seconds
