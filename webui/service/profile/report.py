"""The report of a whole matrix: what the machine was like, and its rows side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from webui.core.units import format_bytes, format_seconds
from webui.service.profile.surroundings import others_lines
from webui.service.profile.warming import warm_up_line

HEADS = ("row", "state", "base", "activation", "peak", "estimated", "error", "fragmentation",
         "seconds", "held in")  # fmt: skip
_DASH = "–"


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """The rows side by side, as markdown that a terminal shows well too."""
    cells = [HEADS, *(tuple(_cells(result)) for result in results)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADS))]
    lines = []
    for number, row in enumerate(cells):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("| " + " | ".join(padded) + " |")
        if number == 0:
            lines.append("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def report(summary: Mapping[str, Any]) -> str:
    """`report.md` of a profile."""
    return "\n".join(_lines(summary)) + "\n"


def base_bytes(result: Mapping[str, Any]) -> int:
    """Base memory of all components of a row together, in bytes."""
    memory = result.get("memory") or {}
    return sum(int(part["increment_bytes"] or 0) for part in memory.get("base", ()))


def activation_bytes(result: Mapping[str, Any]) -> int:
    """What was no component's weights at the peak, in bytes."""
    memory = result.get("memory") or {}
    return int((memory.get("peak") or {}).get("other_bytes", 0))


def peak_bytes(figures: Mapping[str, Any] | None) -> int:
    """What rows are compared by: reserved bytes on a card, live bytes on a processor."""
    if not figures:
        return 0
    return int(figures["peak_reserved_bytes"] or figures["peak_allocated_bytes"])


def _cells(result: Mapping[str, Any]) -> Iterator[str]:
    measured, estimated = peak_bytes(result.get("measured")), peak_bytes(result.get("estimated"))
    memory = result.get("memory") or {}
    peak, fragmentation = memory.get("peak") or {}, memory.get("fragmentation")
    yield str(result["row"]).replace("|", "/")
    yield str(result["state"])
    yield _size(base_bytes(result))
    yield _size(activation_bytes(result))
    yield _size(measured)
    yield _size(estimated)
    yield f"{estimated / measured - 1:+.1%}" if measured and estimated else _DASH
    yield f"{fragmentation['at_peak']:.1%}" if fragmentation else _DASH
    yield format_seconds(result["measured"]["seconds"]) if result.get("measured") else _DASH
    yield str(peak.get("stage") or _DASH)


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Profile {summary['name']}"
    yield ""
    around = summary["environment"]
    yield f"- started: {summary['created']}"
    yield f"- card: {around['card']}, {format_bytes(around['card_bytes'])}"
    yield from (f"- {line}" for line in others_lines(around))
    yield f"- warm-up: {warm_up_line(around)}"
    versions = ", ".join(f"{name} {value}" for name, value in around["versions"].items() if value)
    yield f"- versions: {versions}"
    yield ""
    yield table(summary["rows"])
    yield ""
    yield from _switches(summary.get("model_switches") or ())
    for result in summary["rows"]:
        yield f"## {result['row']}"
        yield ""
        if result["description"]:
            yield from (str(result["description"]), "")
        if result.get("error"):
            yield from (f"{result['error']['message']['en']}", "")
        if result.get("bottleneck"):
            yield from (result["bottleneck"]["en"], "")
        yield from (f"- {note['en']}" for note in result["notes"])
        for name in result["files"]:
            yield f"- [{name}]({result['folder']}/{name})"
        yield ""


def _switches(switches: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        f"| {item['from_row']} → {item['to_row']} | {item['from_model']} → {item['to_model']} | "
        f"{format_bytes(item['before_unload_bytes'])} | "
        f"{format_bytes(item['after_unload_bytes'])} | {_size(item['after_load_bytes'] or 0)} |"
        for item in switches
    ]
    if rows:
        yield from ("### Allocated across changes of the model", "")
        yield "| rows | models | before unloading | after unloading | after loading the next |"
        yield "|---|---|---|---|---|"
        yield from (*rows, "")


def _size(count_bytes: int) -> str:
    return format_bytes(count_bytes) if count_bytes else _DASH
