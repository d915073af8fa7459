"""What a job does after it ran out of memory: what the attempt teaches, and the plan for the next.

The smallest step down from what was tried, lossless means first, within what the user left open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from webui.catalogue import find_model
from webui.core.errors import OutOfMemory, StudioError
from webui.core.plan import Plan
from webui.core.receipt import Attempt, Measurement, Shortage
from webui.core.request import Request
from webui.core.text import Text
from webui.estimator.case import Case
from webui.estimator.target import Target
from webui.optimizer.step_down import (
    Tried,
    blamed_phase,
    narrowed,
    short_bytes,
    what_changes,
    what_happened,
)
from webui.service.planner import Planner


def attempt_of(
    planner: Planner,
    request: Request,
    plan: Plan,
    ended: Mapping[str, Any],
    error: StudioError | None,
) -> Attempt | None:
    """The record of a run that ran out of memory; None for any other end.

    Args:
        planner: knows the device.
        request: the job's.
        plan: what was run.
        ended: the worker's last event.
        error: what ended the run.
    """
    told = ended.get("shortage")
    if not isinstance(error, OutOfMemory) or told is None:
        return None
    shortage = Shortage.from_json(told)
    measured = ended.get("measurement")
    target = _as_it_was(planner.target(request, calibrated=False), shortage)
    case = Case(find_model(request.model, request.task), request, plan.settings, target)
    phase = blamed_phase(case, shortage.phase)
    return Attempt(
        settings=dict(plan.settings),
        error=error.to_json(),
        shortage=shortage,
        measurement=Measurement.from_json(measured) if measured else None,
        phase=phase,
        estimated_bytes=case.peak_bytes(phase),
        short_bytes=0 if shortage.on_host else short_bytes(case, shortage),
    )


def plan_again(planner: Planner, request: Request, attempts: Sequence[Attempt]) -> Plan:
    """The next plan after attempts that ran out of memory; one that does not fit where there is
    nothing left to try.

    What is free on the card is read again, and of what the last attempt met the worse counts. With
    `auto_optimize: false` too what the user left open is searched: its defaults have failed.

    Args:
        planner: knows the device.
        request: the job's; what it fixes stays fixed.
        attempts: in order, one at least.
    """
    model = find_model(request.model, request.task)
    tried = [
        Tried(settings=one.settings, phase=one.phase, short_bytes=one.short_bytes)
        for one in attempts
    ]
    seen: list[Target] = []

    def narrow(target: Target) -> Target:
        seen.append(_as_it_was(target, attempts[-1].shortage))
        return narrowed(model, request, seen[-1], tried)

    plan = planner.plan(request, narrow=narrow, search=True)
    last = attempts[-1]
    happened = what_happened(
        len(attempts), last.shortage, last.estimated_bytes, not last.short_bytes
    )
    if not plan.fits:
        return replace(plan, reasons=(happened, *plan.reasons))
    before, after = (Case(model, request, one, seen[-1]) for one in (last.settings, plan.settings))
    changes = what_changes(before, after, last.phase)
    told = Text(f"{happened.en} {changes.en}", f"{happened.zh}{changes.zh}")
    return replace(plan, reasons=(told, *plan.reasons))


def nothing_left(error: StudioError, plan: Plan) -> OutOfMemory:
    """The end of a job for which nothing more can be tried.

    Args:
        error: of the last attempt.
        plan: the one that does not fit.
    """
    offers = plan.alternatives
    offered = "; ".join(offer.text.en for offer in offers)
    offered_zh = "；".join(offer.text.zh for offer in offers)
    return OutOfMemory(
        error.message,
        Text(
            "No settings are left that need less memory." + (f" {offered}." if offered else ""),
            "已没有更省内存的设置可试。" + (f"{offered_zh}。" if offered_zh else ""),
        ),
    )


def _as_it_was(target: Target, shortage: Shortage) -> Target:
    """The target with no more memory than a run found there."""
    if shortage.limit_bytes is None or shortage.limit_bytes >= target.limit_bytes:
        return target
    return replace(target, limit_bytes=shortage.limit_bytes)
