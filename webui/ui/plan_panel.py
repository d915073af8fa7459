"""The memory panel of a plan of now, and on a button how far its card goes.

The button's answers take seconds (three searches), so a moving slider does not wait for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from webui.core.errors import StudioError
from webui.core.plan import Alternative, Plan
from webui.core.receipt import Receipt
from webui.core.request import Request
from webui.optimizer.inverse import Answer
from webui.ui.memory_panel import content_of_plan, render_panel
from webui.ui.page import Page, Visit
from webui.ui.phase_bars import PanelContent


def plan_panel(
    page: Page, plan: Plan, visit: Visit, receipt: Receipt | None, limits: bool = True
) -> str:
    """The panel as HTML, with the measurement of a run of the same request.

    Args:
        page: the studio.
        plan: of now.
        visit: who asks.
        receipt: of a run of the same request, or None.
        limits: with the button that asks how far the card goes.
    """
    content = _content(page, plan, receipt)
    return render_panel(content if limits else replace(content, limits=None), visit.language)


def receipt_for(
    page: Page, plan: Plan, visit: Visit, run_id: Any, same_work: tuple[str, ...]
) -> Receipt | None:
    """The receipt of a shown run, when it measured all of what is planned now.

    Args:
        page: the studio.
        plan: of now.
        visit: who asks.
        run_id: of the shown run; empty where none is.
        same_work: the request's keys that decide memory and time.
    """
    if not run_id:
        return None
    try:
        run = page.studio.run(str(run_id), visit.visitor)
    except StudioError:
        return None
    now = plan.request.to_json()
    same = all(run.request.get(key) == now.get(key) for key in same_work)
    work = run.receipt.work if run.receipt else None
    return run.receipt if same and not (work and work.in_part) else None


def as_it_is(offer: Alternative) -> Alternative:
    """An answer that can be applied."""
    return offer


def limits_panel(
    page: Page,
    request: Request,
    visit: Visit,
    offered: Callable[[Alternative], Alternative] = as_it_is,
) -> str:
    """The panel of a request's plan with how far its card goes.

    Args:
        page: the studio.
        request: what is planned.
        visit: who asks.
        offered: an answer as it can be applied there.

    Raises:
        StudioError: it cannot be asked.
    """
    studio = page.studio
    plan = studio.plan(request, visit.owner)
    limits = [
        offered(Alternative(text=answer.text, changes=_changes(answer) if answer.found else {}))
        for answer in studio.questions.limits(request, visit.owner, visit.visitor)
    ]
    return render_panel(replace(_content(page, plan, None), limits=limits), visit.language)


def _content(page: Page, plan: Plan, receipt: Receipt | None) -> PanelContent:
    card = page.card(plan.estimate.card)
    content = content_of_plan(plan, card.title, card.kind == "cpu", receipt)
    return replace(content, limits=())


def _changes(answer: Answer) -> dict[str, object]:
    return answer.changes | ({"vram_gib": None} if answer.question == "card" else {})
