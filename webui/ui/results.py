"""Runs as HTML: the player, the strip of jobs under way, thumbnails and history cards."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from webui.core.clip import clip_seeds
from webui.core.job import JobState, JobView
from webui.core.phases import title_of
from webui.core.text import Text
from webui.core.units import format_bytes
from webui.ui.language import say
from webui.ui.memory_panel import render_error
from webui.ui.phase_bars import format_error, seconds_text
from webui.ui.web import THUMBNAIL, file_address
from webui.ui.words import common as words

if TYPE_CHECKING:
    from webui.service import RunSummary

CLICKS = """
element.addEventListener('click', event => {
  const button = event.target.closest('[data-action]');
  if (!button || button.disabled) return;
  if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) return;
  trigger('click', {...button.dataset});
});
"""
"""For `gr.HTML(js_on_load=...)`: a button with `data-action` becomes an event with its data."""


def button(
    action: str,
    text: Text,
    language: str,
    *,
    kind: str = "",
    confirm: Text | None = None,
    **data: str,
) -> str:
    """A button that `CLICKS` turns into an event."""
    attributes = "".join(f' data-{key}="{escape(value)}"' for key, value in data.items())
    if confirm:
        attributes += f' data-confirm="{say(confirm, language)}"'
    return (
        f'<button type="button" class="vs-button {kind}" data-action="{action}"{attributes}>'
        f"{say(text, language)}</button>"
    )


def render_jobs(jobs: Sequence[JobView], language: str, shown: str | None = None) -> str:
    """The jobs of this visitor that wait or run, each with its cancel button.

    Args:
        jobs: of the visitor.
        language: of the visitor.
        shown: the document whose pages are shown already.
    """
    return "".join(_job(job, language, job.id == shown) for job in jobs)


def _job(job: JobView, language: str, shown: bool) -> str:
    request = job.request or {}
    if job.state is JobState.QUEUED:
        place = {0: words.NEXT, 1: words.AHEAD_ONE}.get(job.place, words.AHEAD)
        status = f"{say(words.STATES['queued'], language)} · " + say(
            place, language, count=job.place
        )
        fraction = 0.0
    else:
        phase = title_of(job.phase)
        status = say(phase, language)
        if job.attempt > 1:
            status = (
                say(words.ATTEMPT, language, number=job.attempt, most=job.attempts) + f" · {status}"
            )
        if job.pieces is not None:
            made, pieces = job.pieces
            frames = request.get("task") == "upscale"
            counted = words.PIECE_OF_FRAMES if frames else words.PIECE_OF_PAGES
            status += " · " + say(counted, language, made=made, pieces=pieces)
            if frames and job.rate:
                status += " · " + say(words.FRAME_RATE, language, rate=f"{job.rate:.3g}")
        elif job.phase in ("denoise", "denoise_high", "denoise_low", "decode") and job.steps:
            status += " · " + say(words.STEP_OF, language, step=job.step, steps=job.steps)
        if job.seconds_left is not None:
            status += " · " + say(
                words.TIME_LEFT, language, time=seconds_text(max(0.0, job.seconds_left), language)
            )
        fraction = min(1.0, max(0.0, job.fraction))
    preview = ""
    # The tab that upscales shows the newest frame larger, beside what it was.
    if job.preview and request.get("task") != "upscale":
        data = base64.b64encode(job.preview).decode()
        preview = (
            f'<img class="vs-preview" alt="{say(words.PREVIEW, language)}" '
            f'src="data:image/jpeg;base64,{data}">'
        )
    percent = f"{100 * fraction:.0f}"
    return (
        f'<div class="vs-job vs-{job.state}" data-job="{escape(job.id)}">{preview}'
        f'<div class="vs-job-head"><span class="vs-status" role="status">{status}</span>'
        + f'<span class="vs-beside">{"" if shown else _open(job, language)} '
        + button("cancel", words.CANCEL, language, kind="vs-quiet", job=job.id)
        + "</span></div>"
        f'<div class="vs-progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><b style="width:{percent}%"></b></div>'
        f'<p class="vs-fine">{_subject(job, language)}</p>'
        + "".join(
            f'<p class="vs-fine">{say(text, language)}</p>'
            for text in (job.changed, job.told)
            if text.en
        )
        + "</div>"
    )


def _open(job: JobView, language: str) -> str:
    """To the pages of a document that is being read."""
    if (job.request or {}).get("task") != "parse" or job.state is JobState.QUEUED:
        return ""
    return button("read", words.READ_DOCUMENT, language, kind="vs-quiet", run=job.id)


def render_result(run: RunSummary, language: str) -> str:
    """A finished run: the player, what it is, and what can be done with it."""
    media = _media(run, language)
    failed = (
        f'<p class="vs-state">{say(words.STATES[run.state], language)}</p>'
        + render_error(run.error, language)
        if run.error
        else ""
    )
    return (
        f'<div class="vs-result" data-run="{escape(run.id)}">{media}{failed}'
        f'<p class="vs-prompt">{_title(run, language)}</p>'
        f'<p class="vs-fine">{describe(run, language)}</p>'
        f"{_attempts(run, language)}{_kept(run, language)}"
        f'<div class="vs-actions">{_actions(run, language)}</div></div>'
    )


def may_resume(run: RunSummary) -> bool:
    """Whether it upscales, and ended before its last frame: finished segments are kept."""
    upscaled = run.request.get("task") == "upscale"
    return upscaled and run.state.final and run.state is not JobState.DONE


def _kept(run: RunSummary, language: str) -> str:
    return f'<p class="vs-fine">{say(words.KEPT, language)}</p>' if may_resume(run) else ""


def _media(run: RunSummary, language: str) -> str:
    """What the run made; several clips each with their seed."""
    made, seeds = made_by(run), seeds_of(run.request)
    kind = words.UPSCALED if run.request.get("task") == "upscale" else words.NO_SOUND_VIDEO
    shown = [render_media(run.id, path.name, language, kind) for path in made]
    if len(seeds) == 1 or len(made) != len(seeds):
        return "".join(shown)
    clips = "".join(
        f"<figure>{media}<figcaption>{say(words.SEED, language)} {seed}</figcaption></figure>"
        for media, seed in zip(shown, seeds, strict=True)
    )
    return f'<div class="vs-clips">{clips}</div>'


def seeds_of(request: Mapping[str, Any]) -> tuple[int, ...]:
    """The seed of each clip of a recorded request."""
    return clip_seeds(int(request.get("seed", 0)), int(request.get("batch", 1)))


def _attempts(run: RunSummary, language: str) -> str:
    """What ran out of memory before, and what was changed then."""
    attempts = run.receipt.attempts if run.receipt else ()
    told = "".join(
        f"<li>{say(attempt.changed, language)}</li>" for attempt in attempts if attempt.changed.en
    )
    if not told:
        return ""
    return (
        f'<h4 class="vs-title">{say(words.ATTEMPTS, language)}</h4><ul class="vs-fine">{told}</ul>'
    )


def made_by(run: RunSummary) -> list[Path]:
    """What the run made, without pictures that only stand for it."""
    if run.receipt is None:
        return []
    made = {PurePosixPath(name).name for name in run.receipt.outputs}
    return [path for path in run.outputs if path.name in made]


def describe(run: RunSummary, language: str) -> str:
    """Size, frames, steps, seed, and the time it took beside the estimate."""
    request = run.request
    parts = [escape(str(request.get("model", "")))]
    if request.get("task") == "parse":
        pages = escape(str(request.get("pages")))
        return " · ".join([*parts, say(words.PAGES, language, pages=pages), *_took(run, language)])
    if request.get("task") == "upscale":
        counted = say(words.COUNTED_FRAMES, language, count=request.get("frames"))
        scale = say(words.SCALED, language, scale=request.get("scale"))
        return " · ".join([*parts, counted, scale, *_took(run, language)])
    clips = int(request.get("batch", 1))
    parts += [say(words.CLIPS, language, count=clips)] if clips > 1 else []
    frames, fps = int(request.get("frames", 1)), float(request.get("fps", 1) or 1)
    parts.append(f"{request.get('width')}x{request.get('height')}")
    parts.append(
        say(words.PICTURE, language)
        if frames == 1
        else say(words.FRAMES, language, count=frames, seconds=f"{frames / fps:.1f}")
    )
    parts.append(say(words.STEPS, language, count=request.get("steps")))
    seeds = seeds_of(request)
    told = f"{seeds[0]} – {seeds[-1]}" if len(seeds) > 1 else str(request.get("seed"))
    parts.append(f"{say(words.SEED, language)} <b>{escape(told)}</b>")
    return " · ".join([*parts, *_took(run, language)])


def _took(run: RunSummary, language: str) -> list[str]:
    measured = run.receipt.measurement if run.receipt else None
    if not measured or not run.receipt:
        return []
    estimated = seconds_text(float(run.receipt.plan.get("seconds", 0)), language)
    work = run.receipt.work
    # What a lost worker did is in no measurement.
    time = seconds_text(max(measured.seconds, work.busiest_s if work else 0.0), language)
    if work is None or not work.in_part:
        return [say(words.TOOK, language, time=time, estimate=estimated)]
    told, made = words.TOOK_IN_PART[work.unit], work.units
    return [say(told, language, made=made, whole=work.whole, time=time, estimate=estimated)]


def render_strip(runs: Iterable[RunSummary], language: str, title: Text) -> str:
    """The newest results as a row of thumbnails."""
    buttons = "".join(
        f'<button type="button" class="vs-thumb" data-action="show" data-run="{escape(run.id)}" '
        f'title="{_title(run, language)}">{_thumbnail(run, language)}</button>'
        for run in runs
        if run.state is JobState.DONE or may_resume(run)
    )
    if not buttons:
        return ""
    return f'<h4 class="vs-title">{say(title, language)}</h4><div class="vs-strip">{buttons}</div>'


def render_card(run: RunSummary, language: str) -> str:
    """A card of the history."""
    state = say(words.STATES[run.state], language)
    badge = "" if run.state is JobState.DONE else f'<span class="vs-badge">{state}</span>'
    error = render_error(run.error, language) if run.error and run.state == "failed" else ""
    return (
        f'<article class="vs-card" data-run="{escape(run.id)}">'
        f'<button type="button" class="vs-thumb" data-action="show" data-run="{escape(run.id)}" '
        f'aria-label="{say(words.OPEN, language)}">{_thumbnail(run, language)}{badge}</button>'
        f'<p class="vs-prompt">{_title(run, language)}</p>'
        f'<p class="vs-fine">{describe(run, language)} · {escape(minute_of(run.created))} UTC</p>'
        f'<p class="vs-fine">{memory_text(run, language)}</p>{error}'
        f'<div class="vs-actions">{_actions(run, language)}</div></article>'
    )


def minute_of(created: str) -> str:
    """Of a time (ISO 8601) the day and the minute."""
    return created[:16].replace("T", " ")


def memory_text(run: RunSummary, language: str) -> str:
    """The measured peak beside the estimate; empty where there is none."""
    if not run.receipt or not run.receipt.measurement:
        return ""
    measured, plan = run.receipt.measurement, run.receipt.plan
    key = "peak_reserved_bytes" if measured.peak_reserved_bytes else "peak_allocated_bytes"
    real, estimated = getattr(measured, key), int(plan.get(key, 0))
    if not real and not estimated:  # an engine whose memory no tensor holds
        return ""
    return (
        f"{say(words.MEASURED, language)} {format_bytes(real)} · "
        f"{say(words.ESTIMATED, language)} {format_bytes(estimated)} "
        f"({format_error(real, estimated)})"
    )


def _subject(job: JobView, language: str) -> str:
    """What a job is about."""
    request = job.request or {}
    about = [escape(part) for part in (job.input_name, str(request.get("model"))) if part]
    if request.get("task") == "upscale":
        return " · ".join([*about, _prompt(request, language)])
    if request.get("task") == "parse":
        pages = escape(str(request.get("pages"))[:80])
        return " · ".join([*about, say(words.PAGES, language, pages=pages)])
    return escape(str(request.get("prompt", ""))[:160])


def _title(run: RunSummary, language: str) -> str:
    """What a run is about, with the name of the file that it was given."""
    about, name = _prompt(run.request, language), escape(run.input_name)
    if not name:
        return about
    return name if run.request.get("task") == "parse" else f"{name} · {about}"


def _prompt(request: Mapping[str, Any], language: str) -> str:
    if request.get("task") == "upscale":
        width, height, scale = (int(request.get(key) or 0) for key in ("width", "height", "scale"))
        return f"{width} x {height} px → {width * scale} x {height * scale} px"
    if request.get("task") == "parse":
        return say(words.DOCUMENT, language)
    prompt = str(request.get("prompt", ""))
    return escape(prompt) if prompt.strip() else say(words.NO_PROMPT, language)


def render_media(run_id: str, name: str, language: str, label: Text = words.NO_SOUND_VIDEO) -> str:
    """A clip's player, or a picture; only clips that were generated start by themselves."""
    address = escape(file_address(run_id, name))
    if name.endswith(".mp4"):
        alone = "autoplay loop muted" if label is words.NO_SOUND_VIDEO else 'preload="metadata"'
        return (
            f'<video class="vs-media" src="{address}" controls {alone} playsinline '
            f'aria-label="{say(label, language)}"></video>'
        )
    if not name.endswith((".png", ".jpg")):
        return ""
    alt = say(words.GENERATED_PICTURE, language)
    return f'<img class="vs-media" src="{address}" alt="{alt}">'


def _thumbnail(run: RunSummary, language: str) -> str:
    if run.thumbnail is None:
        return '<span class="vs-nothing" aria-hidden="true">–</span>'
    address = escape(file_address(run.id, THUMBNAIL))
    return f'<img src="{address}" alt="{_title(run, language)}" loading="lazy">'


def _actions(run: RunSummary, language: str) -> str:
    # Of a document the ZIP file, which has all of the others.
    made = sorted(made_by(run), key=lambda path: path.suffix != ".zip")
    files = made if len(made) == len(seeds_of(run.request)) else made[:1]
    saved = "".join(
        f'<a class="vs-button" href="{escape(file_address(run.id, path.name, download=True))}" '
        f"download>{say(words.DOWNLOAD_ONE, language, number=number)}</a>"
        if len(files) > 1
        else f'<a class="vs-button" '
        f'href="{escape(file_address(run.id, path.name, download=True))}" '
        f"download>{say(words.DOWNLOAD, language)}</a>"
        for number, path in enumerate(files, 1)
    )
    delete = (
        button(
            "delete",
            words.DELETE,
            language,
            kind="vs-danger",
            run=run.id,
            confirm=words.CONFIRM_DELETE,
        )
        if run.state.final
        else ""
    )
    resume = button("resume", words.RESUME, language, run=run.id) if may_resume(run) else ""
    read = ""
    if run.request.get("task") == "parse":
        read = button("read", words.READ_DOCUMENT, language, run=run.id)
    again = button("again", words.USE_AGAIN, language, run=run.id)
    return read + saved + resume + again + delete
