"""What the memory panel shows: a plan of now, or a run of the past with its measurement.

It is the contract's form of a plan (`Plan.to_json()`), so that a plan of now and the plan in a
receipt look the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from webui.core.plan import Alternative, Plan
from webui.core.receipt import Receipt
from webui.core.text import Text


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
