"""Checks what a guide says of cards: as they are loaded there, and as the optimizer would."""

from __future__ import annotations

from dataclasses import dataclass

from webui.catalogue.claims import Fits
from webui.core.plan import Estimate
from webui.core.settings import Settings
from webui.core.text import Text
from webui.hardware import find_card
from webui.service.claims import words
from webui.service.claims.bench import Bench, Figure
from webui.service.claims.finding import Finding
from webui.service.claims.verdicts import Verdict, judge_fit
from webui.service.recorded import renewed

_ORDER = ("yes", "one", "planned", "no")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a card can do."""

    answer: str
    """One of `_ORDER`."""
    card: str
    whole_bytes: int
    """All at the same time, as they are loaded without any means of saving."""
    plans: tuple[Estimate | None, ...]


def check_fits(claim: Fits, bench: Bench) -> Finding:
    """The card of those named that can do least decides."""
    every = [_found(claim, card, bench) for card in claim.cards]
    worst = max(every, key=lambda found: _ORDER.index(found.answer))
    tried = _tried(claim, bench) if worst.answer == "planned" else None
    loaded = None if worst.answer == "planned" else bench.measured_bytes(claim.of)
    limit_bytes = find_card(worst.card).vram_bytes
    sentence = words.whole_against(worst.whole_bytes, limit_bytes)
    peak = 0
    if worst.answer == "planned":
        peak, chosen = _most(claim, worst, bench)
        sentence = words.joined(sentence, words.planned(chosen, peak, several=len(claim.of) > 1))
    elif worst.answer == "one":
        sentence = words.joined(sentence, words.ONE_AT_A_TIME)
    elif worst.answer == "no":
        sentence = words.joined(sentence, words.NO_SETTINGS)
    if tried is not None:
        sentence = words.joined(sentence, words.ran_within(tried.most_bytes, tried.limit_gib))
        loaded = Figure(tried.most_bytes, tried.receipts)
        peak = tried.estimated_bytes
    verdict = judge_fit(claim.says, worst.answer)
    return Finding(
        verdict=verdict,
        on=_on(claim.says, worst.answer) if verdict is Verdict.DEPENDS else None,
        estimate=words.amount(peak if worst.answer == "planned" else worst.whole_bytes),
        measured=words.amount(loaded.value) if loaded else None,
        receipts=loaded.receipts if loaded else (),
        sentence=sentence,
    )


def _found(claim: Fits, card: str, bench: Bench) -> _Found:
    whole_bytes = bench.estimated_bytes(claim.of, card)
    together = whole_bytes <= find_card(card).vram_bytes
    alone = all(bench.whole(work, card).fits for work in claim.of)
    plans: tuple[Estimate | None, ...] = ()
    if together and alone:
        answer = "yes"
    elif alone:
        answer = "one"
    else:
        plans = tuple(bench.planned(work, card) for work in claim.of)
        answer = "no" if None in plans else "planned"
    return _Found(answer=answer, card=card, whole_bytes=whole_bytes, plans=plans)


def _most(claim: Fits, found: _Found, bench: Bench) -> tuple[int, Settings]:
    """Peak of the work that takes most as planned, and what was chosen for it."""
    planned = [
        (plan.peak_device_bytes, plan.settings, bench.request(work).settings)
        for work, plan in zip(claim.of, found.plans, strict=True)
        if plan is not None
    ]
    peak, settings, fixed = max(planned, key=lambda one: one[0])
    return peak, {name: value for name, value in settings.items() if name not in fixed}


def _on(says: str, answer: str) -> Text:
    if answer == "one":
        return words.ON_ONE
    return words.RUNS_SAVING if says == "no" else words.ON_SAVING


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """Recorded runs of all works, each within a limit that every card of the claim has."""

    most_bytes: int
    estimated_bytes: int
    """Today's estimate of the run that took most, at the settings that it had."""
    limit_gib: float
    receipts: tuple[str, ...]


def _tried(claim: Fits, bench: Bench) -> _Tried | None:
    smallest = min(claim.cards, key=lambda name: find_card(name).vram_bytes)
    runs = [run for work in claim.of if (run := bench.limited_run(work, smallest))]
    if len(runs) < len(claim.of):
        return None
    peaks = {run.measurement.peak_device_bytes: run for run in runs if run.measurement}
    return _Tried(
        most_bytes=max(peaks),
        estimated_bytes=renewed(peaks[max(peaks)]).estimate.peak_device_bytes,
        limit_gib=max(float(run.request["vram_gib"]) for run in runs),
        receipts=tuple(run.id for run in runs),
    )
