"""What receipts of this machine say about it: how fast it is, and what CUDA's context takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from webui.core.job import JobState
from webui.core.phases import title_of
from webui.core.receipt import Measurement, Receipt
from webui.core.text import Text
from webui.core.units import GIB, MIB, format_bytes
from webui.storage import Ledger
from webui.storage.ledger import SpeedSample

LAST_RUNS = 9
"""So many of the last runs count: four outliers among them do not move their median far."""
SHARED_BYTES = 1 * GIB
"""Where other programs hold more of the card, a run was not alone on it. A desktop takes less."""
_PRIOR_S = 2.0
"""Weight of 'as estimated' beside the receipts: one short run that paid for warming up says little
about a long one."""
_BELIEVED = (0.05, 20.0)
"""Measured over estimated seconds outside of this, past what a short phase pays for starting up,
say that something else was running."""
_PLAUSIBLE_CONTEXT_BYTES = (64 * MIB, 4096 * MIB)
_STRAY_CONTEXT = 1.25
"""A context this far above the median of the others was measured beside another program."""
_RECEIPTS_READ = 40
MOST_SHORT = 0.25
"""More of an estimate is never kept free: a run that needed so much more had another reason than
an estimate that is a little low, and says nothing about other sizes and settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """What takes the place of the data sheets' figures."""

    speed: Mapping[str, float] = field(default_factory=dict)
    """Measured over estimated seconds by phase."""
    speed_receipts: Mapping[str, int] = field(default_factory=dict)
    """From how many runs each comes."""
    speed_seconds: Mapping[str, float] = field(default_factory=dict)
    """Estimated seconds of those runs."""
    context_bytes: int | None = None
    """Device bytes outside the allocator; None where no run has told."""
    context_receipts: int = 0
    torch: str = ""
    """The version that the context was measured with."""
    short_shares: Mapping[str, float] = field(default_factory=dict)
    """By phase, the share of its estimate that this was too low by where runs of the model ran out
    of memory."""

    def notes(self, listed_context_bytes: int) -> tuple[Text, ...]:
        """What was corrected, in words.

        Args:
            listed_context_bytes: the context of the list of cards.
        """
        found = []
        if self.speed:
            runs = max(self.speed_receipts.values())
            named = [(title_of(name), f"x{factor:.2f}") for name, factor in self.speed.items()]
            factors = ", ".join(f"{title.en} {factor}" for title, factor in named)
            factors_zh = "，".join(f"{title.zh} {factor}" for title, factor in named)
            found.append(
                Text(
                    f"Times are corrected by the last {_runs(runs) if runs > 1 else 'run'} of this "
                    f"machine: {factors}.",
                    f"时间已按本机最近 {runs} 次运行修正：{factors_zh}。",
                )
            )
        if self.context_bytes is not None:
            mine, listed = format_bytes(self.context_bytes), format_bytes(listed_context_bytes)
            found.append(
                Text(
                    f"CUDA context: {mine}, measured in {_runs(self.context_receipts)} of this "
                    f"machine with torch {self.torch}, in place of the list's {listed}.",
                    f"CUDA 上下文：{mine}，由本机 torch {self.torch} 的 {self.context_receipts} "
                    f"次运行实测，取代列表中的 {listed}。",
                )
            )
        if self.short_shares:
            shares = [
                (title_of(name), f"{100 * share:.2g} %")
                for name, share in self.short_shares.items()
            ]
            found.append(
                Text(
                    "This model ran out of memory here, so more is kept free in these phases, as a "
                    f"share of what they take: {', '.join(f'{t.en} {s}' for t, s in shares)}.",
                    "该模型曾在本机显存不足，因此以下阶段按其用量多留余量："
                    f"{'，'.join(f'{t.zh} {s}' for t, s in shares)}。",
                )
            )
        return tuple(found)


class Calibration:
    """Reads the ledger; keeps what it found until another run has ended.

    Args:
        ledger: this machine's.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: dict[tuple[object, ...], Corrections] = {}
        self._revision: tuple[int, int] | None = None

    def of(
        self, devices: Collection[str], model: str, phases: Collection[str], torch: str = ""
    ) -> Corrections:
        """Corrections for a device and a model.

        Args:
            devices: the names that receipts may have for the device.
            model: the catalogue's name.
            phases: names of phases that may have receipts.
            torch: the installed version; empty takes that of the newest receipt.
        """
        revision = self._ledger.revision()
        if revision != self._revision:
            self._kept, self._revision = {}, revision
        # Whoever reads while a run ends keeps what it found with what was known before.
        kept, key = self._kept, (frozenset(devices), model, frozenset(phases), torch)
        if key not in kept:
            kept[key] = self._read(devices, model, phases, torch)
        return kept[key]

    def _read(
        self, devices: Collection[str], model: str, phases: Collection[str], torch: str
    ) -> Corrections:
        speed, counts, seconds = {}, {}, {}
        for phase in phases:
            samples = [
                sample
                for device in devices
                for sample in self._ledger.speeds(device, model, phase, LAST_RUNS)
            ]
            factor, count = speed_factor(samples)
            if count:
                speed[phase], counts[phase] = factor, count
                seconds[phase] = sum(sample.estimated_s for sample in believed(samples))
        receipts = [
            job.receipt
            for job in self._ledger.jobs(limit=_RECEIPTS_READ, state=JobState.DONE)
            if job.receipt is not None and job.receipt.device in devices
        ]
        version = torch or (receipts[0].versions.get("torch", "") if receipts else "")
        context, seen = context_of(receipts, version)
        return Corrections(
            speed=speed,
            speed_receipts=counts,
            speed_seconds=seconds,
            context_bytes=context,
            context_receipts=seen,
            torch=version.split("+")[0],
            short_shares=short_shares_of(
                job.receipt
                for job in self._ledger.jobs(limit=_RECEIPTS_READ)
                if job.receipt is not None
                and job.receipt.device in devices
                and job.receipt.request.get("model") == model
            ),
        )


def believed(samples: Collection[SpeedSample]) -> list[SpeedSample]:
    """Those beside which nothing else was running, as far as their seconds tell."""
    return [
        sample
        for sample in samples
        if _BELIEVED[0] * sample.estimated_s < sample.measured_s
        and sample.measured_s < _BELIEVED[1] * sample.estimated_s + _PRIOR_S
    ]


def speed_factor(samples: Collection[SpeedSample]) -> tuple[float, int]:
    """Measured over estimated seconds, and from how many runs: the median, so that outliers
    change nothing, drawn towards 1 while the runs are few and short."""
    kept = believed(samples)
    if not kept:
        return 1.0, 0
    ratio = median(sample.measured_s / sample.estimated_s for sample in kept)
    estimated_s = sum(sample.estimated_s for sample in kept)
    return (ratio * estimated_s + _PRIOR_S) / (estimated_s + _PRIOR_S), len(kept)


def context_of(receipts: Collection[Receipt], torch: str) -> tuple[int | None, int]:
    """Device bytes less reserved ones, and from how many runs: the highest, strays left out.

    Args:
        receipts: of one device, the newest first.
        torch: only those of this version.
    """
    low, high = _PLAUSIBLE_CONTEXT_BYTES
    seen = [
        measured.peak_device_bytes - measured.peak_reserved_bytes
        for receipt in receipts
        if (measured := receipt.measurement) is not None
        and receipt.versions.get("torch", "") == torch
        and measured.source == "cuda"
        and not was_shared(measured)
    ]
    seen = [size for size in seen if low <= size <= high][:LAST_RUNS]
    if not seen:
        return None, 0
    usual = median(seen)
    kept = [size for size in seen if size <= usual * _STRAY_CONTEXT]
    return max(kept), len(kept)


def short_shares_of(receipts: Iterable[Receipt]) -> dict[str, float]:
    """By phase, the largest share of its estimate that this was too low by in runs that ran out of
    memory, unless a later run that took as much or more went well.

    Runs beside other programs count too: their attempts were held against what those had left.

    Args:
        receipts: of one device and model, the newest first.
    """
    found: dict[str, float] = {}
    went_well: dict[str, list[tuple[int, float]]] = {}
    for receipt in receipts:
        for phase, run in _went_well(receipt):
            went_well.setdefault(phase, []).append(run)
        for attempt in receipt.attempts:
            if attempt.short_bytes <= 0 or attempt.estimated_bytes <= 0:
                continue
            phase = attempt.phase
            share = min(MOST_SHORT, attempt.short_bytes / attempt.estimated_bytes)
            contradicted = any(
                size >= attempt.estimated_bytes and over < share
                for size, over in went_well.get(phase, ())
            )
            if not contradicted:
                found[phase] = max(share, found.get(phase, 0.0))
    return found


def _went_well(receipt: Receipt) -> Iterable[tuple[str, tuple[int, float]]]:
    """Of a run that came to its end, by phase: the estimated bytes, and the share by which more
    were taken."""
    if receipt.error is not None or receipt.measurement is None:
        return
    planned = {phase["name"]: phase for phase in receipt.plan.get("phases", ())}
    for measured in receipt.measurement.phases:
        expected = planned.get(measured.name)
        if expected is None or expected["allocated_bytes"] <= 0:
            continue
        over = max(
            measured.allocated_bytes / expected["allocated_bytes"],
            measured.reserved_bytes / max(1, expected["reserved_bytes"]),
        )
        yield measured.name, (int(expected["allocated_bytes"]), over - 1)


def was_shared(measured: Measurement) -> bool:
    """Whether other programs held much of the card during a run: its figures teach nothing."""
    return measured.others_bytes > SHARED_BYTES


def _runs(count: int) -> str:
    return f"{count} run{'s' if count > 1 else ''}"
