"""The dashboard's receipts: a scatter of estimated against measured, and the errors as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log2, log10
from urllib.parse import urlencode

from webui.core.phases import title_of
from webui.core.text import Text
from webui.core.units import GIB, KIB, MIB, format_bytes
from webui.service.receipt_rows import ReceiptRow, summarised
from webui.ui.language import say
from webui.ui.phase_bars import format_error, seconds_text
from webui.ui.plots import Dot, render_scatter
from webui.ui.results import button
from webui.ui.tables import render_table
from webui.ui.words import common
from webui.ui.words import dashboard as words

CSV_ROUTE = "studio/receipts.csv"
NEWEST = 60
_MOST_TICKS = 7
_GROUPS = (("encode", "image_encode", "vision", "prefill"), ("denoise",), ("decode", "generate"))
"""Phases that share a colour, by how their names begin; the fourth is for the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which receipts are shown, and what of them."""

    source: str = "own"
    quantity: str = "allocated"
    model: str = ""
    """Empty: all of them."""


def csv_address(choice: Choice) -> str:
    """Where the page finds the same rows as a file, relative to the page."""
    query = {"source": choice.source} | ({"model": choice.model} if choice.model else {})
    return f"{CSV_ROUTE}?{urlencode(query)}"


def of_model(rows: Iterable[ReceiptRow], model: str) -> list[ReceiptRow]:
    """Those of one model; of all where none is named."""
    return [row for row in rows if model in ("", row.model)]


def render_receipts(rows: Sequence[ReceiptRow], choice: Choice, language: str) -> str:
    """The choices, the scatter and the tables."""
    models = sorted({row.model for row in rows})
    choice = Choice(
        source=choice.source,
        quantity=choice.quantity,
        model=choice.model if choice.model in models else "",
    )
    shown = of_model(rows, choice.model)
    return (
        f'<h3 class="vs-title">{say(words.RECEIPTS, language)}</h3>'
        + _choices(choice, models, language)
        + (
            _figures(shown, choice, language)
            if shown
            else f'<p class="vs-empty vs-low">{say(words.NO_RECEIPTS, language)}</p>'
        )
        + '<div class="vs-actions">'
        + (
            f'<a class="vs-button" href="{escape(csv_address(choice))}" download>'
            f"{say(words.SAVE_CSV, language)}</a>"
            if shown
            else ""
        )
        + button("cards", words.CARDS, language)
        + "</div>"
    )


def _choices(choice: Choice, models: Sequence[str], language: str) -> str:
    rows = _chips("source", words.SOURCE, words.SOURCES, choice.source, language)
    rows += _chips("quantity", words.QUANTITY, words.QUANTITIES, choice.quantity, language)
    if len(models) > 1:
        named = {"": words.EVERY_MODEL, **{model: Text(model, model) for model in models}}
        rows += _chips("model", words.MODEL, named, choice.model, language)
    return rows


def _chips(name: str, title: Text, values: Mapping[str, Text], chosen: str, language: str) -> str:
    buttons = "".join(
        chip(name, value, text, value == chosen, language) for value, text in values.items()
    )
    return f'<div class="vs-chips"><span>{say(title, language)}</span>{buttons}</div>'


def chip(name: str, value: str, text: Text, chosen: bool, language: str) -> str:
    """One of several values; `CLICKS` turns it into an event."""
    return (
        f'<button type="button" class="vs-button vs-chip" aria-pressed="{str(chosen).lower()}" '
        f'data-action="{name}" data-value="{escape(value)}">{say(text, language)}</button>'
    )


def _figures(rows: Sequence[ReceiptRow], choice: Choice, language: str) -> str:
    known = [row for row in rows if row.pair(choice.quantity) is not None]
    if not known:
        return f'<p class="vs-empty vs-low">{say(words.NO_FIGURES, language)}</p>'
    newest = render_table(
        words.ROW_HEADS, (_row(row, choice.quantity, language) for row in known[:NEWEST]), language
    )
    return (
        f'<div class="vs-receipts">{_scatter(known, choice.quantity, language)}'
        '<div class="vs-errors">'
        + render_table(
            words.ERROR_HEADS,
            (
                (
                    f"<code>{escape(line.model)}</code>",
                    say(title_of(line.phase), language),
                    str(line.runs),
                    f"{100 * line.mean:.1f} %",
                    f"{100 * line.worst:+.1f} %",
                )
                for line in summarised(known, choice.quantity)
            ),
            language,
        )
        + f"<details><summary>{say(words.NEWEST, language)}</summary>{newest}</details></div></div>"
    )


def _row(row: ReceiptRow, quantity: str, language: str) -> tuple[str, ...]:
    pair = row.pair(quantity)
    assert pair is not None
    estimated, measured = pair
    return (
        escape(row.run),
        f"<code>{escape(row.model)}</code>",
        say(title_of(row.phase), language),
        _figure(estimated, quantity, language),
        _figure(measured, quantity, language),
        format_error(measured, estimated),
        escape(row.device),
    )


def _scatter(rows: Sequence[ReceiptRow], quantity: str, language: str) -> str:
    dots = []
    for row in rows:
        pair = row.pair(quantity)
        assert pair is not None
        estimated, measured = pair
        text = words.DOT.in_language(language).format(
            model=row.model,
            phase=title_of(row.phase).in_language(language),
            estimated=_figure(estimated, quantity, language),
            measured=_figure(measured, quantity, language),
            error=format_error(measured, estimated),
        )
        dots.append(Dot(x=estimated, y=measured, kind=_kind(row.phase), text=text))
    low, high, ticks = _axis([dot.x for dot in dots] + [dot.y for dot in dots], quantity)
    spoken = words.SCATTER.in_language(language).format(count=len(dots))
    plot = render_scatter(
        dots,
        spoken=spoken,
        ticks=[(tick, _round_figure(tick, quantity, language)) for tick in ticks],
        low=low,
        high=high,
        x_title=words.ESTIMATED_AXIS.in_language(language),
        y_title=words.MEASURED_AXIS.in_language(language),
    )
    kinds: dict[str, list[str]] = {}
    for phase in dict.fromkeys(row.phase for row in rows):
        kinds.setdefault(_kind(phase), []).append(say(title_of(phase), language))
    legend = "".join(
        f'<span><b class="{kind}" aria-hidden="true"></b>{" · ".join(titles)}</span>'
        for kind, titles in sorted(kinds.items())
    )
    return (
        f'<div><p class="vs-fine">{escape(spoken)}</p>{plot}'
        f'<div class="vs-legend vs-dots">{legend}</div></div>'
    )


def _kind(phase: str) -> str:
    for place, names in enumerate(_GROUPS):
        if phase.startswith(names):
            return f"vs-dot-{place}"
    return f"vs-dot-{len(_GROUPS)}"


def _axis(values: Sequence[float], quantity: str) -> tuple[float, float, list[float]]:
    """The least, the most, and round figures between: powers of 2 for bytes, of 10 for time."""
    base, log = (10.0, log10) if quantity == "seconds" else (2.0, log2)
    low, high = floor(log(min(values))), ceil(log(max(values)))
    high = max(high, low + 1)
    step = max(1, ceil((high - low) / (_MOST_TICKS - 1)))
    return base**low, base**high, [base**power for power in range(low, high + 1, step)]


def _figure(value: float, quantity: str, language: str) -> str:
    return seconds_text(value, language) if quantity == "seconds" else format_bytes(value)


def _round_figure(value: float, quantity: str, language: str) -> str:
    """A power of 2 or 10: without the digits that say nothing."""
    if quantity == "seconds":
        return say(common.SECONDS, language, figure=f"{value:g}")
    unit, name = next(
        (
            (unit, name)
            for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))
            if value >= unit
        ),
        (1, "B"),
    )
    return f"{value / unit:g} {name}"
