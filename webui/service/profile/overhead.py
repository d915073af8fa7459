"""What recording costs: each row with and without it, in turns, and the ratio of the times."""

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
    from webui.core.receipt import Receipt
    from webui.service.profile.running import Profiler

PAIRS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Seconds of one row's runs, loading included; traces are off in all of them."""

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
    lines = [f"{'row':<32} {'bare s':>9} {'recorded s':>11} {'overhead':>9} {'by medians':>11}"]
    for item in found:
        lines.append(
            f"{item.row[:32]:<32} {min(item.bare_s):>9.3f} {min(item.recorded_s):>11.3f} "
            f"{item.best:>+9.2%} {item.usual:>+11.2%}"
        )
    if len(found) > 1:
        bare = sum(min(item.bare_s) for item in found)
        recorded = sum(min(item.recorded_s) for item in found)
        lines.append(f"{'all':<32} {bare:>9.3f} {recorded:>11.3f} {recorded / bare - 1:>+9.2%}")
    return "\n".join(lines)


def _seconds(profiler: Profiler, row: Row, visitor: str, folder: Path) -> float:
    request = profiler.request_of(row)
    receipt: Receipt = profiler.run_row(
        request, profiler.profile_of(row, request, folder), visitor, lambda view: None
    )
    if receipt.error is not None:
        raise error_from_json(receipt.error)
    assert receipt.measurement is not None  # it ran to its end
    return receipt.measurement.seconds + receipt.measurement.load_seconds
