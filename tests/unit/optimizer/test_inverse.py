"""Plans asked backwards: the same answers as asking every request, frontier included."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.unit.optimizer.test_plan import FULL, parse, plan, target_of
from webui.catalogue import find_model
from webui.core.request import Request
from webui.estimator.estimate import estimate
from webui.estimator.target import Target
from webui.hardware import find_card, load_cards
from webui.optimizer.candidates import candidates, quality_cost
from webui.optimizer.frontier import MOST_POINTS, find_frontier
from webui.optimizer.inverse import find_most, smallest_card
from webui.optimizer.ladder import first_that_fits, ladders, listed_sizes
from webui.optimizer.search import find_best
from webui.optimizer.setting_ladders import setting_ladders

TIGHT: list[tuple[str, dict[str, Any]]] = [
    ("rtx-3060-12gb", {**FULL, "vram_gib": 3}),
    ("rtx-3060-12gb", {**FULL, "vram_gib": 5, "settings": {"vae_tiling": False}}),
    ("rtx-4090", {**FULL, "vram_gib": 8, "settings": {"offload": "none"}}),
    ("rtx-2080-ti", {**FULL, "vram_gib": 4, "platform": "windows"}),
]


def fits(card: str, request: Request) -> bool:
    """What `make_plan` would say, without looking for the nearest that fits."""
    return find_best(find_model(request.model), request, target_of(request, card)) is not None


@pytest.mark.parametrize(("card", "data"), TIGHT, ids=str)
def test_the_most_frames_are_those_that_asking_each_number_finds(
    card: str, data: dict[str, Any]
) -> None:
    request = parse(**data)
    model = find_model(request.model)
    answer = find_most(model, request, target_of(request, card), "frames")
    counts = [asked.frames for asked in ladders(model, request)["frames"].requests]
    counts = [count for count in counts if count <= 81]
    fitting = [count for count in counts if fits(card, request.with_changes(frames=count))]
    if answer.found and answer.request.frames > 81:
        assert fitting == counts
        assert fits(card, answer.request)
        more = answer.request.frames + model.frame_step
        if more <= model.max_frames:
            assert not fits(card, request.with_changes(frames=more))
    else:
        assert answer.found == bool(fitting)
        assert not fitting or answer.request.frames == max(fitting)


@pytest.mark.parametrize("frames", [141, 241, 481])
def test_what_does_not_fit_is_offered_as_many_frames_as_fit(frames: int) -> None:
    """However far beyond the card it is: settings that are leanest for much less may be others."""
    asked = {"model": "wan2.1-t2v-14b", "width": 1280, "height": 720, "frames": frames}
    request = parse(**asked)
    made = plan("rtx-4060", **asked)
    assert not made.fits
    offered = next(o.changes["frames"] for o in made.alternatives if "frames" in o.changes)
    target = target_of(request, "rtx-4060")
    most = find_most(find_model(request.model), request, target, "frames")
    assert offered == most.request.frames


def test_clips_are_never_fewer_but_fewer_are_offered() -> None:
    data = {**FULL, "vram_gib": 6, "settings": {"offload": "none", "text_encoder": "absent"}}
    one = parse(**data, batch=1)
    most = find_most(find_model(one.model), one, target_of(one, "rtx-4090"), "batch")
    assert most.found and 1 <= most.request.batch < 8
    too_many = most.request.batch + 1
    made = plan("rtx-4090", **data, batch=too_many)
    assert not made.fits and made.request.batch == too_many
    (offer,) = [offer for offer in made.alternatives if "batch" in offer.changes]
    assert offer.changes == {"batch": most.request.batch}
    plural = "s" if most.request.batch > 1 else ""
    assert offer.text.en == f"Fits at {most.request.batch} clip{plural}"


@pytest.mark.parametrize(("card", "data"), TIGHT[:2], ids=str)
def test_the_largest_size_is_the_one_that_asking_each_size_finds(
    card: str, data: dict[str, Any]
) -> None:
    request = parse(**data)
    model = find_model(request.model)
    answer = find_most(model, request, target_of(request, card), "size")
    sizes = ladders(model, request)["size"].requests
    ladder = [size for size in sizes if size.height <= 640][::3]
    asked = [size for size in ladder if fits(card, size)]
    assert answer.found and asked
    for size in ladder:
        assert (size in asked) == (size.height <= answer.request.height)
    assert answer.request.width / answer.request.height == pytest.approx(832 / 480, rel=0.1)
    own = [size for size in listed_sizes(model, request) if fits(card, size)]
    assert answer.listed == (own[0] if own else None)


def test_the_smallest_card_is_the_first_that_fits() -> None:
    for data in (FULL, {**FULL, "model": "wan2.1-t2v-14b", "settings": {"offload": "none"}}):
        request = parse(**data)
        by_memory = sorted(load_cards().values(), key=lambda card: card.vram_bytes)
        cards = [
            (card, Target(card=card, limit_bytes=card.vram_bytes, host=find_card("cpu")))
            for card in by_memory
        ]
        answer = smallest_card(find_model(request.model), request, cards)
        first = next(card.name for card in by_memory if fits(card.name, request))
        assert answer.found and answer.request.card == first
        assert answer.to_json()["card"] == first and answer.request.vram_gib is None


def test_where_nothing_fits_the_answer_is_null() -> None:
    request = parse(**FULL, vram_gib=0.25)
    model, target = find_model(request.model), target_of(request, "rtx-4090")
    frames, size = (find_most(model, request, target, name) for name in ("frames", "size"))
    assert not frames.found and frames.to_json()["frames"] is None and frames.request.frames == 1
    assert not size.found and size.to_json()["width"] is None and size.listed is None
    none = smallest_card(model, request, [(target.card, target)])
    assert not none.found and none.to_json()["card"] is None
    for answer in (frames, size, none):
        assert answer.text.en and answer.text.zh


def test_bisection_is_right_on_every_border() -> None:
    model, request = find_model("demo"), parse(model="demo")
    ladder = ladders(model, request)["frames"].requests[-21:]
    for border in range(len(ladder) + 1):
        most = ladder[border].frames if border < len(ladder) else 0
        found = first_that_fits(ladder, lambda asked, most=most: asked.frames <= most)  # type: ignore[misc]
        assert (found.frames if found else 0) == most


def test_ladders_keep_to_the_models_grid() -> None:
    model, request = find_model(FULL["model"]), parse(**FULL)  # type: ignore[arg-type]
    frames, sizes = (ladders(model, request)[name] for name in ("frames", "size"))
    assert frames.requests[0].frames == model.max_frames
    assert frames.below(request).requests[0].frames == request.frames - 4
    assert sizes.below(request).requests[0].height < request.height
    for size in sizes.requests:
        assert size.width % model.size_multiple == size.height % model.size_multiple == 0
        assert max(size.width, size.height) <= model.max_side
    assert listed_sizes(model, request)[0].width == 832
    tall = request.with_changes(width=480, height=832)
    assert listed_sizes(model, tall)[0].width == 480


CHOICES: list[tuple[str, dict[str, Any]]] = [
    ("rtx-3060-12gb", FULL),
    ("rtx-3060-12gb", {**FULL, "vram_gib": 3}),
    ("rtx-4090", {**FULL, "settings": {"offload": "none", "vae_tiling": False}}),
    ("gtx-1060-6gb", {**FULL, "vram_gib": 0.5}),
    ("cpu", {"model": "demo"}),
]


@pytest.mark.parametrize(("card", "data"), CHOICES, ids=str)
def test_nothing_beats_a_point_of_the_frontier(card: str, data: dict[str, Any]) -> None:
    made = plan(card, **data)
    model, target = find_model(made.request.model), target_of(made.request, card)
    points = find_frontier(model, made.request, target, made.estimate)
    assert 1 <= len(points) <= MOST_POINTS
    (chosen,) = [point for point in points if point.chosen]
    assert chosen.settings == made.settings and chosen.fits == made.fits
    every = [
        estimate(model, made.request, settings, target)
        for settings in candidates(model, made.request, target)
    ]
    for point in points:
        for other in every:
            assert not (
                other.peak_device_bytes <= point.peak_device_bytes
                and other.seconds <= point.seconds
                and quality_cost(other.settings) <= point.quality_cost
                and (other.peak_device_bytes, other.seconds, quality_cost(other.settings))
                != (point.peak_device_bytes, point.seconds, point.quality_cost)
                and other.seconds < point.seconds * (1 - 1e-9)
            ), (point, other.settings)


def test_a_long_frontier_keeps_its_ends_and_the_chosen_one() -> None:
    made = plan("rtx-3060-12gb", **FULL)
    model, target = find_model(made.request.model), target_of(made.request, "rtx-3060-12gb")
    whole = find_frontier(model, made.request, target, made.estimate, most=1000)
    for most in range(3, len(whole)):
        few = find_frontier(model, made.request, target, made.estimate, most=most)
        assert len(few) <= most
        assert (few[0], few[-1]) == (whole[0], whole[-1])
        assert any(point.chosen for point in few)


def test_random_limits_agree_with_asking_each_number() -> None:
    chance = random.Random(3)
    model = find_model("demo")
    for _ in range(6):
        request = parse(model="demo", vram_gib=round(chance.uniform(0.75, 1.4), 2))
        answer = find_most(model, request, target_of(request, "rtx-4090"), "frames")
        ladder = ladders(model, request)["frames"].requests
        fitting = [asked.frames for asked in ladder if fits("rtx-4090", asked)]
        assert (answer.request.frames if answer.found else None) == max(fitting, default=None)


@pytest.mark.parametrize(
    ("question", "setting", "data"),
    [
        ("pages", "page_batch",
         {"task": "parse", "model": "logics-parsing-v2", "vram_gib": 14, "pages": "1-3"}),
        ("tile", "tile",
         {"task": "upscale", "model": "flashvsr-v1.1", "vram_gib": 10, "frames": 21,
          "height": 720, "width": 1280}),
    ],
)  # fmt: skip
def test_the_most_of_a_setting_fits_and_hardly_more(
    question: str, setting: str, data: dict[str, Any]
) -> None:
    request = parse(**data)
    model, target = find_model(request.model, request.task), target_of(request, "rtx-4090")
    answer = find_most(model, request, target, question)
    assert answer.found and answer.changes == {"settings": answer.request.settings}
    most = answer.changes["settings"][setting]
    assert str(most) in answer.text.en and str(most) in answer.text.zh
    assert find_best(model, answer.request, target) is not None
    larger = setting_ladders(model, request)[question].requests
    beyond = [rung for rung in larger if rung.settings[setting] > most][-1]
    if question == "pages":  # as many pages as go together
        assert beyond.repeats == most + 1
    assert find_best(model, beyond, target) is None
