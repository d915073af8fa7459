"""What a row came to: its receipt and its memory events as one result, and the report of it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from webui.catalogue import find_model
from webui.core.errors import BadInput, Cancelled, RunFailed, StudioError
from webui.core.receipt import Receipt
from webui.core.text import Text
from webui.core.units import format_bytes, format_seconds
from webui.service.analysis import Analysis, analyse
from webui.service.analysis.apart import peak_apart
from webui.service.analysis.text import analysis_text
from webui.service.profile.architecture import architecture, architecture_lines
from webui.service.profile.rows import Row
from webui.storage.profiles import EVENTS, RECEIPT, REPORT, ROW_FILES, write_json, write_text

Result = dict[str, Any]
_NO_EVENTS = Text(
    f"There is no {EVENTS}: the disk is full, or the worker ended before it was written.",
    f"没有 {EVENTS}：磁盘已满，或工作进程在写入之前结束。",
)
_FIGURES = ("peak_allocated_bytes", "peak_reserved_bytes", "peak_device_bytes", "seconds")


def refused(row: Row, error: StudioError) -> Result:
    """The result of a row that did not run."""
    state = "cancelled" if isinstance(error, Cancelled) else "refused"
    return {**_head(row), "state": state, "error": error.to_json(), "files": []}


def told(error: Exception) -> StudioError:
    """One sentence about whatever ended a row; the others go on."""
    if isinstance(error, StudioError):
        return error
    traceback.print_exception(error)
    return own_failure(error)


def own_failure(error: Exception) -> StudioError:
    """What users are told of a mistake of the studio's own."""
    return RunFailed(
        Text(
            f"The studio itself failed: {type(error).__name__}.",
            f"工作室自身出错：{type(error).__name__}。",
        ),
        Text("Its log has the details.", "详细信息见日志。"),
    )


def finished(row: Row, receipt: Receipt, folder: Path) -> Result:
    """The result of a row that ran, to its end or not; writes its receipt and its report.

    Args:
        row: as it was read.
        receipt: of the run.
        folder: the row's.

    Raises:
        NotEnoughDisk: the disk is full.
    """
    write_json(folder / RECEIPT, receipt.to_json())
    found, problems = _analysed(folder, row.options.memory)
    planned = receipt.plan
    measured = receipt.measurement
    error = receipt.error
    state = "done"
    if error is not None:
        state = "cancelled" if error.get("type") == Cancelled.__name__ else "failed"
    result: Result = {
        **_head(row),
        "state": state,
        "error": error,
        "run": receipt.id,
        "request": receipt.request,
        "settings": dict(planned.get("settings", {})),
        "estimated": {key: planned.get(key, 0) for key in _FIGURES} if planned else None,
        "measured": {
            **{key: getattr(measured, key) for key in _FIGURES},
            "load_seconds": measured.load_seconds,
            "others_bytes": measured.others_bytes,
            "phases": [phase.to_json() for phase in measured.phases],
        }
        if measured
        else None,
        "memory": found.memory.to_json() if found and found.memory else None,
        "bottleneck": found.bottleneck.to_json() if found else None,
        "peak": found.peak.to_json() if found and found.peak else None,
        "versions": receipt.versions,
        "device": receipt.device,
    }
    notes = found.memory.notes if found and found.memory else ()
    result["notes"] += [note.to_json() for note in (*notes, *problems)]
    card = _architecture(receipt, found)
    result["architecture"] = card
    write_text(folder / REPORT, "\n".join(_report(row, result, found, card)))
    result["files"] = [name for name in ROW_FILES if (folder / name).is_file()]
    return result


def _head(row: Row) -> Result:
    return {
        "row": row.name,
        "folder": row.folder,
        "description": row.description,
        "notes": [note.to_json() for note in row.notes],
    }


def _analysed(folder: Path, recorded: bool) -> tuple[Analysis | None, tuple[Text, ...]]:
    if not (folder / EVENTS).is_file():
        return None, (_NO_EVENTS,) if recorded else ()
    try:
        found = analyse(folder, read=peak_apart)
    except BadInput as error:
        return None, (error.message,)
    return found, found.problems


def _architecture(receipt: Receipt, found: Analysis | None) -> dict[str, Any] | None:
    settings = receipt.plan.get("settings")
    if not settings:
        return None
    model = find_model(str(receipt.request.get("model")), receipt.request.get("task"))
    return architecture(model, dict(settings), found.memory if found else None)


def _report(
    row: Row, result: Result, found: Analysis | None, card: Mapping[str, Any] | None
) -> Iterator[str]:
    yield f"# {row.name}"
    yield ""
    if row.description:
        yield from (row.description, "")
    if result["error"]:
        yield from (f"**{result['state']}**: {result['error']['message']['en']}", "")
    yield from figures(result)
    yield ""
    for note in row.notes:
        yield f"- {note.en}"
    settings = ", ".join(f"{key}: {value}" for key, value in result["settings"].items())
    yield from (f"- settings: {settings}", f"- device: {result['device'] or '?'}")
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items() if value)
    yield from (f"- versions: {versions or '?'}", "")
    if found is not None:
        yield analysis_text(found)
    if card is not None:
        yield from architecture_lines(card)


def figures(result: Mapping[str, Any]) -> Iterator[str]:
    """Estimated beside measured, a line each."""
    measured, estimated = result.get("measured"), result.get("estimated")
    for key, title in (
        ("peak_allocated_bytes", "peak allocated"),
        ("peak_reserved_bytes", "peak reserved"),
        ("peak_device_bytes", "peak on the card"),
    ):
        one = int(estimated[key]) if estimated else 0
        two = int(measured[key]) if measured else 0
        if one or two:
            off = f" ({one / two - 1:+.1%})" if one and two else ""
            yield f"- {title}: {format_bytes(two)} measured, {format_bytes(one)} estimated{off}"
    if measured:
        yield (
            f"- seconds: {format_seconds(measured['seconds'])} measured, "
            f"{format_seconds(estimated['seconds']) if estimated else '?'} estimated; "
            f"{format_seconds(measured['load_seconds'])} to load"
        )
