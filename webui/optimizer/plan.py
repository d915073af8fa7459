"""Makes the plan: searches the open settings, and gives reasons or alternatives."""

from __future__ import annotations

from collections.abc import Callable

from webui.core.card import Card
from webui.core.model import ModelCard
from webui.core.plan import Choice, Plan
from webui.core.request import Request
from webui.core.settings import with_defaults
from webui.core.text import Text
from webui.estimator.estimate import estimate
from webui.estimator.target import Target
from webui.optimizer.alternatives import find_alternatives
from webui.optimizer.candidates import own_defaults
from webui.optimizer.faster import find_faster
from webui.optimizer.reasons import choice_of, does_not_fit, explain, find_savings
from webui.optimizer.search import find_best, find_leanest


def make_estimate(model: ModelCard, request: Request, target: Target) -> Plan:
    """The request's own settings with `estimate`'s defaults for the open ones; no search."""
    settings = with_defaults(request.settings, model.settings, own_defaults(model, request, target))
    found = estimate(model, request, settings, target)
    choices = {
        name: Choice(
            value=value,
            by_user=name in request.settings,
            why=Text("Default of estimate.", "estimate 的默认值。"),
        )
        for name, value in settings.items()
    }
    reasons = () if found.fits else (does_not_fit(model, request, found, target),)
    return Plan(request=request, estimate=found, choices=choices, reasons=reasons)


def make_plan(
    model: ModelCard,
    request: Request,
    target: Target,
    cards: Callable[[], tuple[tuple[Card, Target], ...]] = tuple,
    open_request: Request | None = None,
) -> Plan:
    """The best settings for what the user left open, or the nearest where nothing fits.

    Alternatives are what would fit, or, where the plan does, what would be much faster.

    Args:
        model: the request's model.
        request: fixed settings and workload.
        target: the device.
        cards: other cards to name when nothing fits, smallest first.
        open_request: with `max_pixels` as it was asked for, where that was left open.
    """
    best = find_best(model, request, target)
    found = best or find_leanest(model, request, target)
    savings = find_savings(model, request, found, target)
    reasons = explain(model, request, found, target, savings)
    return Plan(
        request=request,
        estimate=found,
        choices=choice_of(model, request, found, target, savings),
        reasons=reasons if best else (does_not_fit(model, request, found, target), *reasons),
        alternatives=find_faster(model, request, target, found, open_request or request)
        if best
        else find_alternatives(model, request, target, found, cards),
    )
