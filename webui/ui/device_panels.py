"""The dashboard's panels of the cards and of the host: now, and over the last minutes or hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from webui.core.units import format_bytes, format_seconds
from webui.hardware import DeviceReading
from webui.hardware.readings import ProcessReading
from webui.service.history import (
    HOST_USED,
    HOST_UTILISATION,
    POWER,
    TEMPERATURE,
    USED,
    UTILISATION,
    Samples,
    Series,
)
from webui.service.monitor import Snapshot
from webui.ui.language import say
from webui.ui.plots import Line, hover_places, render_plot
from webui.ui.words import dashboard as words

SPANS_S = {"5m": 300, "1h": 3600, "8h": 8 * 3600}
POINTS = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesContent:
    """What the panels show."""

    snapshot: Snapshot
    series: Series
    span: str
    """A key of `SPANS_S`."""
    warn_share: float
    owner: bool
    """Whether the names of programs, and the disk, may be shown."""
    kept: bool
    """Whether readings are being kept."""
    worker_pid: int | None


def render_devices(content: DevicesContent, language: str) -> str:
    """One panel for each card, and one for the host; without a card it says so."""
    devices = content.snapshot.devices
    notes = [] if devices else [words.NO_GPU]
    notes += [] if content.kept else [words.NOT_KEPT]
    said = "".join(f'<p class="vs-fine">{say(note, language)}</p>' for note in notes)
    # Other cards than the history's may have been read just now.
    same = content.series.devices.shape[1] == len(devices)
    nothing = np.full((len(content.series.devices), 4), np.nan, np.float32)
    panels = "".join(
        _device(device, content.series.devices[:, place] if same else nothing, content, language)
        for place, device in enumerate(devices)
    )
    return f'{said}<div class="vs-devices">{panels}{_host(content, language)}</div>'


def _device(device: DeviceReading, samples: Samples, content: DevicesContent, language: str) -> str:
    facts = [say(words.FREE, language, size=format_bytes(device.free_bytes))]
    if device.utilisation is not None:
        facts.append(say(words.BUSY, language, share=_percent(device.utilisation)))
    if device.temperature_c is not None:
        facts.append(f"{device.temperature_c:.0f} °C")
    if device.power_w is not None:
        limit = device.power_limit_w
        text = words.POWER if limit else words.POWER_ALONE
        facts.append(say(text, language, watts=f"{device.power_w:.0f}", limit=f"{limit or 0:.0f}"))
    return _panel(
        f"{say(words.GPU, language, index=device.index)} · {escape(device.name)}",
        device.used_bytes,
        device.total_bytes,
        facts,
        _plot(
            samples[:, USED], samples[:, UTILISATION], device.total_bytes, device.used_bytes,
            content, language, samples[:, (TEMPERATURE, POWER)],
        ),
        _processes(device.processes, content.worker_pid, language) if content.owner else "",
        content.warn_share,
        str(device.index),
        language,
    )  # fmt: skip


def _host(content: DevicesContent, language: str) -> str:
    host, disk = content.snapshot.host, content.snapshot.disk
    used = host.memory_bytes - host.available_bytes
    facts = [
        say(words.FREE, language, size=format_bytes(host.available_bytes)),
        say(words.PROCESSOR_BUSY, language, share=_percent(host.utilisation)),
    ]
    if content.owner and disk.total_bytes:
        facts.append(
            say(
                words.DISK,
                language,
                free=format_bytes(disk.free_bytes),
                total=format_bytes(disk.total_bytes),
            )
        )
    samples = content.series.host
    return _panel(
        f"{say(words.HOST, language)} · {say(words.HOST_MEMORY, language)}",
        used,
        host.memory_bytes,
        facts,
        _plot(
            samples[:, HOST_USED], samples[:, HOST_UTILISATION], host.memory_bytes, used,
            content, language,
        ),
        "",
        content.warn_share,
        "host",
        language,
    )  # fmt: skip


def _panel(
    title: str,
    used: int,
    total: int,
    facts: Sequence[str],
    plot: str,
    below: str,
    warn_share: float,
    name: str,
    language: str,
) -> str:
    share = used / total if total else 0.0
    state = "vs-over" if share >= warn_share else "vs-fits"
    threshold = say(words.THRESHOLD, language, share=_percent(warn_share))
    return (
        f'<section class="vs-panel {state}" data-device="{escape(name)}">'
        f'<div class="vs-phase-head"><span>{title}</span>'
        f'<span class="vs-figure">{format_bytes(used)} / {format_bytes(total)} · '
        f"{_percent(share)}</span></div>"
        f'<div class="vs-bar" aria-hidden="true" title="{threshold}">'
        f'<b class="vs-used" style="width:{100 * min(1.0, share):.1f}%"></b>'
        f'<s class="vs-limit" style="left:{100 * warn_share:.1f}%"></s></div>'
        f'<p class="vs-fine">{" · ".join(facts)}</p>{plot}{below}</section>'
    )


def _plot(
    used: Samples,
    busy: Samples,
    total: int,
    used_now: int,
    content: DevicesContent,
    language: str,
    heat: Samples | None = None,
) -> str:
    """Memory and utilisation over the span.

    Args:
        used: bytes.
        busy: 0 to 1.
        total: bytes at full height.
        used_now: bytes, as read last.
        content: the span and the threshold.
        language: of the words.
        heat: degrees Celsius and watts, told where the plot is pointed at.
    """
    span_s = SPANS_S[content.span]
    span = words.SPANS[content.span].in_language(language)
    count = len(used)
    share = used / np.float32(max(1, total))
    hovers = []
    for place in hover_places(count):
        if np.isnan(used[place]):
            hovers.append("")
            continue
        ago = format_seconds(round(span_s * (1 - (place + 1) / count)), language)
        hovers.append(
            words.POINT.in_language(language).format(
                when=words.AGO.in_language(language).format(time=ago),
                used=format_bytes(float(used[place])),
                share=_percent(float(share[place])),
                busy="–" if np.isnan(busy[place]) else _percent(float(busy[place])),
            )
            + ("" if heat is None else _heat(*heat[place].tolist()))
        )
    most = float(np.fmax.reduce(used, initial=used_now))
    return render_plot(
        [
            Line(kind="vs-line-memory", values=share, filled=True),
            Line(kind="vs-line-busy", values=busy),
        ],
        spoken=words.PLOT.in_language(language).format(
            span=span, used=format_bytes(used_now), most=format_bytes(most)
        ),
        top=f"{format_bytes(total)} · 100 %",
        left=words.AGO.in_language(language).format(time=span),
        right=words.NOW.in_language(language),
        hovers=hovers,
        mark=content.warn_share,
    )


def _processes(processes: Sequence[ProcessReading], worker_pid: int | None, language: str) -> str:
    if not processes:
        return f'<p class="vs-fine">{say(words.NO_PROCESSES, language)}</p>'
    rows = "".join(
        f"<li>{_process(process, worker_pid, language)}</li>"
        for process in sorted(processes, key=lambda process: -(process.used_bytes or 0))
    )
    return f'<div class="vs-why"><h4>{say(words.PROCESSES, language)}</h4><ul>{rows}</ul></div>'


def _process(process: ProcessReading, worker_pid: int | None, language: str) -> str:
    size = f" · {format_bytes(process.used_bytes)}" if process.used_bytes else ""
    if process.pid == worker_pid:
        name = say(words.OUR_WORKER, language)
    elif process.name:
        name = escape(process.name)
    else:
        return say(words.UNNAMED, language, pid=process.pid) + size
    return f"{name} ({process.pid}){size}"


def _heat(temperature_c: float, power_w: float) -> str:
    told = "" if np.isnan(temperature_c) else f", {temperature_c:.0f} °C"
    return told if np.isnan(power_w) else f"{told}, {power_w:.0f} W"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
