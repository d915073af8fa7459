"""Checks one claim: its figures, and what they say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from webui.catalogue import load_models
from webui.catalogue.claims import (
    FACT_PARTS,
    Added,
    Arithmetic,
    Change,
    Check,
    Duration,
    Facts,
    Memory,
    Quality,
    Range,
    Reading,
    Unchecked,
    Works,
)
from webui.core.plan import Estimate
from webui.core.text import Text
from webui.service.claims import words
from webui.service.claims.bench import TEST_CARD, Bench, Figure
from webui.service.claims.finding import Finding
from webui.service.claims.fits import check_fits
from webui.service.claims.verdicts import (
    VERDICTS,
    Verdict,
    better,
    bytes_of,
    judge_amount,
    judge_percent,
    judge_span,
)

SHORT_ANSWER = 1 / 4
"""The guides do not say how long an answer is: it may have this share of the most."""
ELSEWHERE = "rtx-4090"
"""Where a change of time is also estimated: what holds on one card need not on another."""


def check(claim: Check, otherwise: tuple[Reading, ...], bench: Bench) -> Finding:
    """What the figures say of a claim; where it is wrong as it stands, of its other readings.

    Args:
        claim: how to check it.
        otherwise: other ways to read it.
        bench: the figures.
    """
    found = _check(claim, bench)
    if found.verdict.stands:
        return found
    for reading in otherwise:
        other = _check(reading.check, bench)
        if other.verdict.stands:
            return replace(
                found,
                verdict=Verdict.DEPENDS,
                on=words.holds_read(reading.name, VERDICTS[other.verdict]),
                receipts=tuple(dict.fromkeys((*found.receipts, *other.receipts))),
                sentence=words.joined(found.sentence, words.as_read(reading.name, other.sentence)),
            )
    return found


def _check(claim: Check, bench: Bench) -> Finding:
    match claim:
        case Memory():
            return _memory(claim, bench)
        case Added():
            return _added(claim, bench)
        case Change(told="saves"):
            return _saving(claim, bench)
        case Change():
            return _timing(claim, bench)
        case Duration():
            return _duration(claim, bench)
        case Facts():
            return _facts(claim)
        case Arithmetic():
            return _arithmetic(claim)
        case Quality():
            return Finding(verdict=Verdict.UNTOLD, sentence=words.QUALITY)
        case Unchecked():
            return _unchecked(claim)
        case _:
            return check_fits(claim, bench)


def _memory(claim: Memory, bench: Bench) -> Finding:
    """Peak bytes; where they do not match, whether the guide may have meant the weights alone."""
    estimated = bench.estimated_bytes(claim.of)
    measured = bench.measured_bytes(claim.of)
    bounds = bytes_of(claim.gb)
    figure = measured.value if measured else float(estimated)
    verdict = judge_amount(figure, bounds)
    on = None
    sentence = words.peak(figure, bounds, measured is not None)
    if not verdict.stands and not bench.is_training(claim.of):
        weights = bench.weights_bytes(claim.of)
        if judge_amount(weights, bounds) is Verdict.HOLDS:
            verdict, on = Verdict.DEPENDS, words.ON_WEIGHTS
            sentence = words.joined(sentence, words.weights_alone(weights))
    return Finding(
        verdict=verdict,
        on=on,
        estimate=words.amount(estimated),
        measured=words.amount(measured.value) if measured else None,
        receipts=measured.receipts if measured else (),
        sentence=sentence,
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """Before and after, in bytes or in seconds."""

    before: float
    after: float
    receipts: tuple[str, ...] = ()


def _pair(
    claim: Change | Added,
    estimated: Callable[[Works], float],
    measured: Callable[[Works], Figure | None],
) -> tuple[_Pair, _Pair | None]:
    before, after = measured(claim.before), measured(claim.after)
    expected = _Pair(estimated(claim.before), estimated(claim.after))
    if before is None or after is None:
        return expected, None
    receipts = tuple(dict.fromkeys((*before.receipts, *after.receipts)))
    return expected, _Pair(before.value, after.value, receipts)


def _added(claim: Added, bench: Bench) -> Finding:
    expected, measured = _pair(claim, bench.estimated_bytes, bench.measured_bytes)
    figure = measured or expected
    more = figure.after - figure.before
    return Finding(
        verdict=judge_amount(more, claim.size_bytes),
        estimate=words.amount(expected.after - expected.before),
        measured=words.amount(measured.after - measured.before) if measured else None,
        receipts=measured.receipts if measured else (),
        sentence=words.more(more, claim.size_bytes, measured is not None),
    )


def _saving(claim: Change, bench: Bench) -> Finding:
    expected, measured = _pair(claim, bench.estimated_bytes, bench.measured_bytes)
    figure = measured or expected
    return Finding(
        verdict=judge_percent(100 * (1 - figure.after / figure.before), claim.percent),
        estimate=words.change(expected.before, expected.after),
        measured=words.change(measured.before, measured.after) if measured else None,
        receipts=measured.receipts if measured else (),
        sentence=words.from_to_bytes(figure.before, figure.after, measured is not None),
    )


def _timing(claim: Change, bench: Bench) -> Finding:
    """A change of time; where another card would change the verdict, it depends on the card."""
    expected, measured = _pair(claim, bench.estimated_seconds, bench.measured_seconds)
    figure = measured or expected
    verdict = _judge_timing(claim.told, figure, claim.percent)
    of_sample = bench.is_training(claim.before)

    def told(pair: _Pair, card: str, is_measured: bool) -> Text:
        return words.from_to_seconds(
            pair.before, pair.after, card, is_measured=is_measured, of_sample=of_sample
        )

    sentence = told(figure, TEST_CARD, measured is not None)
    there = _Pair(
        bench.estimated_seconds(claim.before, ELSEWHERE),
        bench.estimated_seconds(claim.after, ELSEWHERE),
    )
    on = None
    if _judge_timing(claim.told, there, claim.percent).stands != verdict.stands:
        verdict, on = Verdict.DEPENDS, words.ON_CARD
        sentence = words.joined(sentence, told(there, ELSEWHERE, False))
    short = words.speed_left if claim.told == "speed" else words.change
    return Finding(
        verdict=verdict,
        on=on,
        estimate=short(expected.before, expected.after),
        measured=short(measured.before, measured.after) if measured else None,
        receipts=measured.receipts if measured else (),
        sentence=sentence,
    )


def _judge_timing(told: str, pair: _Pair, percent: Range) -> Verdict:
    """A change of so many percent may be one of time or of speed: the kinder one counts."""
    time, speed = pair.after / pair.before, pair.before / pair.after
    if told == "speed":
        return judge_percent(100 * speed, percent)
    gained = (1 - time, speed - 1) if told == "faster" else (time - 1, 1 - speed)
    return better(*(judge_percent(100 * share, percent) for share in gained))


def _duration(claim: Duration, bench: Bench) -> Finding:
    """Seconds on cards that were not measured: with what the optimizer chooses for them."""
    pairs = [(work, card) for card in claim.cards for work in claim.of]
    planned = [found for pair in pairs if (found := bench.planned(*pair)) is not None]
    if not planned:
        return Finding(verdict=Verdict.WRONG, estimate=words.NOTHING, sentence=words.NO_SETTINGS)
    seconds = [found.seconds for found in planned]
    verdict = judge_span(seconds, claim.seconds)
    on, sentence = None, words.span(seconds, claim.cards)
    if not verdict.stands:
        shorter = [*seconds, *map(_short_seconds, planned)]
        whole = [bench.whole(*pair) for pair in pairs]
        if_whole = [found.seconds for found in whole] + [_short_seconds(found) for found in whole]
        if judge_span(shorter, claim.seconds).stands:
            verdict, on = Verdict.DEPENDS, words.ON_LENGTH
            sentence = words.joined(sentence, words.by_length(shorter))
        elif claim.whole and judge_span(if_whole, claim.seconds).stands:
            verdict, on = Verdict.DEPENDS, words.ON_STAYING
            sentence = words.joined(sentence, words.if_whole(if_whole))
    figure = words.seconds_span(seconds)
    return Finding(verdict=verdict, on=on, estimate=figure, sentence=sentence)


def _short_seconds(found: Estimate) -> float:
    """Seconds with an answer of a few tokens; the same where no text is written."""
    return sum(
        phase.seconds * (SHORT_ANSWER if phase.name == "generate" else 1) for phase in found.phases
    )


def _facts(claim: Facts) -> Finding:
    have = {name: _fact(claim, name) for name in claim.values}
    differing = {name: value for name, value in have.items() if value != claim.values[name]}
    on = None
    if differing:
        verdict, sentence = Verdict.WRONG, words.differs(differing)
    elif claim.reading is not None:
        verdict, on = Verdict.DEPENDS, claim.reading
        sentence = words.sentence(claim.reading)
    else:
        verdict, sentence = Verdict.HOLDS, words.SAME_IN_CATALOGUE
    figure = words.values(differing) if differing else words.THE_SAME
    return Finding(verdict=verdict, on=on, estimate=figure, sentence=sentence)


def _fact(claim: Facts, name: str) -> Any:
    model = load_models()[claim.model]
    if claim.part in FACT_PARTS:
        owner: Any = model
        return getattr(owner.defaults if claim.part == "defaults" else owner, name)
    return model.configs[claim.part].get(name)


def _arithmetic(claim: Arithmetic) -> Finding:
    share = claim.claimed / claim.result
    verdict = judge_percent(100 * share, (100.0, 100.0)) if share != 1 else Verdict.HOLDS
    figure = words.number(claim.result)
    return Finding(verdict=verdict, estimate=figure, sentence=words.comes_to(claim.result))


def _unchecked(claim: Unchecked) -> Finding:
    why = claim.why
    if why is None:
        waits = claim.model not in load_models()
        why = words.not_in_catalogue(claim.model) if waits else words.no_run_of(claim.model)
    return Finding(verdict=Verdict.UNCHECKED, sentence=why)
