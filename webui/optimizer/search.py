"""The search: the fastest settings that fit, lossless means before those with a small cost."""

from __future__ import annotations

from dataclasses import dataclass

from webui.core.model import ModelCard
from webui.core.plan import Estimate
from webui.core.request import Request
from webui.core.settings import Settings
from webui.estimator.estimate import (
    Target,
    can_hold,
    estimate,
    peak_bytes,
    phase_names,
    room_bytes,
    seconds,
)
from webui.estimator.rules import rules_for
from webui.optimizer.candidates import candidates, quality_cost

_SAME_SECONDS = 1e-9
_LEANEST_TRIED = 3
"""Live bytes rank candidates nearly as reserved bytes do; a few are replayed to be sure."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    settings: Settings
    quality: float
    seconds: float


def find_best(model: ModelCard, request: Request, target: Target) -> Estimate | None:
    """The best settings that fit, or None.

    Order of preference: picture quality, then seconds, then peak. The search is exhaustive: the
    candidates are sorted by that order, and the first whose replay fits is the answer.
    """
    ranked = sorted(
        (
            _Candidate(settings, quality_cost(settings), _total(model, request, settings, target))
            for settings in candidates(model, request, target)
        ),
        key=lambda candidate: (candidate.quality, candidate.seconds),
    )
    chosen = _first_fit(model, request, target, ranked)
    if chosen is None:
        return None
    return _lowest_of_equals(model, request, target, ranked, chosen)


def find_leanest(model: ModelCard, request: Request, target: Target) -> Estimate:
    """The settings with the lowest peak, whether they fit or not."""
    ranked = sorted(
        candidates(model, request, target),
        key=lambda settings: find_peaks(model, request, settings, target),
    )
    found = [estimate(model, request, settings, target) for settings in ranked[:_LEANEST_TRIED]]
    return min(found, key=lambda item: (not item.fits, item.peak_device_bytes))


def can_fit(model: ModelCard, request: Request, target: Target, every: bool = False) -> bool:
    """Whether any settings fit; asks for no replay where live bytes alone are too many.

    Args:
        model: the request's model.
        request: fixed settings and workload.
        target: the device.
        every: ask all candidates, as `find_best` does, and not only the few leanest.
    """
    peaks = [
        (find_peak(model, request, settings, target), settings)
        for settings in candidates(model, request, target)
    ]
    ranked = sorted(peaks, key=lambda item: item[0])
    return any(
        peak <= room_for(target, settings, request) and can_hold(model, request, settings, target)
        for peak, settings in (ranked if every else ranked[:_LEANEST_TRIED])
    )


def _first_fit(
    model: ModelCard, request: Request, target: Target, ranked: list[_Candidate]
) -> tuple[_Candidate, Estimate] | None:
    for candidate in ranked:
        if find_peak(model, request, candidate.settings, target) > room_for(
            target, candidate.settings, request
        ):
            continue
        if can_hold(model, request, candidate.settings, target):
            return candidate, estimate(model, request, candidate.settings, target)
    return None


def _lowest_of_equals(
    model: ModelCard,
    request: Request,
    target: Target,
    ranked: list[_Candidate],
    chosen: tuple[_Candidate, Estimate],
) -> Estimate:
    """Among candidates as good and as fast as the chosen one, that with the lowest peak."""
    first, best = chosen
    for candidate in ranked[ranked.index(first) + 1 :]:
        slower = candidate.seconds > first.seconds * (1 + _SAME_SECONDS)
        if candidate.quality != first.quality or slower:
            break
        if find_peak(model, request, candidate.settings, target) >= best.peak_reserved_bytes:
            continue
        found = estimate(model, request, candidate.settings, target)
        if found.fits and found.peak_reserved_bytes < best.peak_reserved_bytes:
            best = found
    return best


def room_for(target: Target, settings: Settings, request: Request) -> int:
    """What the settings' allocator may reserve on the target."""
    return room_bytes(target, rules_for(target.card, str(settings["allocator"]), request.platform))


def _phases(
    model: ModelCard, request: Request, settings: Settings, target: Target
) -> tuple[str, ...]:
    rules = rules_for(target.card, str(settings["allocator"]), request.platform)
    return phase_names(model, request, settings, rules)


def _total(model: ModelCard, request: Request, settings: Settings, target: Target) -> float:
    return sum(
        seconds(model, request, settings, target, phase)
        for phase in _phases(model, request, settings, target)
    )


def find_peak(model: ModelCard, request: Request, settings: Settings, target: Target) -> int:
    """A lower bound of what the settings reserve."""
    return find_peaks(model, request, settings, target)[0]


def find_peaks(
    model: ModelCard, request: Request, settings: Settings, target: Target
) -> tuple[int, int]:
    """The highest phase's live bytes, and those of all phases added up, which decide ties."""
    peaks = [
        peak_bytes(model, request, settings, target, phase)
        for phase in _phases(model, request, settings, target)
    ]
    return max(peaks), sum(peaks)
