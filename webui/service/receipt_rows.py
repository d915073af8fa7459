"""Receipts phase by phase: estimated beside measured, for a table, a plot and a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import mean

from webui.core.receipt import Receipt
from webui.service.verify import PhaseAccuracy, accuracy

QUANTITIES = ("allocated", "reserved", "seconds")
CSV_COLUMNS = (
    "run", "created", "model", "device", "phase",
    "estimated_allocated_bytes", "measured_allocated_bytes", "allocated_error",
    "estimated_reserved_bytes", "measured_reserved_bytes", "reserved_error",
    "estimated_s", "measured_s", "seconds_error",
)  # fmt: skip
"""An error is measured over estimated, less one; empty where nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRow:
    """One phase of one run."""

    run: str
    created: str
    """UTC, ISO 8601."""
    model: str
    device: str
    figures: PhaseAccuracy

    @property
    def phase(self) -> str:
        return self.figures.phase

    def pair(self, quantity: str) -> tuple[float, float] | None:
        """Estimated and measured; None where one of them is not there."""
        found = self.figures
        pairs: dict[str, tuple[float, float]] = {
            "allocated": (found.estimated_bytes, found.measured_bytes),
            "reserved": (found.estimated_reserved_bytes, found.measured_reserved_bytes),
            "seconds": (found.estimated_s, found.measured_s),
        }
        pair = pairs[quantity]
        return pair if min(pair) > 0 else None

    def error(self, quantity: str) -> float | None:
        """Measured over estimated, less one."""
        pair = self.pair(quantity)
        return None if pair is None else pair[1] / pair[0] - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSummary:
    """The errors of one phase of one model."""

    model: str
    phase: str
    runs: int
    mean: float
    """Mean size."""
    worst: float
    """The largest one, with its sign."""


def receipt_rows(receipts: Iterable[Receipt]) -> Iterator[ReceiptRow]:
    """The phases of runs that were both estimated and measured, and did not fail."""
    for receipt in receipts:
        if receipt.measurement is None or receipt.error is not None:
            continue
        for figures in accuracy(receipt):
            yield ReceiptRow(
                run=receipt.id,
                created=receipt.created,
                model=str(receipt.request.get("model", "")),
                device=receipt.device,
                figures=figures,
            )


def summarised(rows: Iterable[ReceiptRow], quantity: str) -> list[ErrorSummary]:
    """A line for each model and phase, in the order in which they come."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        error = row.error(quantity)
        if error is not None:
            found.setdefault((row.model, row.phase), []).append(error)
    return [
        ErrorSummary(
            model=model,
            phase=phase,
            runs=len(errors),
            mean=mean(map(abs, errors)),
            worst=max(errors, key=abs),
        )
        for (model, phase), errors in sorted(found.items(), key=lambda item: item[0][0])
    ]


def to_csv(rows: Iterable[ReceiptRow]) -> str:
    """A table with `CSV_COLUMNS`; it holds no prompt and no path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        cells: list[object] = [row.run, row.created, row.model, row.device, row.phase]
        for quantity in QUANTITIES:
            pair, error = row.pair(quantity), row.error(quantity)
            values = ("", "") if pair is None else pair
            cells += [*map(_figure, values), "" if error is None else f"{error:.5f}"]
        writer.writerow(cells)
    return text.getvalue()


def _figure(value: object) -> object:
    return f"{value:.4f}" if isinstance(value, float) else value
