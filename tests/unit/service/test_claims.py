"""The guides' claims: data that parses, verdicts at their borders, measurements that exist."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from webui.__main__ import main
from webui.catalogue import find_model
from webui.catalogue.claims import Added, Change, Duration, Fits, Memory, Work, load_guides
from webui.core.errors import BadInput
from webui.core.parse import parse_request
from webui.core.settings import with_defaults
from webui.core.units import GIB
from webui.estimator.verified import read_receipts
from webui.hardware import find_card
from webui.service.claims import BackgroundCheck, check_claims, check_shipped
from webui.service.claims.bench import Bench, same_work
from webui.service.claims.checks import check
from webui.service.claims.verdicts import (
    Verdict,
    bytes_of,
    judge_amount,
    judge_fit,
    judge_percent,
    judge_span,
)

FOLDER = Path(__file__).parents[2] / "gpu"
RUNS = [
    item
    for name in ("claims.yaml", "claims_speed.yaml")
    for item in yaml.safe_load((FOLDER / name).read_text("utf-8"))
]
"""What was run for the claims."""
SCRIPT = {
    "model": "chatglm3-6b",
    "prompt_tokens": 1000,
    "new_tokens": 1024,
    "settings": {"precision": "bf16"},
}
"""A recorded run has 128 of these tokens."""
CLIP = {"model": "svd-xt", "settings": {"precision": "fp16"}}


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(read_receipts())


def works() -> Iterator[tuple[Work, bool]]:
    """Every work that a claim is compared with, and whether within limits."""
    for guide in load_guides():
        for claim in guide.claims:
            for one in (claim.check, *(reading.check for reading in claim.otherwise)):
                match one:
                    case Memory():
                        yield from ((work, False) for work in one.of)
                    case Change() | Added():
                        yield from ((work, False) for work in (*one.before, *one.after))
                    case Fits() | Duration():
                        yield from ((work, True) for work in one.of)


def test_every_claim_is_checked_and_said_in_both_languages() -> None:
    checked = check_shipped()
    assert len({one.id for one in checked}) == len(checked) >= 110
    assert {one.guide.name for one in checked} == {guide.name for guide in load_guides()}
    for one in checked:
        for text in (one.claim.says, one.found.sentence, one.found.shown):
            assert text.en and text.zh and text.en != text.zh, one.id
        assert (one.found.on is not None) == (one.found.verdict is Verdict.DEPENDS), one.id


def test_measurements_rest_on_receipts_that_ship() -> None:
    shipped = {receipt.id for receipt in read_receipts()}
    checked = check_shipped()
    for one in checked:
        assert set(one.found.receipts) <= shipped, one.id
        assert (one.found.measured is not None) <= bool(one.found.receipts), one.id
        assert one.found.measured is None or one.found.estimate is not None, one.id


def test_cards_that_claims_name_are_known() -> None:
    for guide in load_guides():
        for claim in guide.claims:
            if isinstance(claim.check, Fits | Duration):
                assert all(find_card(card).kind == "cuda" for card in claim.check.cards)


def test_the_list_of_runs_has_what_the_claims_rest_on(bench: Bench) -> None:
    runs = [parse_request(item, find_model) for item in RUNS]
    filled = [with_defaults(run.settings, find_model(run.model, run.task).settings) for run in runs]
    for work, limited in works():
        wanted = bench.request(work)
        if int(wanted.settings.get("gpus", 1)) > 1 or limited:
            continue
        whole = bench.whole(work).settings
        assert bench.run_of(work) is not None or any(
            same_work(wanted, run) and settings == whole and run.vram_gib is None
            for run, settings in zip(runs, filled, strict=True)
        ), work


def test_the_runs_fit_what_they_are_run_within(bench: Bench) -> None:
    for item in RUNS:
        cap = item.get("vram_gib")
        if cap is None:
            assert bench.whole(item).fits
        else:
            request = bench.request(item)
            assert request.vram_gib == cap and set(item["settings"]) <= {
                "precision", "vae_precision",
            }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "bounds", "verdict"),
    [
        (11.0, (10.0, 10.0), Verdict.HOLDS),
        (11.01, (10.0, 10.0), Verdict.ROUGHLY),
        (12.5, (10.0, 10.0), Verdict.ROUGHLY),
        (12.6, (10.0, 10.0), Verdict.WRONG),
        (7.5, (10.0, 12.0), Verdict.ROUGHLY),
        (7.4, (10.0, 12.0), Verdict.WRONG),
        (99.0, (16.0, None), Verdict.HOLDS),
    ],
)
def test_amounts_at_their_borders(
    value: float, bounds: tuple[float, float | None], verdict: Verdict
) -> None:
    assert judge_amount(value, bounds) is verdict


@pytest.mark.parametrize(
    ("value", "bounds", "verdict"),
    [
        (28.0, (30.0, 40.0), Verdict.HOLDS),
        (27.9, (30.0, 40.0), Verdict.ROUGHLY),
        (50.0, (30.0, 40.0), Verdict.ROUGHLY),
        (50.1, (30.0, 40.0), Verdict.WRONG),
        # A small change must be met more closely: no change at all is not 7 %.
        (5.7, (7.0, 7.0), Verdict.HOLDS),
        (0.0, (7.0, 7.0), Verdict.WRONG),
        (0.0, (5.0, 100.0), Verdict.WRONG),
        (390.0, (0.0, 20.0), Verdict.WRONG),
    ],
)
def test_changes_at_their_borders(
    value: float, bounds: tuple[float, float], verdict: Verdict
) -> None:
    assert judge_percent(value, bounds) is verdict


def test_a_span_needs_only_to_be_met() -> None:
    assert judge_span([100, 300], (120, 120)) is Verdict.HOLDS
    assert judge_span([134, 300], (120, 120)) is Verdict.ROUGHLY
    assert judge_span([10, 20], (120, 240)) is Verdict.WRONG


def test_a_gb_may_be_either() -> None:
    assert bytes_of((5, 5)) == (5e9, 5 * GIB)
    assert bytes_of((16, None)) == (16e9, None)


@pytest.mark.parametrize(
    ("says", "found", "verdict"),
    [
        ("yes", "yes", Verdict.HOLDS),
        ("yes", "one", Verdict.DEPENDS),
        ("yes", "planned", Verdict.DEPENDS),
        ("yes", "no", Verdict.WRONG),
        ("one", "one", Verdict.HOLDS),
        ("one", "yes", Verdict.HOLDS),
        ("one", "planned", Verdict.DEPENDS),
        ("no", "no", Verdict.HOLDS),
        ("no", "planned", Verdict.DEPENDS),
        ("no", "one", Verdict.WRONG),
        ("no", "yes", Verdict.WRONG),
    ],
)
def test_cards(says: str, found: str, verdict: Verdict) -> None:
    assert judge_fit(says, found) is verdict


def test_a_verdict_rests_on_the_recorded_run(bench: Bench) -> None:
    (run,) = [each for each in read_receipts() if each.id == "af919ef41cb0"]
    assert run.measurement is not None
    found = check(Memory(gb=(12.5, 12.5), of=(SCRIPT,)), (), bench)
    assert found.receipts == (run.id,)
    assert found.measured is not None and found.measured.en == "12.53 GiB"
    assert found.verdict is Verdict.HOLDS
    # Without it the estimate stands in, and the sentence says so.
    alone = check(Memory(gb=(12.5, 12.5), of=(SCRIPT,)), (), Bench(()))
    assert alone.measured is None and "estimated" in alone.sentence.en


def test_what_comes_on_top_is_the_difference_of_two_runs(bench: Bench) -> None:
    by_id = {
        run.id: run.measurement.peak_device_bytes for run in read_receipts() if run.measurement
    }
    more = by_id["30865e2720e4"] - by_id["0c012a8132cb"]
    fewer = {**CLIP, "frames": 15}
    claim = Added(size_bytes=(more, more), by_formula=False, before=(fewer,), after=(CLIP,))
    found = check(claim, (), bench)
    assert found.verdict is Verdict.HOLDS and set(found.receipts) == {
        "30865e2720e4", "0c012a8132cb",
    }  # fmt: skip
    third = replace(claim, size_bytes=(more / 3, more / 3))
    found = check(third, (), bench)
    assert found.verdict is Verdict.WRONG and "3.0 times that" in found.sentence.en


def test_a_shorter_run_is_scaled(bench: Bench) -> None:
    (run,) = [each for each in read_receipts() if each.id == "af919ef41cb0"]
    assert run.measurement is not None
    by_name = {phase.name: phase.seconds for phase in run.measurement.phases}
    found = bench.measured_seconds((SCRIPT,))
    assert found is not None
    assert found.value == pytest.approx(by_name["prefill"] + 1024 / 128 * by_name["generate"])


def test_the_fastest_of_long_enough_runs_is_timed() -> None:
    (run,) = [each for each in read_receipts() if each.id == "af919ef41cb0"]
    assert run.measurement is not None
    quick = replace(
        run,
        id="quick",
        measurement=replace(
            run.measurement,
            phases=tuple(replace(p, seconds=p.seconds / 2) for p in run.measurement.phases),
        ),
    )
    short = replace(quick, id="short", request={**run.request, "new_tokens": 64})
    found = Bench((run, quick, short)).measured_seconds((SCRIPT,))
    assert found is not None and found.receipts == ("quick",)
    assert Bench((short,)).measured_seconds((SCRIPT,)) is None
    assert Bench((short,)).measured_bytes((SCRIPT,)) is not None


def test_two_models_on_the_card_count_their_weights_once(bench: Bench) -> None:
    both = bench.estimated_bytes((SCRIPT, CLIP))
    alone = [bench.estimated_bytes((work,)) for work in (SCRIPT, CLIP)]
    weights = [bench.weights_bytes((work,)) for work in (SCRIPT, CLIP)]
    assert both == max(alone[0] + weights[1], alone[1] + weights[0])


def test_a_run_within_a_limit_counts_for_every_larger_card(bench: Bench) -> None:
    run = bench.limited_run(CLIP, "rtx-3060-12gb")
    assert run is not None and run.measurement is not None
    assert run.request["vram_gib"] <= find_card("rtx-3060-12gb").vram_bytes / GIB
    assert run.measurement.peak_device_bytes <= run.request["vram_gib"] * GIB
    smaller = bench.limited_run(CLIP, "gtx-1060-6gb")
    assert smaller is not None and smaller.request["vram_gib"] < run.request["vram_gib"]
    assert bench.limited_run({**CLIP, "frames": 13}, "rtx-3060-12gb") is None


def test_a_claim_that_fits_the_weights_depends(bench: Bench) -> None:
    found = check(Memory(gb=(5, 5), of=(CLIP,)), (), bench)
    assert found.verdict is Verdict.DEPENDS
    assert found.on is not None and "weights" in found.on.en


def test_cards_that_need_other_settings_were_tried() -> None:
    for one in check_shipped():
        found = one.found
        if isinstance(one.claim.check, Fits) and found.on is not None and "save" in found.on.en:
            assert found.measured is not None and "within a limit of" in found.sentence.en, one.id


def test_no_receipts_no_measurements() -> None:
    assert not any(one.found.measured for one in check_claims(()))


def test_a_file_with_a_wrong_key_is_named(tmp_path: Path) -> None:
    guide = {
        "guide": {"en": "A", "zh": "甲"},
        "works": {"script": SCRIPT},
        "claims": [{"id": "a", "says": {"en": "A", "zh": "甲"}, "memory": {"gb": 1, "off": "x"}}],
    }
    path = tmp_path / "1-a.yaml"
    path.write_text(yaml.safe_dump(guide), encoding="utf-8")
    with pytest.raises(BadInput, match=r"1-a\.yaml, a: there is no key 'off'"):
        load_guides(tmp_path)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["id"] for answer in answers] == [one.id for one in check_shipped()]
    assert main(["claims"]) == 0
    assert f"{len(answers)} claims: holds " in capsys.readouterr().out


def test_nobody_waits_for_the_check_in_the_background() -> None:
    began = time.monotonic()
    check = BackgroundCheck(pause_s=0)
    assert check.found() is None and time.monotonic() - began < 1
    while (found := check.found()) is None:
        assert time.monotonic() - began < 60
        time.sleep(0.1)
    assert [one.to_json() for one in found] == [one.to_json() for one in check_shipped()]
