"""Many runs in turn in one worker process: does any of them leave memory behind?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from webui.core.receipt import Receipt
from webui.core.units import MIB, format_bytes, format_seconds

TOLERANCE_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakRun:
    """One of the runs."""

    request: int
    """Which of the list's requests it was, from 0."""
    worker_pid: int | None
    receipt: Receipt
    unloaded_bytes: int | None = None
    """Allocated once the model was unloaded after it; None where that was not measured."""

    @property
    def was_warm(self) -> bool:
        """It went on with the model of the run before, so that model was there when it came."""
        measured = self.receipt.measurement
        return measured is not None and measured.load_seconds == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the runs showed."""

    runs: int
    failed: int
    processes: int
    found_spread_bytes: int
    """How far what runs found on the device, the model before them dropped, was from the first."""
    left_spread_bytes: int
    """How far what runs left (a warm model may stay) was from the first of the same request."""
    unloaded_spread_bytes: int | None
    """How far what was left without the model was from the first run's; None: not measured."""

    @property
    def clean(self) -> bool:
        """Nothing failed, one process did it all, and nothing was left behind."""
        spread = max(
            self.found_spread_bytes, self.left_spread_bytes, self.unloaded_spread_bytes or 0
        )
        return not self.failed and self.processes == 1 and spread <= TOLERANCE_BYTES

    def __str__(self) -> str:
        unloaded = ""
        if self.unloaded_spread_bytes is not None:
            size = format_bytes(self.unloaded_spread_bytes)
            unloaded = f", and with the model unloaded within {size} of the first run"
        return (
            f"{self.runs} runs, {self.failed} failed, {self.processes} worker process"
            f"{'' if self.processes == 1 else 'es'}; allocated before a run within "
            f"{format_bytes(self.found_spread_bytes)} of the first, after it within "
            f"{format_bytes(self.left_spread_bytes)} of the first of its request{unloaded} "
            f"({format_bytes(TOLERANCE_BYTES)} allowed)"
        )


def judge(runs: Sequence[SoakRun]) -> Verdict:
    """Holds all runs against the first."""
    done = [run for run in runs if run.receipt.error is None]
    found = [_held(run)[0] for run in done if not run.was_warm]
    unloaded = [run.unloaded_bytes for run in runs if run.unloaded_bytes is not None]
    left: dict[int, list[int]] = {}
    for run in done:
        left.setdefault(run.request, []).append(_held(run)[1])
    return Verdict(
        runs=len(runs),
        failed=len(runs) - len(done),
        processes=len({run.worker_pid for run in runs}),
        found_spread_bytes=_spread(found),
        left_spread_bytes=max(map(_spread, left.values()), default=0),
        unloaded_spread_bytes=_spread(unloaded) if unloaded else None,
    )


def soak_table(runs: Sequence[SoakRun]) -> str:
    """A line a run: what it found, what it took, what it left, and in which process."""
    lines = [
        f"{'run':>3} {'request':<36} {'cap':>6} {'found':>10} {'peak':>10} {'reserved':>10} "
        f"{'left':>10} {'time':>8} {'unloaded':>10} {'process':>8}"
    ]
    for number, run in enumerate(runs, 1):
        receipt = run.receipt
        request, measured = receipt.request, receipt.measurement
        cap = f"{request['vram_gib']:g}G" if request.get("vram_gib") else ""
        name = f"{request.get('model', '')} {receipt.plan.get('settings', {}).get('offload', '')}"
        sizes = (
            f"{format_bytes(measured.found_bytes):>10} "
            f"{format_bytes(measured.peak_allocated_bytes):>10} "
            f"{format_bytes(measured.peak_reserved_bytes):>10} "
            f"{format_bytes(measured.left_bytes):>10} {format_seconds(measured.seconds):>8}"
            if measured
            else f"{'':>52}"
        )
        unloaded = "" if run.unloaded_bytes is None else format_bytes(run.unloaded_bytes)
        failed = f"  FAILED: {receipt.error['message']['en']}" if receipt.error else ""
        lines.append(
            f"{number:>3} {name:<36.36} {cap:>6} {sizes} {unloaded:>10} "
            f"{run.worker_pid or '':>8}{failed}"
        )
    return "\n".join([*lines, str(judge(runs))])


def _held(run: SoakRun) -> tuple[int, int]:
    measured = run.receipt.measurement
    return (measured.found_bytes, measured.left_bytes) if measured else (0, 0)


def _spread(sizes: Sequence[int]) -> int:
    return max((abs(size - sizes[0]) for size in sizes), default=0)
