"""The search: the fastest settings that fit, lossless means before those with a small cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from webui.core.model import ModelCard
from webui.core.plan import Estimate
from webui.core.request import Request
from webui.core.settings import Settings, SettingValue
from webui.estimator.case import Case
from webui.estimator.estimate import estimate_case
from webui.estimator.target import Target
from webui.optimizer.candidates import candidates, quality_cost

_BATCH = "tile_batch"
_SAME_SECONDS = 1e-9
_LEANEST_TRIED = 3
"""Live bytes rank candidates nearly as reserved bytes do; a few are replayed to be sure."""


def find_best(model: ModelCard, request: Request, target: Target) -> Estimate | None:
    """The best settings that fit, or None.

    Order of preference: picture quality, then seconds, then peak. The search is exhaustive: what
    is as good is tried from the fastest on, the best first, and the first whose replay fits is the
    answer. Candidates whose live bytes alone are too many are not replayed.
    """
    every = sorted(candidates(model, request, target), key=quality_cost)
    for _, equals in groupby(every, key=quality_cost):
        cases = [Case(model, request, settings, target) for settings in equals]
        ranked = sorted(cases, key=lambda case: case.total_seconds)
        hopeless = _Hopeless(cases)
        fitting = (case for case in ranked if not hopeless(case) and case.fits)
        if (first := next(fitting, None)) is not None:
            return _lowest_of_equals(first, ranked[ranked.index(first) + 1 :])
    return None


class _Hopeless:
    """Knows of larger batches that need not be asked: where the smallest has no room, none has."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._least: dict[tuple[tuple[str, SettingValue], ...], Case] = {}
        for case in cases:
            key = _but_batch(case.settings)
            least = self._least.get(key)
            if least is None or _batch_of(case.settings) < _batch_of(least.settings):
                self._least[key] = case

    def __call__(self, case: Case) -> bool:
        least = self._least[_but_batch(case.settings)]
        if _batch_of(least.settings) >= _batch_of(case.settings):
            return False
        return not all(map(least.may_hold, least.phases))


def _batch_of(settings: Settings) -> int:
    return int(settings.get(_BATCH, 1))


def _but_batch(settings: Settings) -> tuple[tuple[str, SettingValue], ...]:
    return tuple((name, value) for name, value in settings.items() if name != _BATCH)


def find_leanest(model: ModelCard, request: Request, target: Target) -> Estimate:
    """The settings with the lowest peak, whether they fit or not."""
    ranked = sorted(_cases(model, request, target), key=lambda case: case.peaks_bytes)
    found = [estimate_case(case) for case in ranked[:_LEANEST_TRIED]]
    return min(found, key=lambda item: (not item.fits, item.peak_device_bytes))


def leanest_that_fits(
    model: ModelCard, request: Request, target: Target, every: bool = False
) -> Case | None:
    """The first of the few leanest candidates that fits, or with `every` of all, from the leanest
    on; None where none does."""
    ranked = sorted(_cases(model, request, target), key=lambda case: case.peaks_bytes[0])
    return next(
        (case for case in (ranked if every else ranked[:_LEANEST_TRIED]) if case.fits), None
    )


def can_fit(model: ModelCard, request: Request, target: Target, every: bool = False) -> bool:
    """Whether any settings fit; asks for no replay where live bytes alone are too many.

    Args:
        model: the request's model.
        request: fixed settings and workload.
        target: the device.
        every: ask all candidates, as `find_best` does, and not only the few leanest.
    """
    return leanest_that_fits(model, request, target, every) is not None


def least_bytes(model: ModelCard, request: Request, target: Target) -> int:
    """Fewest live bytes that any settings need: nothing fits in less."""
    return min(case.peaks_bytes[0] for case in _cases(model, request, target))


def _cases(model: ModelCard, request: Request, target: Target) -> Iterator[Case]:
    for settings in candidates(model, request, target):
        yield Case(model, request, settings, target)


def _lowest_of_equals(first: Case, slower: list[Case]) -> Estimate:
    """Among candidates as good and as fast as the first one, that with the lowest peak."""
    best = estimate_case(first)
    most = first.total_seconds * (1 + _SAME_SECONDS)
    for case in slower:
        if case.total_seconds > most:
            break
        if case.peaks_bytes[0] >= best.peak_reserved_bytes:
            continue
        found = estimate_case(case)
        if found.fits and found.peak_reserved_bytes < best.peak_reserved_bytes:
            best = found
    return best
