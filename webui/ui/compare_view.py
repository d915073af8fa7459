"""A comparison as HTML: the results beside each other, with what they took and how they differ."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from webui.core.settings import SETTINGS
from webui.core.text import Text
from webui.service.compare import Column, peaks
from webui.service.difference import Difference
from webui.ui import results
from webui.ui.form import encode_setting, size_name
from webui.ui.language import say
from webui.ui.memory_panel import render_error
from webui.ui.phase_bars import seconds_text
from webui.ui.results import button
from webui.ui.words import common
from webui.ui.words import compare as words
from webui.ui.words import generate as form_words

COLON = Text(": ", "：")
SYNCHRONISED = """
const clips = () => [...element.querySelectorAll('.vs-compare video')];
element.addEventListener('click', event => {
  if (!event.target.closest('[data-action="play"]')) return;
  const all = clips(), start = all.every(clip => clip.paused);
  all.forEach(clip => {
    clip.currentTime = all[0].currentTime;
    if (start) clip.play(); else clip.pause();
  });
});
element.addEventListener('seeked', event => {
  for (const clip of clips())
    if (clip !== event.target && Math.abs(clip.currentTime - event.target.currentTime) > 0.05)
      clip.currentTime = event.target.currentTime;
}, true);
"""
"""For `gr.HTML(js_on_load=...)`: the clips play, stop and jump together."""


def render_comparison(columns: Sequence[Column], language: str) -> str:
    """All runs beside each other, the reference first."""
    clips = sum(path.suffix == ".mp4" for one in columns for path in results.made_by(one.run))
    play = button("play", words.PLAY, language) if clips > 1 else ""
    cards = "".join(
        _card(column, language, reference=not index) for index, column in enumerate(columns)
    )
    compared = [column.difference for column in columns if column.difference]
    about = f'<p class="vs-fine">{say(words.AS_SAVED, language)}</p>' if compared else ""
    return (
        f'<div class="vs-actions">{play}</div><div class="vs-compare">{cards}</div>{about}'
        + _by_frame(columns, language)
    )


def _card(column: Column, language: str, reference: bool) -> str:
    run = column.run
    media = "".join(
        results.render_media(run.id, path.name, language) for path in results.made_by(run)
    )
    state = "" if run.state.final and not run.error else say(common.STATES[run.state], language)
    failed = render_error(run.error, language) if run.error else ""
    return (
        f'<article class="vs-result" data-run="{escape(run.id)}">{media}'
        f'<h4 class="vs-title">{_differs(column, language)}</h4>'
        + (f'<p class="vs-state">{state}</p>' if state else "")
        + f"{failed}<dl>{_facts(column, language, reference)}</dl></article>"
    )


def _facts(column: Column, language: str, reference: bool) -> str:
    receipt = column.run.receipt
    rows: list[tuple[Text, str]] = []
    measured = receipt.measurement if receipt else None
    if receipt is not None and measured is not None:
        expected = seconds_text(float(receipt.plan.get("seconds", 0)), language)
        time = say(
            common.TOOK, language, time=seconds_text(measured.seconds, language), estimate=expected
        )
        rows.append((words.TIME, time))
        estimated, real = peaks(receipt)
        rows.append(
            (
                words.PEAK,
                f"{say(common.MEASURED, language)} {real} · "
                f"{say(common.ESTIMATED, language)} {estimated}",
            )
        )
    if reference:
        rows.append((words.DIFFERENCE, say(words.REFERENCE, language)))
    elif column.run.state.final:
        told = column.difference.text if column.difference else column.why
        rows.append((words.DIFFERENCE, say(told, language) if told else ""))
    return "".join(f"<dt>{say(name, language)}</dt><dd>{value}</dd>" for name, value in rows)


def _differs(column: Column, language: str) -> str:
    """What the run has otherwise than the others, in the words of the form."""
    differs, request = dict(column.differs), column.run.request
    if differs.keys() & {"width", "height"}:
        differs = {"size": size_name(request.get("width", 0), request.get("height", 0)), **differs}
    told = [
        told_value(key, value, language)
        for key, value in differs.items()
        if key not in ("width", "height")
    ]
    return escape(" · ".join(told)) if told else say(words.SAME, language)


def told_value(key: str, value: Any, language: str) -> str:
    """A setting, or a key of a request, with its value, in the words of the form; not escaped."""
    spec = SETTINGS.get(key)
    if spec is None:
        label, shown = _KEYS.get(key, Text(key, key)), str(value)[:80]
    else:
        plain = encode_setting(value)
        choice = spec.choice_labels.get(value, Text(plain, plain))
        label, shown = spec.label, choice.in_language(language).replace("：", ":").split(":")[0]
    return f"{label.in_language(language)}{COLON.in_language(language)}{shown}"


_KEYS = {
    "prompt": form_words.PROMPT,
    "negative_prompt": form_words.NEGATIVE,
    **form_words.PICTURES,
    "model": form_words.MODEL,
    "card": form_words.CARD,
    "vram_gib": form_words.VRAM,
    "size": form_words.SIZE,
    "frames": form_words.FRAMES,
    "steps": form_words.STEPS,
    "guidance": form_words.GUIDANCE,
    "flow_shift": form_words.FLOW_SHIFT,
    "solver": form_words.SOLVER,
    "fps": form_words.FPS,
    "seed": common.SEED,
    "batch": form_words.CLIPS,
    "pages": words.PAGES,
}
"""What the keys of requests are called."""


def _by_frame(columns: Sequence[Column], language: str) -> str:
    """PSNR and SSIM of every frame."""
    compared = [(column, column.difference) for column in columns if column.difference]
    if not compared or all(len(found.mse) < 2 for _, found in compared):
        return ""
    heads = "".join(f"<th>{_differs(column, language)}</th>" for column, _ in compared)
    most = max(len(found.mse) for _, found in compared)
    rows = "".join(
        f"<tr><td>{frame + 1}</td>"
        + "".join(f"<td>{_figures(found, frame)}</td>" for _, found in compared)
        + "</tr>"
        for frame in range(most)
    )
    return (
        f"<details><summary>{say(words.BY_FRAME, language)}</summary><div class='vs-table'><table>"
        f"<tr><th>{say(words.FRAME, language)}</th>{heads}</tr>{rows}</table></div></details>"
    )


def _figures(found: Difference, frame: int) -> str:
    if frame >= len(found.mse):
        return ""
    psnr = found.psnr[frame]
    return f"{'=' if psnr is None else f'{psnr:.1f} dB'} · {found.ssim[frame]:.4f}"
