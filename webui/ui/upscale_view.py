"""What is upscaled, as HTML: what the input is, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from html import escape
from typing import Any

from webui.core.text import Text
from webui.ui.language import say
from webui.ui.phase_bars import seconds_text
from webui.ui.upscale_input import Input, largest
from webui.ui.web import frame_address
from webui.ui.words import upscale as words


def render_inputs(inputs: Sequence[Input], language: str, planned: bool = True) -> str:
    """What is to be upscaled: one file, or several with their names, and which is planned.

    Args:
        inputs: the files that can be used.
        language: of the visitor.
        planned: whether there is a plan.
    """
    first = largest(inputs)
    if first is None or len(inputs) == 1:
        return render_facts(first.facts if first else {}, language)
    told = say(words.SEVERAL, language, count=len(inputs), name=first.name) if planned else ""
    files = "".join(
        f"<li><b>{escape(one.name)}</b>{render_facts(one.facts, language)}</li>" for one in inputs
    )
    return f'<p class="vs-hint">{told}</p><ul class="vs-inputs">{files}</ul>'


def render_facts(facts: Mapping[str, Any], language: str) -> str:
    """What an input is, in one line, and what the user should know of it.

    Args:
        facts: of the input (`Studio.videos.facts`); empty without one.
        language: of the visitor.
    """
    if not facts:
        return f'<p class="vs-hint">{say(words.NOT_YET, language)}</p>'
    size = {"width": facts["width"], "height": facts["height"]}
    frames = int(facts["frames"])
    if frames == 1:
        parts = [say(words.ONE_PICTURE, language, **size)]
        if facts.get("transparent"):
            parts.append(say(words.TRANSPARENT, language))
    else:
        rate = words.VARIABLE_RATE if facts.get("variable") else words.RATE
        length = seconds_text(float(facts.get("duration_s") or 0), language)
        parts = [
            say(words.FACTS, language, frames=frames, **size),
            say(rate, language, rate=rate_text(facts.get("rate"))),
            say(words.LENGTH, language, time=length),
            say(words.WITH_SOUND if facts.get("audio") else words.NO_SOUND, language),
        ]
    if int(facts.get("bits") or 8) > 8:
        parts.append(say(words.TEN_BITS, language))
    warning = facts.get("warning")
    told = (
        f'<p class="vs-hint vs-missing">{escape(Text.from_json(warning).in_language(language))}</p>'
        if warning
        else ""
    )
    return f'<p class="vs-hint">{" · ".join(parts)}</p>{told}'


def rate_text(rate: Any) -> str:
    """Frames a second as people write them: 24, 29.97."""
    try:
        return f"{float(Fraction(str(rate))):.2f}".rstrip("0").rstrip(".")
    except (ValueError, ZeroDivisionError):
        return "?"


def render_size(height: int, width: int, segments: int, language: str) -> str:
    """What comes of the input, and in how many segments."""
    lines = [say(words.RESULT_SIZE, language, width=width, height=height)]
    if segments > 1:
        lines.append(say(words.IN_SEGMENTS, language, count=segments))
    return "".join(f'<p class="vs-hint">{line}</p>' for line in lines)


def pair_addresses(run_id: str, name: str, version: object) -> tuple[str, str]:
    """Where the page finds a frame before and after.

    Args:
        run_id: the run.
        name: `newest` or `chosen`.
        version: changes with the pictures.
    """
    return frame_address(run_id, f"{name}-before", version), frame_address(run_id, name, version)
