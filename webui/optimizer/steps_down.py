"""Ways to need less memory than given settings do: what each saves, and what it costs."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from webui.core.model import ModelCard
from webui.core.request import Request
from webui.core.settings import Settings, SettingValue
from webui.core.text import Text
from webui.core.units import format_bytes, signed_time
from webui.estimator.case import Case
from webui.estimator.estimate import estimate_case
from webui.estimator.target import Target
from webui.optimizer.candidates import FP8_COST, candidates, open_values, quality_cost
from webui.optimizer.reasons import describe

_PLACES = ("gpu", "stream", "cpu")
"""Where an encoder may be moved; `absent` and `cached` are the user's."""
MOST_LOSSLESS, MOST_WITH_COST = 4, 2
"""What a person can compare."""
_WORTH_SHARE = 0.01
"""Less of the peak is not worth a sentence, nor one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDown:
    """Other settings for the same work, which need less memory."""

    text: Text
    """What changes, in words."""
    changes: Settings
    saved_bytes: int
    """Of the peak on the card."""
    extra_s: float
    """Of the whole run; below 0 where it is faster."""
    lossless: bool
    """The result stays the same."""

    @property
    def sentence(self) -> Text:
        """What changes, saves and costs."""
        saved, time = format_bytes(self.saved_bytes), signed_time(self.extra_s)
        small, small_zh = ("", "") if self.lossless else (", small differences", "，结果略有不同")
        return Text(
            f"{self.text.en}: saves {saved} ({time}{small}).",
            f"{self.text.zh}：节省 {saved}（{time}{small_zh}）。",
        )


def find_steps_down(
    model: ModelCard, request: Request, settings: Settings, target: Target
) -> tuple[StepDown, ...]:
    """Those that no other one beats in memory and time, the smallest step first.

    Lossless means come first, then what a small known cost saves beyond them. What the request
    fixes stays, and so do precision, quantisation and step caches: only the user changes those.

    Args:
        model: the request's model.
        request: the workload; its fixed settings are not touched.
        settings: what it runs with, complete.
        target: the device.
    """
    base = estimate_case(Case(model, request, settings, target))
    cost = quality_cost(settings)
    values = _movable(model, request, settings, target)
    same_result = {
        name
        for name, others in values.items()
        if all(quality_cost(settings | {name: value}) == cost for value in others)
    }
    lossless = _unbeaten(_cases(model, request, settings, target, same_result))
    small = _unbeaten(
        case
        for case in _cases(model, request, settings, target, values)
        if cost < quality_cost(case.settings) < cost + FP8_COST
    )
    small = [case for case in small if not any(_beats(other, case) for other in lossless)]
    found = []
    least = int(base.peak_device_bytes * _WORTH_SHARE)
    for cases, most, same in ((lossless, MOST_LOSSLESS, True), (small, MOST_WITH_COST, False)):
        steps = []
        for case in _thinned([case for case in cases if _is_below(case, base.settings)], most):
            other = estimate_case(case)
            changes = {
                name: value for name, value in case.settings.items() if settings[name] != value
            }
            step = StepDown(
                text=describe(changes, model, request),
                changes=changes,
                saved_bytes=base.peak_device_bytes - other.peak_device_bytes,
                extra_s=other.seconds - base.seconds,
                lossless=same,
            )
            steps.append(step)
        saved = 0
        for step in sorted(steps, key=lambda step: step.saved_bytes):
            if step.saved_bytes > saved + least:
                found.append(step)
                saved = step.saved_bytes
    return tuple(found)


def _movable(
    model: ModelCard, request: Request, settings: Settings, target: Target
) -> dict[str, list[SettingValue]]:
    """The values of what the optimizer may change: it is open, and another value changes the
    result little or not at all."""
    return {
        name: values
        for name, values in open_values(model, request, target).items()
        if name not in request.settings
        and name != "precision"
        and len(values) > 1
        and (not name.endswith("_encoder") or settings[name] in _PLACES)
    }


def _cases(
    model: ModelCard,
    request: Request,
    settings: Settings,
    target: Target,
    free: Container[str],
) -> Iterator[Case]:
    """The settings with other values of those that are free."""
    fixed = {name: value for name, value in settings.items() if name not in free}
    for other in candidates(model, request.with_changes(settings=fixed), target):
        if other != settings:
            yield Case(model, request, other, target)


def _is_below(case: Case, settings: Settings) -> bool:
    """Whether its live bytes are fewer: without a replay."""
    there = Case(case.model, case.request, settings, case.target)
    return case.peaks_bytes[0] < there.peaks_bytes[0]


def _unbeaten(cases: Iterable[Case]) -> list[Case]:
    """Those that are faster than all with fewer bytes; the most memory first."""
    ranked = sorted(cases, key=lambda case: (case.peaks_bytes[0], case.total_seconds))
    best: list[Case] = []
    for case in ranked:
        if not best or case.total_seconds < best[-1].total_seconds:
            best.append(case)
    return best[::-1]


def _beats(one: Case, other: Case) -> bool:
    return one.peaks_bytes[0] <= other.peaks_bytes[0] and one.total_seconds <= other.total_seconds


def _thinned(cases: list[Case], most: int) -> list[Case]:
    """Evenly fewer; the first and the last stay."""
    if len(cases) <= most:
        return cases
    return [cases[round(index * (len(cases) - 1) / (most - 1))] for index in range(most)]
