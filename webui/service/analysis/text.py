"""An analysis as text for a terminal and for `report.md`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from webui.core.units import format_bytes
from webui.service.analysis.comparing import Comparison
from webui.service.analysis.events import MemoryProfile
from webui.service.analysis.holders import Peak
from webui.service.analysis.reading import Analysis
from webui.service.analysis.trace import is_trace

_DASH = "–"


def analysis_text(found: Analysis) -> str:
    """Markdown, readable in a terminal as it is."""
    lines = [f"## {found.name}", "", found.bottleneck.en, ""]
    for problem in found.problems:
        lines += [problem.en, ""]
    if found.memory is not None:
        lines += memory_lines(found.memory)
    if found.peak is not None:
        lines += peak_lines(found.peak)
    elif found.memory is not None:
        lines += [
            "No trace or snapshot: `logging: {trace: true, snapshot: true}` names code lines.",
            "",
        ]
    if found.comparison is not None:
        lines += comparison_lines(found.comparison)
    return "\n".join(lines).rstrip() + "\n"


def memory_lines(memory: MemoryProfile) -> Iterator[str]:
    """Base, phases, activations, fragmentation and switches as tables."""
    yield from _table(
        "Base memory: growth when a component arrives on the device",
        ("component", "placed", "parameters", "growth", "its storages", "off"),
        [
            (
                part.name,
                part.mode,
                f"{part.parameters:,}",
                _size(part.increment_bytes),
                format_bytes(part.storage_bytes),
                _DASH if part.error is None else f"{part.error:+.2%}",
            )
            for part in memory.base
        ],
    )
    yield from _table(
        "Phases",
        ("phase", "before the forward pass", "peak", "after"),
        [
            (
                phase.name,
                format_bytes(phase.before_bytes),
                format_bytes(phase.peak_bytes),
                format_bytes(phase.after_bytes),
            )
            for phase in memory.phases
        ],
    )
    yield from _table(
        "Activation memory by stage: above what was there before the call",
        ("phase", "stage", "calls", "activation", "peak"),
        [
            (
                item.phase,
                item.stage,
                str(item.calls),
                format_bytes(item.activation_bytes),
                format_bytes(item.peak_bytes),
            )
            for item in memory.activations
        ],
    )
    found = memory.fragmentation
    if found is None:
        yield "Fragmentation: none, a processor's memory is not reserved ahead."
    else:
        yield (
            f"Fragmentation: {found.at_peak:.1%} at the peak, mean {found.mean:.1%}, from "
            f"{found.lowest:.1%} to {found.highest:.1%} (swing {found.swing:.1%})."
        )
    yield ""
    if memory.switches:
        yield from _table(
            "Components that came and went",
            ("at", "phase", "component", "", "change", "allocated then"),
            [
                (
                    f"{switch.t_s:.2f} s",
                    switch.phase,
                    switch.component,
                    "enters" if switch.entered else "leaves",
                    format_bytes(switch.change_bytes),
                    format_bytes(switch.allocated_bytes),
                )
                for switch in memory.switches
            ],
        )
    for note in memory.notes:
        yield from (f"- {note.en}", "")


def peak_lines(peak: Peak) -> Iterator[str]:
    """The largest holders as a table."""
    yield from _table(
        f"Largest holders at the peak of {peak.file}: {format_bytes(peak.total_bytes)} ({peak.at})",
        ("bytes", "storages", "code line", "operation"),
        [
            (format_bytes(item.size_bytes), str(item.count), f"`{item.line}`", item.operation)
            for item in peak.holders
        ],
    )
    if peak.unnamed_bytes:
        yield f"{format_bytes(peak.unnamed_bytes)} more are from before the recording."
        yield ""
    if is_trace(Path(peak.file)):
        yield "A trace counts what libraries take inside operations too, and starts from nothing."
        yield ""


def comparison_lines(found: Comparison) -> Iterator[str]:
    """Two rows side by side."""
    yield from (found.summary.en, "")
    yield from _table(
        f"{found.first} and {found.second}",
        ("", "", found.first, found.second, "change"),
        [
            (
                part.kind,
                part.name,
                _size(part.first_bytes),
                _size(part.second_bytes),
                format_bytes(part.change_bytes),
            )
            for part in found.differences
        ],
    )


def _size(count_bytes: int | None) -> str:
    return _DASH if count_bytes is None else format_bytes(count_bytes)


def _table(title: str, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    if not rows:
        return
    cells = [tuple(cell.replace("|", "/") for cell in row) for row in (heads, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    yield f"### {title}"
    yield ""
    for number, row in enumerate(cells):
        yield (
            "| "
            + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            + " |"
        )
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    yield ""
