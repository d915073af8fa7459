"""Tapes: exact fits, what is refused, the round trip, and the phases put together from them."""

from __future__ import annotations

import random

import numpy as np
import pytest

from webui.estimator.allocator import CachingAllocator
from webui.estimator.events import PhaseEvents, rounded
from webui.estimator.tape import (
    ALLOCATE,
    CALL,
    COSTS,
    LOAD,
    NONE,
    RELEASE,
    SCRATCH,
    Tape,
    cost_monomials,
    monomial_names,
    monomials,
)
from webui.estimator.tape_builder import TapeBuilder
from webui.tracing.fit import NotOneTape, fit_costs, fit_tape, grid
from webui.tracing.recorder import MARK, Event

FHW = ("f", "h", "w")
SHAPES = [*grid(f=(3, 5), h=(8, 12), w=(16, 22)), {"f": 7, "h": 14, "w": 26}]


def recording(shape: dict[str, int]) -> list[Event]:
    f, h, w = shape["f"], shape["h"], shape["w"]
    return [
        Event(ALLOCATE, 10, 4 * f * h * w + 100),
        Event(MARK, 10, mark="a place"),
        Event(ALLOCATE, 11, 2 * (f + 2) * (h + 1) * (w + 1) * 96),
        Event(SCRATCH, -1, 3 * h * w),
        Event(RELEASE, 7),  # lived before
        Event(RELEASE, 10),
        Event(LOAD, -1, 12345),
        Event(RELEASE, 5),  # and another
        Event(ALLOCATE, 12, f * w * 7),
    ]


def test_monomials() -> None:
    assert monomial_names(FHW)[0] == ()
    assert monomial_names(FHW)[-1] == FHW
    assert len(monomial_names(FHW)) == 8
    shape = {"f": 2, "h": 3, "w": 5}
    assert monomials(shape, FHW).tolist() == [1, 2, 3, 5, 6, 10, 15, 30]
    assert cost_monomials(shape, FHW)[-1] == 900


def test_a_multilinear_fit_is_exact_everywhere() -> None:
    tape = fit_tape([(shape, recording(shape)) for shape in SHAPES], FHW)
    assert tape.kind.tolist() == [
        event.kind for event in recording(SHAPES[0]) if event.kind != MARK
    ]
    for shape in (
        {"f": 1, "h": 4, "w": 4},
        {"f": 21, "h": 60, "w": 104},
        {"f": 65, "h": 9, "w": 7},
    ):
        wanted = [rounded(event.size_bytes) for event in recording(shape) if event.kind != MARK]
        assert tape.sizes(shape).tolist() == wanted


def test_the_first_product_is_known_and_kept_in_files() -> None:
    def with_products(shape: dict[str, int], *places: int) -> list[Event]:
        events = recording(shape)
        for place in places:
            events[place].product = True
        return events

    tape = fit_tape([(shape, with_products(shape, 2, 8)) for shape in SHAPES], FHW)
    assert tape.first_product == 1, "a mark is no event of a tape"
    assert Tape.from_arrays(tape.to_arrays("a"), "a").first_product == 1
    assert fit_tape([(shape, recording(shape)) for shape in SHAPES], FHW).first_product == NONE
    unknown = {name: made for name, made in tape.to_arrays("a").items() if name != "a.product"}
    assert Tape.from_arrays(unknown, "a").first_product is None
    with pytest.raises(NotOneTape, match="product"):
        fit_tape(
            [(shape, with_products(shape, 2 + 6 * at)) for at, shape in enumerate(SHAPES[:2])], FHW
        )


@pytest.mark.parametrize(("product", "place"), [(2, 3), (None, 0), (NONE, None)])
def test_the_workspace_comes_with_the_first_product(product: int | None, place: int | None) -> None:
    """Behind its result; before the tape where nobody knows, and never where there is none."""
    tape = Tape(
        variables=(),
        kind=np.array([LOAD, ALLOCATE, ALLOCATE, RELEASE], dtype=np.int8),
        slot=np.array([0, 1, 2, 1], dtype=np.int32),
        coefficients=np.array([[512.0], [1024.0], [2048.0], [0.0]]),
        first_product=product,
    )
    events = PhaseEvents([])
    events.allocate_at_product([32 * 2**20], "workspace")
    for _ in range(2):
        events.play(tape, {}, what="a layer")
    deltas = events.timeline().deltas.tolist()
    once = [512, 1024, 2048, -1024]
    expected = once * 2
    sources = ["a layer"] * 8
    if place is not None:
        expected.insert(place, 32 * 2**20)
        sources.insert(place, "workspace")
    assert deltas == expected
    born = [index for index, delta in enumerate(deltas) if delta > 0]
    described = sorted((live.size_bytes, live.source) for live in events.described(born))
    assert described == sorted((deltas[index], sources[index]) for index in born)
    events.release_made()
    live = 0 if place is None else 32 * 2**20
    assert sum(events.timeline().deltas.tolist()) == live


def test_a_phase_in_which_nothing_happens_holds_what_is_resident() -> None:
    nothing = Tape(
        variables=(),
        kind=np.empty(0, dtype=np.int8),
        slot=np.empty(0, dtype=np.int32),
        coefficients=np.empty((0, 1)),
        first_product=NONE,
    )
    events = PhaseEvents([np.array([4096])])
    events.allocate_at_product([32 * 2**20], "workspace")
    events.play(nothing, {})
    assert events.peak_live_bytes() == 4096 and events.live_at_peak() == []
    assert events.replay(expandable=True, limit_bytes=None).allocated_bytes == 4096


def test_the_first_product_may_be_in_what_is_called() -> None:
    """A loop's tape calls another one before its own product."""
    outer = Tape(
        variables=(),
        kind=np.array([ALLOCATE, CALL, ALLOCATE], dtype=np.int8),
        slot=np.array([0, 0, 1], dtype=np.int32),
        coefficients=np.array([[512.0], [3.0], [1024.0]]),
        first_product=2,
    )
    inner = Tape(
        variables=(),
        kind=np.array([ALLOCATE], dtype=np.int8),
        slot=np.array([0], dtype=np.int32),
        coefficients=np.array([[2048.0]]),
        first_product=0,
    )
    for called, expected in ((inner, [512, 2048, 4096, 1024]), (None, [512, 1024, 4096])):
        events = PhaseEvents([])
        events.allocate_at_product([4096], "workspace")

        def on_call(count: int, called: Tape | None = called, events: PhaseEvents = events) -> None:
            assert count == 3
            if called is not None:
                events.play(called, {})

        events.play(outer, {}, on_call=on_call)
        assert events.timeline().deltas.tolist() == expected


def test_a_tape_of_tapes_has_the_first_product_that_is_known() -> None:
    def played(*products: int | None) -> int | None:
        builder = TapeBuilder()
        for product in products:
            part = Tape(
                variables=(),
                kind=np.array([ALLOCATE, RELEASE], dtype=np.int8),
                slot=np.zeros(2, dtype=np.int32),
                coefficients=np.array([[512.0], [0.0]]),
                first_product=product,
            )
            builder.play(part, np.empty(0, np.int64), "a part")
        return builder.build().first_product

    assert played(NONE, 0, 0) == 2 and played(NONE, NONE) == NONE
    assert played(NONE, None, 0) is None and played(0, None) == 0


def test_slots_before_the_tape_are_negative() -> None:
    tape = fit_tape([(shape, recording(shape)) for shape in SHAPES], FHW)
    #             alloc alloc scratch outside release load outside alloc
    assert tape.slot.tolist() == [0, 1, 0, -1, 0, 2, -2, 3]


def test_what_is_not_multilinear_is_refused() -> None:
    def squared(shape: dict[str, int]) -> list[Event]:
        return [Event(ALLOCATE, 0, shape["h"] ** 2 * 512)]

    with pytest.raises(NotOneTape, match="not multilinear"):
        fit_tape([(shape, squared(shape)) for shape in SHAPES], FHW)
    with pytest.raises(NotOneTape, match="not multilinear"):
        # A jump at one shape only, as when a library takes another algorithm there.
        fit_tape(
            [
                (shape, [Event(ALLOCATE, 0, 512 * shape["f"] + 4096 * (shape["f"] > 5))])
                for shape in SHAPES
            ],
            FHW,
        )


def test_other_events_at_one_shape_are_refused() -> None:
    runs = [(shape, recording(shape)) for shape in SHAPES]
    longer = [*runs[:-1], (SHAPES[-1], [*recording(SHAPES[-1]), Event(ALLOCATE, 20, 1)])]
    with pytest.raises(NotOneTape, match="events differ"):
        fit_tape(longer, FHW)
    swapped = recording(SHAPES[-1])
    swapped[3], swapped[2] = swapped[2], swapped[3]
    with pytest.raises(NotOneTape):
        fit_tape([*runs[:-1], (SHAPES[-1], swapped)], FHW)
    other_storage = recording(SHAPES[-1])
    other_storage[5] = Event(RELEASE, 11)
    with pytest.raises(NotOneTape, match="events differ"):
        fit_tape([*runs[:-1], (SHAPES[-1], other_storage)], FHW)


def test_costs_hold_the_square_of_the_tokens() -> None:
    def costs(shape: dict[str, int]) -> dict[str, float]:
        tokens = shape["f"] * shape["h"] * shape["w"]
        return {
            "matmul": 6.0 * tokens,
            "conv": 0.0,
            "attention": 4.0 * tokens**2,
            "bytes": 2.0 * tokens + 9,
            "kernels": 77.0,
        }

    shapes = [*SHAPES, {"f": 9, "h": 10, "w": 12}]
    fitted = fit_costs([(shape, costs(shape)) for shape in shapes], FHW)
    assert fitted.shape == (len(COSTS), 9)
    shape = {"f": 21, "h": 60, "w": 104}
    found = dict(zip(COSTS, fitted @ cost_monomials(shape, FHW), strict=True))
    for name, value in costs(shape).items():
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-3)


def test_round_trip_through_arrays() -> None:
    tape = fit_tape([(shape, recording(shape)) for shape in SHAPES], FHW)
    arrays = tape.to_arrays("denoise.leaf")
    assert all(name.startswith("denoise.leaf.") for name in arrays)
    back = Tape.from_arrays(arrays, "denoise.leaf")
    assert back.variables == tape.variables
    for name in ("kind", "slot", "coefficients"):
        assert np.array_equal(getattr(back, name), getattr(tape, name))


def test_a_tape_without_variables() -> None:
    events = [Event(ALLOCATE, 0, 1000), Event(RELEASE, 0)]
    tape = fit_tape([({}, events)], ())
    assert tape.sizes({}).tolist() == [1024, 0]
    back = Tape.from_arrays(tape.to_arrays("x"), "x")
    assert back.variables == () and back.sizes({}).tolist() == [1024, 0]


def random_tape(chance: random.Random, outside: int) -> Tape:
    """A tape with every kind of event, some storages left alive, and `outside` releases."""
    kinds, slots, sizes = [], [], []
    live: list[int] = []
    made, left = 0, list(range(-1, -1 - outside, -1))
    for _ in range(60):
        action = chance.random()
        if action < 0.35 and live:
            kinds.append(RELEASE)
            slots.append(live.pop(chance.randrange(len(live))))
            sizes.append(0.0)
        elif action < 0.45 and left:
            kinds.append(RELEASE)
            slots.append(left.pop(0))
            sizes.append(0.0)
        elif action < 0.55 and made:
            kinds.append(SCRATCH)
            slots.append(0)
            sizes.append(chance.uniform(1, 1e7))
        else:
            kinds.append(LOAD if chance.random() < 0.2 else ALLOCATE)
            slots.append(made)
            sizes.append(2.0 ** chance.uniform(4, 25))
            live.append(made)
            made += 1
    for slot in left:
        kinds.append(RELEASE)
        slots.append(slot)
        sizes.append(0.0)
    return Tape((), np.array(kinds), np.array(slots), np.array(sizes)[:, None])


@pytest.mark.parametrize("seed", range(12))
def test_live_bytes_and_the_replay_agree(seed: int) -> None:
    """live <= allocated <= reserved; with expandable segments the first two are one figure."""
    chance = random.Random(seed)
    events = PhaseEvents([np.array([chance.randrange(1, 10**7) for _ in range(9)])])
    survivors: list[int] = []
    for _ in range(4):
        taken = chance.sample(survivors, min(len(survivors), 2))
        survivors = [key for key in survivors if key not in taken]
        survivors += events.play(random_tape(chance, len(taken)), {}, tuple(taken)).values()
    events.release(*survivors[:3])
    events.allocate(3e6)
    peak = events.peak_live_bytes()
    assert peak >= events.peak_live_bytes(with_scratch=False) >= events.resident_bytes
    for expandable in (True, False):
        replay = events.replay(expandable, None)
        assert replay.fits and replay.retries == 0
        assert replay.resident_bytes == events.resident_bytes
        assert peak <= replay.allocated_bytes <= replay.reserved_bytes
        if expandable:
            assert replay.allocated_bytes == peak
        assert events.replay(expandable, replay.reserved_bytes).fits
        assert not events.replay(expandable, peak - 1).fits


def test_outside_releases_free_what_a_former_tape_made() -> None:
    make = Tape((), np.array([ALLOCATE, ALLOCATE]), np.array([0, 1]), np.array([[1e6], [2e6]]))
    free = Tape(
        (),
        np.array([RELEASE, ALLOCATE, RELEASE]),
        np.array([-1, 0, -2]),
        np.array([[0.0], [4e6], [0.0]]),
    )
    events = PhaseEvents([])
    made = events.play(make, {})
    left = events.play(free, {}, (made[1], made[0]))
    assert list(left) == [0]
    # 1e6 + 2e6, less the 2e6 of the first outside slot, plus 4e6
    assert events.peak_live_bytes() == rounded(1e6) + rounded(4e6)
    assert events.replay(True, None).allocated_bytes == rounded(1e6) + rounded(4e6)


def test_resident_only() -> None:
    events = PhaseEvents([np.array([1000, 3]), np.array([600])])
    assert events.resident_bytes == 1024 + 512 + 1024
    assert events.peak_live_bytes() == events.resident_bytes
    assert events.replay(True, None).allocated_bytes == events.resident_bytes
    assert PhaseEvents([]).peak_live_bytes() == 0


def test_weights_on_the_copy_stream_share_no_blocks() -> None:
    """A freed activation cannot hold a streamed weight: the reserve grows, the peak does not."""
    tape = Tape(
        (),
        np.array([ALLOCATE, RELEASE, LOAD]),
        np.array([0, 0, 1]),
        np.array([[40e6], [0.0], [40e6]]),
    )
    events = PhaseEvents([])
    events.play(tape, {})
    replay = events.replay(True, None)
    assert replay.allocated_bytes == rounded(40e6)
    assert replay.reserved_bytes >= 2 * rounded(40e6)
    same_stream = CachingAllocator(True)
    same_stream.allocate(0, int(40e6))
    same_stream.release(0)
    same_stream.allocate(1, int(40e6))
    assert same_stream.peak_reserved_bytes < 2 * rounded(40e6)
