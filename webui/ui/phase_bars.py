"""A bar for each phase against the card's limit, estimated and measured.

Every figure also stands there as text; colour never carries it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from webui.core.phases import title_of
from webui.core.plan import Alternative
from webui.core.text import Text
from webui.core.units import format_bytes, format_seconds
from webui.ui.language import say
from webui.ui.words import common as words

_ZOOM_BELOW = 0.3
"""When the peak is below this share of the limit, the bars are drawn on a scale of their own."""
_COMPARED_S = 1.0
"""Times below this are shown without their error: it would be noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelContent:
    """What the panel shows."""

    estimate: Mapping[str, Any]
    """`Plan.to_json()`."""
    processor: bool
    """The figures are live tensor bytes in host memory."""
    card_title: str
    measurement: Mapping[str, Any] | None = None
    """`Measurement.to_json()`, once there is one."""
    reasons: Sequence[Text] = ()
    notes: Sequence[Text] = ()
    offers: Sequence[Alternative] = field(default_factory=tuple)
    limits: Sequence[Alternative] | None = None
    """How far the card goes: empty until it is asked for, None where it cannot be asked."""

    @property
    def of_host(self) -> bool:
        """The engine keeps no tensors: its memory is that of the whole process."""
        return self.processor and not self.estimate["peak_device_bytes"]


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
    return say(words.SECONDS, language, figure=figure)


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


def render_phases(content: PanelContent, language: str) -> str:
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
    spoken = say(
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
    size = say(words.OF_HOST_MEMORY, language, size=format_bytes(estimated))
    text = f"{size} · {seconds_text(phase['seconds'], language)}"
    bars = _bar([("resident", estimated)], scale, limit, text)
    if measured is not None and content.measurement is not None:
        real = content.measurement["host_bytes"]
        told = (
            f"{say(words.MEASURED, language)} {format_bytes(real)} "
            f"({format_error(real, estimated)}) · {_took(phase, measured, language)}"
        )
        bars += _bar([("measured", real)], scale, limit, told)
        bars += f'<div class="vs-measured-text">{told}</div>'
    return _row(phase["name"], text, bars, language)


def _row(name: str, text: str, bars: str, language: str) -> str:
    return (
        f'<div class="vs-phase" data-phase="{escape(name)}">'
        f'<div class="vs-phase-head"><span>{say(title_of(name), language)}</span>'
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
        f"{say(words.MEASURED, language)} {format_bytes(total)}{off} · "
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


def render_legend(content: PanelContent, language: str) -> str:
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
        f'<span><b class="vs-{kind}" aria-hidden="true"></b>{say(text, language)}</span>'
        for kind, text in kinds
    )
    limit = say(words.LIMIT_IS, language, size=format_bytes(estimate["limit_bytes"]))
    mark = '<b class="vs-limit-key" aria-hidden="true"></b>' if not zoomed else ""
    beyond = " →" if zoomed else ""
    return f'<div class="vs-legend">{entries}<span>{mark}{limit}{beyond}</span></div>'
