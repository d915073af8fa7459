"""Trials of the plans themselves: is the smallest cap enough, is the chosen plan the fastest?

Each trial is a run with random weights at full size, as `verify` makes them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from webui.catalogue import find_model
from webui.core.errors import BadInput
from webui.core.receipt import Receipt
from webui.core.request import Request
from webui.core.text import Text
from webui.core.units import GIB
from webui.estimator.case import Case
from webui.estimator.target import Target
from webui.optimizer.candidates import candidates, quality_cost
from webui.optimizer.search import can_fit, find_best

STEP_GIB = 1 / 16
"""Caps are tried in such steps: finer than the margin of any plan."""
LOWEST_GIB = 0.75
BEYOND = 0.9
"""Share of the smallest cap at which the same settings must run out."""
BEST = 8
OTHERS = 4
TIMES = 2
"""Rivals run so often, one after the other, and the faster run counts: the first one pays for
kernels that the process has not loaded yet, seconds where a step takes half of one."""
KINDS = ("border", "rivals")

TargetOf = Callable[[Request], Target]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run, and what it is for."""

    role: str
    """`border` (must run), `beyond` (must run out), `chosen` or `rival`."""
    group: int
    """Trials of one request share it."""
    request: Request

    def to_json(self) -> dict[str, Any]:
        return {"role": self.role, "group": self.group}


def make_trials(kind: str, request: Request, group: int, target_of: TargetOf) -> list[Trial]:
    """The runs that try a request's plan.

    Args:
        kind: one of `KINDS`.
        request: what is tried.
        group: its number.
        target_of: the device that a request names.

    Raises:
        BadInput: nothing fits, so there is nothing to try.
    """
    make = _border if kind == "border" else _rivals
    return make(request, group, target_of)


def _border(request: Request, group: int, target_of: TargetOf) -> list[Trial]:
    """The request at the smallest cap that its plan calls enough, and beyond it."""
    model = find_model(request.model, request.task)
    device_gib = target_of(request.with_changes(vram_gib=None)).card.vram_bytes / GIB

    def fits(cap_gib: float) -> bool:
        capped = request.with_changes(vram_gib=cap_gib)
        return can_fit(model, capped, target_of(capped), every=True)

    low, high = round(LOWEST_GIB / STEP_GIB), int(device_gib / STEP_GIB)
    if not fits(high * STEP_GIB):
        raise BadInput(
            "vram_gib",
            Text("It does not fit the whole card.", "整张显卡也放不下。"),
        )
    while low < high:
        middle = (low + high) // 2
        if fits(middle * STEP_GIB):
            high = middle
        else:
            low = middle + 1
    border = request.with_changes(vram_gib=low * STEP_GIB)
    best = find_best(model, border, target_of(border))
    assert best is not None
    beyond = border.with_changes(vram_gib=BEYOND * low * STEP_GIB, settings=dict(best.settings))
    return [
        Trial(role="border", group=group, request=border),
        Trial(role="beyond", group=group, request=beyond),
    ]


def _rivals(request: Request, group: int, target_of: TargetOf) -> list[Trial]:
    """The chosen plan, the next ones by predicted time, and some others that fit; none of them of
    lower quality, which is given up only for memory."""
    model, target = find_model(request.model, request.task), target_of(request)
    chosen = find_best(model, request, target)
    if chosen is None:
        raise BadInput("vram_gib", Text("Nothing fits.", "没有放得下的设置。"))

    cases = (Case(model, request, one, target) for one in candidates(model, request, target))
    cost = quality_cost(chosen.settings)
    feasible = [
        case
        for case in cases
        if case.settings != chosen.settings and quality_cost(case.settings) <= cost and case.fits
    ]
    feasible.sort(key=lambda case: case.total_seconds)
    rest = feasible[BEST - 1 :]
    drawn = random.Random(group).sample(rest, min(OTHERS, len(rest)))
    tried = [chosen.settings, *(case.settings for case in (*feasible[: BEST - 1], *drawn))]
    return [
        Trial(
            role="rival" if index else "chosen",
            group=group,
            request=request.with_changes(settings=dict(settings)),
        )
        for index, settings in enumerate(tried)
        for _ in range(TIMES)
    ]


def trials_table(results: Sequence[tuple[Trial, Receipt]]) -> str:
    """What the trials showed, a line a request."""
    groups: dict[int, list[tuple[Trial, Receipt]]] = {}
    for trial, receipt in results:
        groups.setdefault(trial.group, []).append((trial, receipt))
    return "\n".join(_line(found) for found in groups.values())


def _line(found: Iterable[tuple[Trial, Receipt]]) -> str:
    by_role: dict[str, list[tuple[Trial, Receipt]]] = {}
    for trial, receipt in found:
        by_role.setdefault(trial.role, []).append((trial, receipt))
    (trial, receipt), *_ = next(iter(by_role.values()))
    request = trial.request
    name = f"{request.model} {request.size_text}"
    if "border" in by_role:
        beyond = [receipt for _, receipt in by_role.get("beyond", ())]
        ran_out = [_ran_out(receipt) for receipt in beyond]
        return (
            f"{name}: {'ran' if receipt.error is None else 'FAILED'} at {request.vram_gib:g} GiB, "
            f"{'ran out' if all(ran_out) and ran_out else 'did NOT run out'} at {BEYOND:g} of it"
        )
    chosen_s = min(_fastest(by_role["chosen"]).values(), default=float("nan"))
    others = _fastest(by_role.get("rival", ()))
    fastest = min([chosen_s, *others.values()])
    return (
        f"{name} {request.vram_gib or 0:g}G: chosen {chosen_s:.2f} s, fastest of {1 + len(others)} "
        f"{fastest:.2f} s ({chosen_s / fastest - 1:+.1%})"
    )


def _fastest(found: Iterable[tuple[Trial, Receipt]]) -> dict[frozenset[Any], float]:
    """The least seconds of each choice of settings that ran."""
    seconds: dict[frozenset[Any], float] = {}
    for trial, receipt in found:
        if receipt.measurement is not None and receipt.error is None:
            settings = frozenset(trial.request.settings.items())
            taken = receipt.measurement.seconds
            seconds[settings] = min(taken, seconds.get(settings, taken))
    return seconds


def _ran_out(receipt: Receipt) -> bool:
    return receipt.error is not None and receipt.error["type"] == "OutOfMemory"
