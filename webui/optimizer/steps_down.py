"""Ways to need less memory than given settings do: what each saves, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from webui.core.model import ModelCard
from webui.core.request import Request
from webui.core.settings import Settings
from webui.core.text import Text
from webui.estimator.case import Case
from webui.estimator.estimate import estimate_case
from webui.estimator.target import Target
from webui.optimizer.candidates import FP8_COST, candidates, quality_cost
from webui.optimizer.reasons import describe

LOSSLESS = (
    "offload",
    "text_encoder",
    "image_encoder",
    "ffn_chunks",
    "split_guidance",
    "page_batch",
    "channels_last",
    "gradient_checkpointing",
)
"""Settings that change where and when something is computed, not what comes out."""
SMALL_COST = ("vae_precision", "vae_tiling", "vae_tile", "vae_tile_overlap", "decode_chunk")
"""Those with a small known cost: borders of tiles and chunks, a VAE in 16 bits."""
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


def find_steps_down(
    model: ModelCard, request: Request, settings: Settings, target: Target
) -> tuple[StepDown, ...]:
    """Those that no other one beats in memory and time, the smallest step first.

    Lossless means come first, then what a small known cost saves beyond them. Precision,
    quantisation and step caches stay: only the user changes those.

    Args:
        model: the request's model.
        request: the workload.
        settings: what it runs with, complete.
        target: the device.
    """
    base = estimate_case(Case(model, request, settings, target))
    cost = quality_cost(settings)
    lossless = _unbeaten(_cases(model, request, settings, target, LOSSLESS, cost))
    small = _unbeaten(
        case
        for case in _cases(
            model, request, settings, target, (*LOSSLESS, *SMALL_COST), cost + FP8_COST
        )
        if quality_cost(case.settings) > cost
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


def _cases(
    model: ModelCard,
    request: Request,
    settings: Settings,
    target: Target,
    free: Iterable[str],
    most_cost: float,
) -> Iterator[Case]:
    """The settings with other values of those that are free."""
    moved = {
        name
        for name in free
        if not name.endswith("_encoder") or settings.get(name, "gpu") in _PLACES
    }
    fixed = {name: value for name, value in settings.items() if name not in moved}
    for other in candidates(model, request.with_changes(settings=fixed), target):
        if other != settings and quality_cost(other) <= most_cost:
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
