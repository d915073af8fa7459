"""The verified card table: plans that ran at full size under a hard cap, from the receipts here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from webui.core.receipt import Receipt

FOLDER = Path(__file__).parent / "receipts"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRun:
    """One run of `python -m webui verify` under a cap, with random weights.

    The cap stands for a card's memory, not for its speed: the seconds are those of `device`.
    """

    model: str
    cap_gib: float
    frames: int
    height: int
    width: int
    settings: Mapping[str, Any]
    estimated_bytes: int
    """Device bytes that the plan predicted, CUDA context included."""
    measured_bytes: int
    """Device bytes that the driver counted at the peak."""
    seconds_per_step: float
    device: str
    date: str

    @property
    def error(self) -> float:
        """Estimated over measured, less one."""
        return self.estimated_bytes / self.measured_bytes - 1


@cache
def read_receipts(folder: Path = FOLDER) -> tuple[Receipt, ...]:
    """All receipts that ship with the estimator, those of failed runs too."""
    items = [
        item
        for path in sorted(folder.glob("*.json"))
        for item in json.loads(path.read_text(encoding="utf-8"))
    ]
    return tuple(Receipt.from_json(item) for item in items if "plan" in item)


def verified_runs(receipts: tuple[Receipt, ...] | None = None) -> list[VerifiedRun]:
    """Runs under a cap, by model, then size, then cap; the newest of each."""
    newest: dict[tuple[Any, ...], VerifiedRun] = {}
    for run in _capped(read_receipts() if receipts is None else receipts):
        key = (run.model, run.height * run.width * run.frames, run.cap_gib)
        if key not in newest or run.date >= newest[key].date:
            newest[key] = run
    return [newest[key] for key in sorted(newest)]


def _capped(receipts: tuple[Receipt, ...]) -> Iterator[VerifiedRun]:
    for receipt in receipts:
        request, measured = receipt.request, receipt.measurement
        if measured is None or receipt.error is not None or not request.get("vram_gib"):
            continue
        if "frames" not in request:  # a table of clips
            continue
        denoising = sum(p.seconds for p in measured.phases if p.name.startswith("denoise"))
        yield VerifiedRun(
            model=request["model"],
            cap_gib=request["vram_gib"],
            frames=request["frames"],
            height=request["height"],
            width=request["width"],
            settings=receipt.plan["settings"],
            estimated_bytes=receipt.plan["peak_device_bytes"],
            measured_bytes=measured.peak_device_bytes,
            seconds_per_step=denoising / request["steps"],
            device=receipt.device,
            date=receipt.created[:10],
        )
