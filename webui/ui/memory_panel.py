"""The memory panel: what a plan takes of a card, why it is set so, and what else there is.

It draws the contract's form of a plan (`Plan.to_json()`), so that a plan of now and the plan in a
receipt look the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from webui.core.errors import StudioError
from webui.core.plan import Alternative, Plan
from webui.core.receipt import Receipt
from webui.core.text import Text
from webui.core.units import format_bytes
from webui.ui.language import say
from webui.ui.phase_bars import (
    PanelContent,
    render_legend,
    render_phases,
    seconds_text,
)
from webui.ui.words import common as words


def content_of_plan(
    plan: Plan, card_title: str, processor: bool, receipt: Receipt | None = None
) -> PanelContent:
    """The panel for a plan of now, or for a run of the same request once there is one.

    The run stands beside what was told before it: the plan of now has learned from it.
    """
    if receipt is not None and receipt.measurement is not None and receipt.plan:
        return content_of_receipt(receipt, card_title, plan)
    return PanelContent(
        estimate=plan.to_json(),
        processor=processor,
        card_title=card_title,
        reasons=[reason for reason in plan.reasons if reason not in plan.estimate.notes],
        notes=plan.estimate.notes,
        offers=plan.alternatives,
    )


def content_of_receipt(receipt: Receipt, card_title: str, plan_now: Plan | None) -> PanelContent:
    """The panel for a run of the past.

    Args:
        receipt: of the run.
        card_title: of its card.
        plan_now: a plan of today for the same request. A receipt keeps its reasons in English
            only; when today's plan chose the same, its reasons are the same in every language.
    """
    plan = receipt.plan
    if plan_now is not None and dict(plan_now.settings) == plan.get("settings"):
        reasons = [each for each in plan_now.reasons if each not in plan_now.estimate.notes]
    else:
        notes = plan.get("notes", ())
        reasons = [Text(each, each) for each in plan.get("reasons", ()) if each not in notes]
    return PanelContent(
        estimate=plan,
        processor=not plan.get("context_bytes"),
        card_title=card_title,
        measurement=receipt.measurement.to_json() if receipt.measurement else None,
        reasons=reasons,
    )


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
        f'<section class="vs-panel" aria-label="{say(words.MEMORY, language)}">'
        + _summary(content, language)
        + '<div class="vs-body">'
        + _offers(content.offers, language)
        + render_phases(content, language)
        + render_legend(content, language)
        + _limits(content, language)
        + _sentences(words.WHY, content.reasons, language)
        + _sentences(words.ASSUMPTIONS, content.notes, language)
        + _host(content, language)
        + "</div></section>"
    )


def _time(estimate: Mapping[str, Any], language: str) -> str:
    low, high = estimate.get("seconds_range") or (estimate["seconds"], estimate["seconds"])
    if high - low > 0.02 * max(high, 1e-9):
        return say(
            words.BETWEEN_SECONDS,
            language,
            low=seconds_text(low, language),
            high=seconds_text(high, language),
        )
    return say(words.ABOUT_SECONDS, language, time=seconds_text(estimate["seconds"], language))


def _summary(content: PanelContent, language: str) -> str:
    estimate = content.estimate
    fits = bool(estimate["fits"])
    used, limit = estimate["peak_device_bytes"], estimate["limit_bytes"]
    counted = words.PEAK_ON_HOST if content.processor else words.PEAK_ON_CARD
    if content.of_host:
        used, counted = estimate["host_bytes"], words.HOST_MEMORY
    share = min(100.0, 100 * used / limit) if limit else 100.0
    sizes = say(
        words.OF,
        language,
        used=format_bytes(used),
        limit=format_bytes(limit),
    )
    state = "vs-fits" if fits else "vs-over"
    verdict = say(words.FITS if fits else words.DOES_NOT_FIT, language)
    load = estimate.get("load_seconds") or 0
    return (
        f'<button type="button" class="vs-summary {state}" data-panel-toggle '
        f'title="{say(words.SHOW_DETAILS, language)}">'
        f'<span class="vs-verdict"><i aria-hidden="true">{"✓" if fits else "✕"}</i> {verdict}'
        f"</span>"
        f'<span class="vs-sizes">{sizes}</span>'
        f'<span class="vs-time">{_time(estimate, language)}</span>'
        f'<span class="vs-gauge" aria-hidden="true"><b style="width:{share:.1f}%"></b></span>'
        '<span class="vs-chevron" aria-hidden="true">⌃</span>'
        "</button>"
        f'<p class="vs-fine"><b>{escape(content.card_title)}</b> · {say(counted, language)}'
        + (
            " · " + say(words.PLUS_LOADING, language, time=seconds_text(load, language))
            if load >= 0.1
            else ""
        )
        + "</p>"
    )


def _sentences(title: Text, sentences: Sequence[Text], language: str) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{say(sentence, language)}</li>" for sentence in sentences)
    return f'<div class="vs-why"><h4>{say(title, language)}</h4><ul>{items}</ul></div>'


def _offers(offers: Sequence[Alternative], language: str, title: Text = words.OFFERS) -> str:
    if not offers:
        return ""
    apply = say(words.APPLY, language)
    buttons = "".join(
        '<button type="button" class="vs-offer" data-action="apply" '
        f'data-changes="{escape(json.dumps(offer.changes))}">'
        f"<span>{say(offer.text, language)}</span><b>{apply}</b></button>"
        if offer.changes
        else f'<p class="vs-fine">{say(offer.text, language)}</p>'
        for offer in offers
    )
    return f'<div class="vs-offers"><h4>{say(title, language)}</h4>{buttons}</div>'


def _limits(content: PanelContent, language: str) -> str:
    if content.limits is None:
        return ""
    if content.limits:
        return _offers(content.limits, language, words.LIMITS)
    return (
        '<div class="vs-offers"><button type="button" class="vs-offer" data-action="limits">'
        f"<span>{say(words.LIMITS, language)}</span>"
        f"<b>{say(words.ASK_LIMITS, language)}</b>"
        "</button></div>"
    )


def _host(content: PanelContent, language: str) -> str:
    host = content.estimate.get("host_bytes")
    if not host or content.processor:
        return ""
    return f'<p class="vs-fine">{say(words.HOST_MEMORY, language)}: {format_bytes(host)}</p>'
