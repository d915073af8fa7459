"""Variants of one comparison, planned together: only what was asked to differ shall differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from webui.core.errors import StudioError
from webui.core.plan import Plan
from webui.core.request import Request
from webui.core.setting import spelt
from webui.core.settings import SETTINGS, Settings
from webui.core.text import EMPTY, Text
from webui.optimizer.candidates import quality_cost
from webui.service.planner import does_not_fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A variant that does not run: its place in the comparison, and why."""

    asked: Settings
    """The settings that it named."""
    error: StudioError

    def to_json(self) -> dict[str, Any]:
        return {
            "receipt": None,
            "differs": dict(self.asked),
            "difference": None,
            "why": self.error.message.en,
            "error": self.error.to_contract(),
        }


def told_once(refused: Sequence[Refused]) -> list[StudioError]:
    """What is wrong, each error once, with all variants that it is about."""
    alike: dict[tuple[str, str], list[Refused]] = defaultdict(list)
    for one in refused:
        alike[one.error.message.en, one.error.hint.en].append(one)
    told = []
    for group in alike.values():
        error, named = group[0].error, "; ".join(dict.fromkeys(_named_as(one) for one in group))
        message = error.message
        text = Text(f"{named}: {message.en}", f"{named}：{message.zh}") if named else message
        told.append(StudioError(text, error.hint))
    return told


def _named_as(refused: Refused) -> str:
    """A variant by its settings, as YAML has them."""
    return ", ".join(f"{name}: {spelt(value)}" for name, value in refused.asked.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The variants of a comparison before any of them runs."""

    variants: tuple[Request | Refused, ...]
    note: Text
    """What was done about settings that were left open; empty where all plans had the same."""


def prepare(
    asked: Sequence[Any], parse: Callable[[Any], Request], plan: Callable[[Request], Plan]
) -> Prepared:
    """Parses and plans all variants before the first one runs.

    What they leave open is fixed for all of them to what one of their plans has, usually that of
    the variant that needs most, where it fits all of them: each by itself, one might be tiled and
    another one not, and the difference of the results would have both causes.

    Args:
        asked: the requests as data.
        parse: gives a request, or raises StudioError.
        plan: gives its plan.
    """
    variants: list[Request | Refused] = []
    plans: dict[int, Plan] = {}
    for number, data in enumerate(asked):
        try:
            request = parse(data)
            plans[number] = _fitting(plan(request))
            variants.append(request)
        except StudioError as error:
            variants.append(Refused(asked=_named(data), error=error))
    requests = {number: one for number, one in enumerate(variants) if isinstance(one, Request)}
    named = {name for request in requests.values() for name in request.settings}
    chosen = [_chosen(plans[number], named) for number in requests]
    if all(one == chosen[0] for one in chosen):
        return Prepared(variants=tuple(variants), note=EMPTY)
    best: tuple[tuple[float, float], dict[int, Request], Settings] | None = None
    tried: list[Settings] = []
    for settings in chosen:
        if settings in tried:
            continue
        tried.append(settings)
        fixed = {
            number: request.with_changes(settings={**request.settings, **settings})
            for number, request in requests.items()
        }
        try:
            together = [_fitting(plan(parse(request.to_json()))) for request in fixed.values()]
        except StudioError:
            continue
        # Where several fit all, the one that changes the result least, then the fastest.
        rank = (
            max(quality_cost(one.settings) for one in together),
            sum(one.estimate.seconds for one in together),
        )
        if best is None or rank < best[0]:
            best = (rank, fixed, settings)
    differ = {
        name for one in chosen for name in one if any(o.get(name) != one[name] for o in chosen)
    }
    if best is None:
        return Prepared(variants=tuple(variants), note=_each_its_own(differ))
    for number, request in best[1].items():
        variants[number] = request
    return Prepared(
        variants=tuple(variants),
        note=_shared({name: best[2][name] for name in best[2] if name in differ}),
    )


def _fitting(plan: Plan) -> Plan:
    if not plan.fits:
        raise does_not_fit(plan)
    return plan


def _chosen(plan: Plan, named: set[str]) -> Settings:
    """What a plan chose of the settings that no variant names."""
    return {name: choice.value for name, choice in plan.choices.items() if name not in named}


def _named(data: Any) -> Settings:
    settings = data.get("settings") if isinstance(data, Mapping) else None
    return dict(settings) if isinstance(settings, Mapping) else {}


def _shared(settings: Settings) -> Text:
    labels = [(SETTINGS[name].label, value) for name, value in settings.items()]
    listed = ", ".join(f"{label.en}: {value}" for label, value in labels)
    listed_zh = "，".join(f"{label.zh}：{value}" for label, value in labels)
    return Text(
        f"So that only what was asked to differ differs, all run with {listed}: each by itself "
        "would have been planned otherwise.",
        f"为使结果只反映所要比较的差异，全部使用 {listed_zh}；单独规划时它们会各不相同。",
    )


def _each_its_own(names: set[str]) -> Text:
    labels = [spec.label for name, spec in SETTINGS.items() if name in names]
    listed, listed_zh = ", ".join(one.en for one in labels), "、".join(one.zh for one in labels)
    return Text(
        f"No one choice fits all of them, so these differ too: {listed}. The difference of the "
        "results has all these causes.",
        f"没有一种选择能让它们全部放下，因此这些设置也不同：{listed_zh}。结果的差异由它们共同造成。",
    )
