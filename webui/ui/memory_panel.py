"""The memory panel: a bar per phase against the card's limit, estimated and measured.

Every figure also stands there as text; colour never carries it alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from webui.core.errors import StudioError
from webui.core.phases import title_of
from webui.core.plan import Alternative
from webui.core.text import Text
from webui.core.units import format_bytes, format_seconds
from webui.ui.panel_content import PanelContent
from webui.ui.words import common as words

_ZOOM_BELOW = 0.3
"""When the peak is below this share of the limit, the bars are drawn on a scale of their own."""
_COMPARED_S = 1.0
"""Times below this are shown without their error: it would be noise."""


def render_error(error: StudioError, language: str) -> str:
    """One clear sentence and its hint."""
    hint = error.hint.in_language(language)
    return (
        '<div class="vs-alert" role="alert"><strong>'
        + escape(error.message.in_language(language))
        + "</strong>"
        + (f"<span>{escape(hint)}</span>" if hint else "")
        + "</div>"
    )


def render_panel(content: PanelContent, language: str) -> str:
    """The whole panel as HTML."""
    return (
        f'<section class="vs-panel" aria-label="{_say(words.MEMORY, language)}">'
        + _summary(content, language)
        + '<div class="vs-body">'
        + _offers(content.offers, language)
        + _phases(content, language)
        + _legend(content, language)
        + _limits(content, language)
        + _sentences(words.WHY, content.reasons, language)
        + _sentences(words.ASSUMPTIONS, content.notes, language)
        + _host(content, language)
        + "</div></section>"
    )


def format_error(measured: float, estimated: float) -> str:
    """How far the measured figure is from the estimate, signed: '+1.8 %'."""
    if not estimated:
        return ""
    off = (measured - estimated) / estimated * 100
    return f"{off:+.1f} %" if abs(off) < 99.5 else f"{off:+.0f} %"


def seconds_text(seconds: float, language: str) -> str:
    """A duration for people; below a second with two digits, where 0.0 s would say nothing."""
    if not 0 < seconds < 0.95:
        return format_seconds(seconds, language)
    figure = "≤ 0.01" if seconds < 0.01 else f"{seconds:.2g}"
    return _say(words.SECONDS, language, figure=figure)


def _say(text: Text, language: str, **values: object) -> str:
    sentence = text.in_language(language)
    return escape(sentence.format(**values) if values else sentence)


def _time(estimate: Mapping[str, Any], language: str) -> str:
    low, high = estimate.get("seconds_range") or (estimate["seconds"], estimate["seconds"])
    if high - low > 0.02 * max(high, 1e-9):
        return _say(
            words.BETWEEN_SECONDS,
            language,
            low=seconds_text(low, language),
            high=seconds_text(high, language),
        )
    return _say(words.ABOUT_SECONDS, language, time=seconds_text(estimate["seconds"], language))


def _summary(content: PanelContent, language: str) -> str:
    estimate = content.estimate
    fits = bool(estimate["fits"])
    used, limit = estimate["peak_device_bytes"], estimate["limit_bytes"]
    counted = words.PEAK_ON_HOST if content.processor else words.PEAK_ON_CARD
    if content.of_host:
        used, counted = estimate["host_bytes"], words.HOST_MEMORY
    share = min(100.0, 100 * used / limit) if limit else 100.0
    sizes = _say(
        words.OF,
        language,
        used=format_bytes(used),
        limit=format_bytes(limit),
    )
    state = "vs-fits" if fits else "vs-over"
    verdict = _say(words.FITS if fits else words.DOES_NOT_FIT, language)
    load = estimate.get("load_seconds") or 0
    return (
        f'<button type="button" class="vs-summary {state}" data-panel-toggle '
        f'title="{_say(words.SHOW_DETAILS, language)}">'
        f'<span class="vs-verdict"><i aria-hidden="true">{"✓" if fits else "✕"}</i> {verdict}'
        f"</span>"
        f'<span class="vs-sizes">{sizes}</span>'
        f'<span class="vs-time">{_time(estimate, language)}</span>'
        f'<span class="vs-gauge" aria-hidden="true"><b style="width:{share:.1f}%"></b></span>'
        '<span class="vs-chevron" aria-hidden="true">⌃</span>'
        "</button>"
        f'<p class="vs-fine"><b>{escape(content.card_title)}</b> · {_say(counted, language)}'
        + (
            " · " + _say(words.PLUS_LOADING, language, time=seconds_text(load, language))
            if load >= 0.1
            else ""
        )
        + "</p>"
    )


def _scale(content: PanelContent) -> float:
    """Bytes at the right end of the bars."""
    estimate = content.estimate
    if content.of_host:
        real = content.measurement["host_bytes"] if content.measurement else 0
        return float(max(1, estimate["host_bytes"], real)) * 1.25
    peak = estimate["peak_device_bytes"] + estimate["margin_bytes"]
    if content.measurement:
        context = estimate.get("context_bytes", 0)
        peak = max(
            peak,
            *(
                max(phase["allocated_bytes"], phase["reserved_bytes"]) + context
                for phase in content.measurement["phases"]
            ),
        )
    limit = estimate["limit_bytes"]
    if estimate["peak_device_bytes"] < _ZOOM_BELOW * limit:
        return max(1.0, estimate["peak_device_bytes"] * 1.25)
    return float(max(1.0, limit, peak) * 1.04)


def _phases(content: PanelContent, language: str) -> str:
    scale = _scale(content)
    measured = {phase["name"]: phase for phase in (content.measurement or {}).get("phases", ())}
    draw = _host_phase if content.of_host else _phase
    rows = "".join(
        draw(phase, measured.get(phase["name"]), content, scale, language)
        for phase in content.estimate["phases"]
    )
    return f'<div class="vs-phases">{rows}</div>'


def _phase(
    phase: Mapping[str, Any],
    measured: Mapping[str, Any] | None,
    content: PanelContent,
    scale: float,
    language: str,
) -> str:
    estimate = content.estimate
    context = estimate.get("context_bytes", 0)
    beyond = max(0, phase["reserved_bytes"] - phase["allocated_bytes"])
    total = context + max(phase["reserved_bytes"], phase["allocated_bytes"])
    name = title_of(phase["name"])
    parts = [
        ("context", context),
        ("resident", phase["resident_bytes"]),
        ("activation", phase["activation_bytes"]),
        ("reserved", beyond),
        ("margin", estimate["margin_bytes"] if scale >= estimate["limit_bytes"] else 0),
    ]
    spoken = _say(
        words.BAR,
        language,
        phase=name.in_language(language),
        total=format_bytes(total),
        resident=format_bytes(phase["resident_bytes"]),
        activation=format_bytes(phase["activation_bytes"]),
    )
    bars = _bar(parts, scale, estimate["limit_bytes"], spoken)
    text = f"{format_bytes(total)} · {seconds_text(phase['seconds'], language)}"
    if measured is not None:
        bars += _measured(phase, measured, context, scale, estimate["limit_bytes"], language)
    return _row(phase["name"], text, bars, language)


def _host_phase(
    phase: Mapping[str, Any],
    measured: Mapping[str, Any] | None,
    content: PanelContent,
    scale: float,
    language: str,
) -> str:
    """A phase of an engine without tensors: the process's memory, which no phase has alone."""
    estimated, limit = content.estimate["host_bytes"], content.estimate["limit_bytes"]
    size = _say(words.OF_HOST_MEMORY, language, size=format_bytes(estimated))
    text = f"{size} · {seconds_text(phase['seconds'], language)}"
    bars = _bar([("resident", estimated)], scale, limit, text)
    if measured is not None and content.measurement is not None:
        real = content.measurement["host_bytes"]
        told = (
            f"{_say(words.MEASURED, language)} {format_bytes(real)} "
            f"({format_error(real, estimated)}) · {_took(phase, measured, language)}"
        )
        bars += _bar([("measured", real)], scale, limit, told)
        bars += f'<div class="vs-measured-text">{told}</div>'
    return _row(phase["name"], text, bars, language)


def _row(name: str, text: str, bars: str, language: str) -> str:
    return (
        f'<div class="vs-phase" data-phase="{escape(name)}">'
        f'<div class="vs-phase-head"><span>{_say(title_of(name), language)}</span>'
        f'<span class="vs-figure">{text}</span></div>{bars}</div>'
    )


def _took(phase: Mapping[str, Any], measured: Mapping[str, Any], language: str) -> str:
    """The measured seconds, with their error where that is no noise."""
    took = seconds_text(measured["seconds"], language)
    if max(measured["seconds"], phase["seconds"]) < _COMPARED_S:
        return took
    return f"{took} ({format_error(measured['seconds'], phase['seconds'])})"


def _measured(
    phase: Mapping[str, Any],
    measured: Mapping[str, Any],
    context: int,
    scale: float,
    limit: int,
    language: str,
) -> str:
    # A processor has no reserved figure; then allocated is compared with allocated.
    reserved = bool(measured["reserved_bytes"])
    key = "reserved_bytes" if reserved else "allocated_bytes"
    estimated = max(phase["reserved_bytes"], phase["allocated_bytes"]) if reserved else phase[key]
    total = measured[key] + (context if reserved else 0)
    parts = [
        ("context", context if reserved else 0),
        ("measured", measured["allocated_bytes"]),
        ("measured-reserved", max(0, measured[key] - measured["allocated_bytes"])),
    ]
    error = format_error(measured[key], estimated)
    off = f" ({error})" if error else ""
    text = (
        f"{_say(words.MEASURED, language)} {format_bytes(total)}{off} · "
        f"{_took(phase, measured, language)}"
    )
    return _bar(parts, scale, limit, text) + f'<div class="vs-measured-text">{text}</div>'


def _bar(parts: Sequence[tuple[str, int]], scale: float, limit: int, spoken: str) -> str:
    pieces = "".join(
        f'<b class="vs-{kind}" style="width:{100 * size / scale:.2f}%"></b>'
        for kind, size in parts
        if size > 0
    )
    line = (
        f'<s class="vs-limit" style="left:{100 * limit / scale:.2f}%"></s>'
        if limit <= scale
        else ""
    )
    return f'<div class="vs-bar" role="img" aria-label="{spoken}">{pieces}{line}</div>'


def _legend(content: PanelContent, language: str) -> str:
    estimate = content.estimate
    zoomed = _scale(content) < estimate["limit_bytes"]
    phases = estimate["phases"]
    kinds = [("resident", words.RESIDENT), ("activation", words.ACTIVATION)]
    if content.of_host:
        kinds = [("resident", words.HOST_MEMORY)]
    if any(phase["reserved_bytes"] > phase["allocated_bytes"] for phase in phases):
        kinds.append(("reserved", words.RESERVED_BEYOND))
    if estimate.get("context_bytes"):
        kinds.insert(0, ("context", words.CONTEXT))
    if not zoomed and estimate["margin_bytes"]:
        kinds.append(("margin", words.MARGIN))
    if content.measurement:
        kinds.append(("measured", words.MEASURED))
    entries = "".join(
        f'<span><b class="vs-{kind}" aria-hidden="true"></b>{_say(text, language)}</span>'
        for kind, text in kinds
    )
    limit = _say(words.LIMIT_IS, language, size=format_bytes(estimate["limit_bytes"]))
    mark = '<b class="vs-limit-key" aria-hidden="true"></b>' if not zoomed else ""
    beyond = " →" if zoomed else ""
    return f'<div class="vs-legend">{entries}<span>{mark}{limit}{beyond}</span></div>'


def _sentences(title: Text, sentences: Sequence[Text], language: str) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{_say(sentence, language)}</li>" for sentence in sentences)
    return f'<div class="vs-why"><h4>{_say(title, language)}</h4><ul>{items}</ul></div>'


def _offers(offers: Sequence[Alternative], language: str, title: Text = words.OFFERS) -> str:
    if not offers:
        return ""
    apply = _say(words.APPLY, language)
    buttons = "".join(
        '<button type="button" class="vs-offer" data-action="apply" '
        f'data-changes="{escape(json.dumps(offer.changes))}">'
        f"<span>{_say(offer.text, language)}</span><b>{apply}</b></button>"
        if offer.changes
        else f'<p class="vs-fine">{_say(offer.text, language)}</p>'
        for offer in offers
    )
    return f'<div class="vs-offers"><h4>{_say(title, language)}</h4>{buttons}</div>'


def _limits(content: PanelContent, language: str) -> str:
    if content.limits is None:
        return ""
    if content.limits:
        return _offers(content.limits, language, words.LIMITS)
    return (
        '<div class="vs-offers"><button type="button" class="vs-offer" data-action="limits">'
        f"<span>{_say(words.LIMITS, language)}</span><b>{_say(words.ASK_LIMITS, language)}</b>"
        "</button></div>"
    )


def _host(content: PanelContent, language: str) -> str:
    host = content.estimate.get("host_bytes")
    if not host or content.processor:
        return ""
    return f'<p class="vs-fine">{_say(words.HOST_MEMORY, language)}: {format_bytes(host)}</p>'
