"""The dashboard's panels of the job at hand: phases over time, the allocator, what would save."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from webui.core.job import JobState
from webui.core.phases import title_of
from webui.core.text import Text
from webui.core.units import SAME_TIME_S, format_bytes
from webui.optimizer.steps_down import StepDown
from webui.service.at_hand import JobAtHand, PhaseRow
from webui.service.dashboard import Advice
from webui.service.trace import MemorySample
from webui.ui.language import say
from webui.ui.phase_bars import format_error, seconds_text
from webui.ui.plots import Line, hover_places, render_plot
from webui.ui.tables import render_table
from webui.ui.words import common
from webui.ui.words import dashboard as words

_COLOURS = 6
_COMPARED_S = 1.0
"""Times below this are shown without their error: it would be noise."""


def render_job(job: JobAtHand | None, language: str) -> str:
    """The job at hand, or that there is none."""
    if job is None:
        return f'<p class="vs-empty vs-low">{say(words.NO_JOB, language)}</p>'
    title = words.JOB_NOW if job.state is JobState.RUNNING else words.JOB_LAST
    facts = [
        say(common.STATES[job.state], language),
        f"<code>{escape(str(job.request.get('model', '')))}</code>",
    ]
    if job.loading_s:
        facts.append(say(words.LOADED_IN, language, time=seconds_text(job.loading_s, language)))
    prompt = str(job.request.get("prompt", ""))[:160]
    return (
        f'<section class="vs-panel" data-job="{escape(job.id)}">'
        f'<div class="vs-phase-head"><span>{say(title, language)}</span>'
        f'<span class="vs-figure">{" · ".join(facts)}</span></div>'
        + (f'<p class="vs-fine">{escape(prompt)}</p>' if prompt.strip() else "")
        + _timeline(job.phases, language)
        + _table(job, language)
        + _allocator(job, language)
        + "</section>"
    )


def _timeline(phases: Sequence[PhaseRow], language: str) -> str:
    """Two bars on one scale: the planned seconds, and those that were measured."""
    planned = [(row.name, row.estimated_s) for row in phases]
    measured = [(row.name, row.measured_s) for row in phases if row.measured_s is not None]
    scale = max(sum(seconds for _, seconds in planned), sum(s for _, s in measured), 1e-9)
    kinds = {row.name: f"vs-part-{place % _COLOURS}" for place, row in enumerate(phases)}
    rows = ""
    for title, parts in ((common.ESTIMATED, planned), (common.MEASURED, measured)):
        total = sum(seconds for _, seconds in parts)
        label = say(title, language)
        sum_s = seconds_text(total, language) if parts else "–"
        pieces = "".join(
            f'<b class="{kinds[name]}" style="width:{100 * seconds / scale:.2f}%" '
            f'title="{_segment(name, seconds, language)}"></b>'
            for name, seconds in parts
        )
        spoken = f"{label}: " + ", ".join(_segment(*part, language) for part in parts)
        rows += (
            f'<span>{label}</span><div class="vs-bar" role="img" aria-label="{spoken}">{pieces}'
            f'</div><span class="vs-figure">{sum_s}</span>'
        )
    legend = "".join(
        f'<span><b class="{kinds[row.name]}" aria-hidden="true"></b>'
        f"{say(title_of(row.name), language)}</span>"
        for row in phases
    )
    return (
        f'<h4 class="vs-title">{say(words.TIMELINE, language)}</h4>'
        f'<div class="vs-timeline">{rows}</div><div class="vs-legend">{legend}</div>'
    )


def _segment(name: str, seconds: float, language: str) -> str:
    return f"{say(title_of(name), language)} {seconds_text(seconds, language)}"


def _table(job: JobAtHand, language: str) -> str:
    """A row for each phase: planned, measured, and how far apart they are."""
    reserves = bool(job.plan.get("context_bytes"))
    shown = (words.PHASE_HEAD, *(words.JOB_HEADS if reserves else words.JOB_HEADS[:2]))
    rows = (_cells(row, language)[: len(shown)] for row in job.phases)
    about = say(words.PLANNED_AND_MEASURED, language)
    return f'{render_table(shown, rows, language)}<p class="vs-fine">{about}</p>'


def _cells(row: PhaseRow, language: str) -> tuple[str, ...]:
    allocated, reserved = row.measured_allocated_bytes, row.measured_reserved_bytes
    unused = "–"
    if reserved and allocated is not None:
        unused = f"{100 * max(0, reserved - allocated) / reserved:.0f} %"
    return (
        say(title_of(row.name), language),
        _time(row, language),
        _bytes(row.estimated_allocated_bytes, allocated, row.running, language),
        _bytes(row.estimated_reserved_bytes, reserved, row.running, language),
        unused,
    )


def _time(row: PhaseRow, language: str) -> str:
    planned, measured = seconds_text(row.estimated_s, language), row.measured_s
    if measured is None:
        return f"{planned} → –"
    if row.running:
        return f"{planned} → {say(words.SO_FAR, language, figure=seconds_text(measured, language))}"
    long = max(measured, row.estimated_s) >= _COMPARED_S
    error = f" ({format_error(measured, row.estimated_s)})" if long else ""
    return f"{planned} → {seconds_text(measured, language)}{error}"


def _bytes(planned: int, measured: int | None, running: bool, language: str) -> str:
    if not planned and not measured:  # of what holds no tensors
        return "–"
    if measured is None:
        return f"{format_bytes(planned)} → –"
    if running:  # the phase's peak may be still to come
        figure = say(words.SO_FAR, language, figure=format_bytes(measured))
        return f"{format_bytes(planned)} → {figure}"
    error = format_error(measured, planned)
    return f"{format_bytes(planned)} → {format_bytes(measured)} ({error})"


def _allocator(job: JobAtHand, language: str) -> str:
    if not job.plan.get("context_bytes"):
        return f'<p class="vs-fine">{say(words.LIVE_BYTES, language)}</p>' + _samples(job, language)
    return _samples(job, language)


def _samples(job: JobAtHand, language: str) -> str:
    """The allocator since the job began, on an even scale of time."""
    if len(job.samples) < 2:
        return ""
    last = job.samples[-1]
    times = np.array([sample.at_s for sample in job.samples])
    grid = np.linspace(times[0], times[-1], min(150, 4 * len(times)))
    place = np.searchsorted(times, grid, side="right") - 1
    shown = [job.samples[index] for index in place]
    limit = int(job.plan.get("limit_bytes", 0)) - int(job.plan.get("context_bytes", 0))
    most = max(max(sample.allocated_bytes, sample.reserved_bytes) for sample in shown)
    top = float(max(1, min(limit, 2 * most) if limit > most else most))
    lines = [
        Line(kind="vs-line-allocated", values=_heights(shown, "allocated_bytes", top), filled=True)
    ]
    if last.reserved_bytes:
        lines.insert(
            0,
            Line(
                kind="vs-line-reserved", values=_heights(shown, "reserved_bytes", top), filled=True
            ),
        )
    title = words.ALLOCATOR if last.reserved_bytes else words.LIVE
    legend = [
        ("vs-line-allocated", words.ALLOCATED_LINE),
        ("vs-line-reserved", words.RESERVED_LINE),
    ]
    entries = "".join(
        f'<span><b class="{kind}" aria-hidden="true"></b>{say(text, language)}</span>'
        for kind, text in legend[: len(lines)]
    )
    plot = render_plot(
        lines,
        spoken=_told(words.ALLOCATOR_PLOT, last, language),
        top=format_bytes(top),
        left=seconds_text(float(times[0]), language),
        right=seconds_text(float(times[-1]), language),
        hovers=[
            _told(words.ALLOCATOR_POINT, shown[index], language)
            for index in hover_places(len(shown))
        ],
    )
    return (
        f'<h4 class="vs-title">{say(title, language)}</h4>{plot}'
        f'<div class="vs-legend">{entries}</div>'
    )


def _heights(samples: Sequence[MemorySample], name: str, top: float) -> np.ndarray:
    return np.array([getattr(sample, name) / top for sample in samples], np.float32)


def _told(text: Text, sample: MemorySample, language: str) -> str:
    return text.in_language(language).format(
        time=seconds_text(sample.at_s, language),
        allocated=format_bytes(sample.allocated_bytes),
        reserved=format_bytes(sample.reserved_bytes),
    )


def render_advice(advice: Advice | None, language: str) -> str:
    """What would save memory, each with its bytes and its time; empty where nothing is known."""
    if advice is None:
        return ""
    groups = ""
    for title, lossless in ((words.LOSSLESS, True), (words.WITH_COST, False)):
        steps = [step for step in advice.steps if step.lossless is lossless]
        if steps:
            groups += f"<h4>{say(title, language)}</h4><ul>"
            groups += "".join(f"<li>{_step(step, language)}</li>" for step in steps) + "</ul>"
    if not any(step.lossless for step in advice.steps):
        groups = f"<p>{say(words.NOTHING_TO_SAVE, language)}</p>{groups}"
    return (
        '<section class="vs-panel vs-advice">'
        f'<div class="vs-phase-head"><span>{say(words.ADVICE, language)}</span></div>'
        f'<div class="vs-why">{groups}</div>'
        + _sentences(words.NEARBY, [offer.text for offer in advice.offers], language)
        + _sentences(common.WHY, advice.reasons, language)
        + "</section>"
    )


def _step(step: StepDown, language: str) -> str:
    if abs(step.extra_s) < SAME_TIME_S:
        time = words.SAME_TIME.in_language(language)
    else:
        text = words.SLOWER if step.extra_s > 0 else words.FASTER
        time = text.in_language(language).format(time=seconds_text(abs(step.extra_s), language))
    saved = say(words.STEP, language, saved=format_bytes(step.saved_bytes), time=time)
    return f"<b>{say(step.text, language)}</b>: {saved}"


def _sentences(title: Text, sentences: Sequence[Text], language: str) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{say(sentence, language)}</li>" for sentence in sentences)
    return f'<div class="vs-why"><h4>{say(title, language)}</h4><ul>{items}</ul></div>'
