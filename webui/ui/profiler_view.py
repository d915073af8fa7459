"""A profile as HTML: its rows, one row in detail, two rows compared, all from its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from webui.core.errors import error_from_json
from webui.core.phases import title_of
from webui.core.text import Text
from webui.core.units import format_bytes, format_seconds
from webui.service.analysis.comparing import Comparison, Difference
from webui.service.profile import ProfileRun
from webui.service.profile.report import peak_bytes
from webui.ui.language import say
from webui.ui.memory_panel import render_error
from webui.ui.phase_bars import format_error
from webui.ui.results import button, minute_of
from webui.ui.tables import frame_rows, render_table
from webui.ui.web import profile_address
from webui.ui.words import common
from webui.ui.words import profiler as words

_DASH = "–"
Data = Mapping[str, Any]


def render_progress(run: ProfileRun, language: str) -> str:
    """The running matrix, its row and a cancel button; what ended it, where something did."""
    if run.error is not None:
        return render_error(run.error, language)
    if run.ended:
        return f'<p class="vs-fine">{say(words.ENDED, language, count=len(run.results))}</p>'
    row, view = run.running, run.view
    status = say(words.STARTING, language)
    fraction = 0.0
    if row is not None and view is not None and not run.warming:
        number = len(run.results) + 1
        status = say(words.ROW_OF, language, number=number, count=len(run.rows), row=row.name)
        status += f" · {say(title_of(view.phase or 'starting'), language)}"
        fraction = (len(run.results) + min(1.0, view.fraction)) / len(run.rows)
    if run.stopping:
        status = say(words.STOPPING, language)
    percent = f"{100 * fraction:.0f}"
    return (
        '<div class="vs-job"><div class="vs-job-head">'
        f'<span class="vs-status" role="status">{status}</span>'
        + button("cancel", common.CANCEL, language, kind="vs-quiet")
        + '</div><div class="vs-progress" role="progressbar" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}"><b style="width:{percent}%"></b></div>'
        "</div>"
    )


def render_past(names: Sequence[str], language: str) -> str:
    """The profiles that are there, each a button."""
    if not names:
        return f'<p class="vs-empty">{say(words.NONE_YET, language)}</p>'
    chips = "".join(
        f'<button type="button" class="vs-button vs-chip" data-action="open" '
        f'data-profile="{escape(name)}">{escape(name)}</button>'
        for name in names
    )
    return (
        f'<h4 class="vs-title">{say(words.PAST, language)}</h4><div class="vs-chips">{chips}</div>'
    )


def render_profile(summary: Data, language: str) -> str:
    """The rows of a profile side by side."""
    name, around = str(summary["name"]), summary["environment"]
    listed = ", ".join(
        f"{item['name'] or '?'} ({item['pid']}, GPU {item.get('card', 0)})"
        for item in around["processes"]
    )
    head = say(
        words.AROUND,
        language,
        created=minute_of(str(summary["created"])),
        card=around["card"],
        processes=listed or words.NOBODY_ELSE.in_language(language),
    )
    rows = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in _cells(name, result, language)) + "</tr>"
        for result in summary["rows"]
    )
    switches = map(_model_switch, summary.get("model_switches") or ())
    files = _links(name, "-", ("summary.json", "report.md", "matrix.yaml"))
    return (
        f'<h3 class="vs-title">{escape(name)}</h3><p class="vs-fine">{head}</p>'
        + frame_rows(words.HEADS, rows, language)
        + _table(words.MODEL_SWITCHES, words.MODEL_SWITCH_HEADS, switches, language)
        + f'<p class="vs-fine">{say(words.FILES, language)}: {files}</p>'
        + button(
            "delete", common.DELETE, language, kind="vs-quiet", confirm=words.CONFIRM_DELETE,
            profile=name,
        )
    )  # fmt: skip


def render_row(name: str, result: Data, others: Mapping[str, str], language: str) -> str:
    """One row in detail.

    Args:
        name: of the profile.
        result: the row's.
        others: rows that it can be compared with: their names by folder.
        language: of the visitor.
    """
    memory, parts = result.get("memory") or {}, []
    if result.get("error"):
        parts.append(render_error(error_from_json(result["error"]), language))
    if result.get("bottleneck"):
        parts.append(f"<p><b>{say(Text.from_json(result['bottleneck']), language)}</b></p>")
    parts += [
        f'<p class="vs-fine">{say(Text.from_json(note), language)}</p>' for note in result["notes"]
    ]
    parts.append(_phases(memory, language))
    parts.append(_table(words.BASE, words.BASE_HEADS, map(_base, memory.get("base", ())), language))
    stages = (
        (title_of(item["phase"]).in_language(language), item["stage"], item["calls"],
         _size(item["activation_bytes"]),
         _size(item["peak_bytes"]))
        for item in memory.get("activations", ())
    )  # fmt: skip
    parts.append(_table(words.STAGES, words.STAGE_HEADS, stages, language))
    parts.append(_holders(result, language))
    switches = (
        (say(common.SECONDS, language, figure=f"{item['t_s']:.2f}"),
         title_of(item["phase"]).in_language(language),
         ("→ " if item["entered"] else "← ") + item["component"], _size(item["change_bytes"]),
         _size(item["allocated_bytes"]))
        for item in memory.get("switches", ())
    )  # fmt: skip
    parts.append(_table(words.SWITCHES, words.SWITCH_HEADS, switches, language))
    parts.append(_architecture(result, language))
    files = _links(name, str(result["folder"]), result["files"])
    compare = "".join(
        f'<button type="button" class="vs-button" data-action="compare" '
        f'data-profile="{escape(name)}" data-row="{escape(str(result["folder"]))}" '
        f'data-other="{escape(other)}">{say(words.COMPARE, language, row=row)}</button>'
        for other, row in others.items()
    )
    return _opened(
        str(result["row"]),
        f'<p class="vs-fine">{escape(str(result["description"]))}</p>'
        + "".join(parts)
        + f'<p class="vs-fine">{say(words.FILES, language)}: {files or _DASH}</p>'
        + f'<div class="vs-actions">{compare}</div>',
        language,
    )


def render_comparison(found: Comparison, language: str) -> str:
    """Two rows side by side."""
    rows = (
        (words.KINDS[item.kind].in_language(language), _named(item, language),
         _size(item.first_bytes), _size(item.second_bytes), _size(item.change_bytes))
        for item in found.differences
    )  # fmt: skip
    figure, of, change = words.COMPARE_HEADS
    heads = (figure, of, _same(found.first), _same(found.second), change)
    summary = f"<p><b>{say(found.summary, language)}</b></p>"
    title = f"{found.first} / {found.second}"
    return _opened(title, summary + _table(_same(title), heads, rows, language), language)


def _named(item: Difference, language: str) -> str:
    """What a figure is of; it may begin with a phase."""
    if item.kind in ("phase", "activation"):
        phase, *stage = item.name.split(": ", 1)
        title = title_of(phase).in_language(language)
        colon = Text(": ", "：").in_language(language)
        return colon.join([title, *stage])
    return item.name


def _cells(name: str, result: Data, language: str) -> Iterable[str]:
    memory = result.get("memory") or {}
    row, state = str(result["row"]), str(result["state"])
    yield (
        f"<b>{escape(row)}</b><br>"
        + button(
            "row", words.DETAILS, language, kind="vs-quiet", profile=name,
            row=str(result["folder"]),
        )
    )  # fmt: skip
    yield say(words.STATES.get(state, words.STATES["failed"]), language)
    yield _lines((part["name"], _size(part["increment_bytes"])) for part in memory.get("base", ()))
    yield _lines(_stages(memory))
    measured, estimated = peak_bytes(result.get("measured")), peak_bytes(result.get("estimated"))
    yield _size(measured or None)
    off = f"<br>{format_error(measured, estimated)}" if measured and estimated else ""
    yield _size(estimated or None) + off
    found = memory.get("fragmentation")
    if found:
        yield f"{found['at_peak']:.1%} ({found['swing']:.1%})"
    else:
        yield say(words.NO_FRAGMENTATION, language) if memory else _DASH
    yield (
        format_seconds(result["measured"]["seconds"], language) if result.get("measured") else _DASH
    )


def _stages(memory: Data) -> Iterable[tuple[str, str]]:
    """The blocks' and parts' highest activations, one a phase."""
    best: dict[str, Data] = {}
    for item in memory.get("activations", ()):
        known = best.get(item["phase"])
        if known is None or item["activation_bytes"] > known["activation_bytes"]:
            best[item["phase"]] = item
    return ((item["stage"], _size(item["activation_bytes"])) for item in best.values())


def _phases(memory: Data, language: str) -> str:
    """A bar for each phase: what was there before, and what the work took above it."""
    phases, top = (
        memory.get("phases", ()),
        max(1, (memory.get("peak") or {}).get("allocated_bytes", 1)),
    )
    bars = ""
    for phase in phases:
        before, peak = int(phase["before_bytes"]), int(phase["peak_bytes"])
        bars += (
            '<div class="vs-phase"><div class="vs-phase-head">'
            f"<span>{say(title_of(phase['name']), language)}</span>"
            f'<span class="vs-figure">{_size(before)} → {_size(peak)} → '
            f"{_size(phase['after_bytes'])}</span></div>"
            f'<div class="vs-bar"><b class="vs-resident" style="width:{100 * before / top:.2f}%">'
            f'</b><b class="vs-activation" style="width:{100 * max(0, peak - before) / top:.2f}%">'
            "</b></div></div>"
        )
    if not bars:
        return ""
    heads = " → ".join(say(text, language) for text in words.PHASE_HEADS[1:])
    return (
        f'<h4 class="vs-title">{say(words.PHASES, language)}</h4><p class="vs-fine">{heads}</p>'
        f'<div class="vs-phases">{bars}</div>'
    )


def _model_switch(item: Data) -> tuple[str, ...]:
    return (
        f"{item['from_row']} → {item['to_row']}",
        f"{item['from_model']} → {item['to_model']}",
        *(_size(item[f"{when}_bytes"]) for when in ("before_unload", "after_unload", "after_load")),
    )


def _base(part: Data) -> tuple[str, ...]:
    off = _DASH if part["error"] is None else f"{part['error']:+.2%}"
    return (
        part["name"],
        part["mode"],
        f"{part['parameters']:,}",
        _size(part["increment_bytes"]),
        _size(part["storage_bytes"]),
        off,
    )


def _holders(result: Data, language: str) -> str:
    peak = result.get("peak")
    if not peak:
        return f'<p class="vs-fine">{say(words.NO_LINES, language)}</p>'
    rows = (
        (_size(item["size_bytes"]), item["count"], item["line"], item["operation"])
        for item in peak["holders"]
    )
    title = Text(
        *(
            text.format(file=peak["file"], size=format_bytes(peak["total_bytes"]))
            for text in (words.HOLDERS.en, words.HOLDERS.zh)
        )
    )
    return _table(title, words.HOLDER_HEADS, rows, language)


def _architecture(result: Data, language: str) -> str:
    card = result.get("architecture") or {}
    rows = (
        (
            f"{name} ({part['class']})" if part["class"] else name,
            f"{part['parameters']:,}" if "parameters" in part else _DASH,
            _size(part.get("bytes")),
            ", ".join(f"{key} {value}" for key, value in part["dimensions"].items()),
        )
        for name, part in card.get("components", {}).items()
    )
    table = _table(words.ARCHITECTURE, words.ARCHITECTURE_HEADS, rows, language)
    summary = say(words.ARCHITECTURE, language)
    return f"<details><summary>{summary}</summary>{table}</details>" if card else ""


def _links(name: str, row: str, files: Iterable[str]) -> str:
    return " · ".join(
        f'<a href="{escape(profile_address(name, row, file))}" download>{escape(file)}</a>'
        for file in files
    )


def _opened(title: str, content: str, language: str) -> str:
    close = button("close", words.CLOSE, language, kind="vs-quiet")
    return (
        f'<div class="vs-panel"><div class="vs-job-head"><h3>{escape(title)}</h3>{close}</div>'
        f"{content}</div>"
    )


def _lines(pairs: Iterable[tuple[str, str]]) -> str:
    return "<br>".join(f"{escape(name)} {size}" for name, size in pairs) or _DASH


def _table(title: Text, heads: Sequence[Text], rows: Iterable[Iterable[Any]], language: str) -> str:
    cells = [[escape(str(cell)) for cell in row] for row in rows]
    if not cells:
        return ""
    return f'<h4 class="vs-title">{say(title, language)}</h4>' + render_table(
        heads, cells, language
    )


def _same(name: str) -> Text:
    """A name, which is the same in all languages."""
    return Text(name, name)


def _size(count_bytes: int | None) -> str:
    return _DASH if count_bytes is None else format_bytes(count_bytes)
