"""The simulated caching allocator against PyTorch's documented rules, and against chance."""

from __future__ import annotations

import random

import pytest

from webui.core.units import KIB, MIB
from webui.estimator.allocator import COPY_STREAM, CachingAllocator, SimulatedOutOfMemory
from webui.estimator.blocks import LARGE_SEGMENT
from webui.estimator.tape import ALLOCATE, LOAD, RELEASE, SCRATCH


def fixed(limit_mib: int | None = None) -> CachingAllocator:
    return CachingAllocator(False, limit_mib * MIB if limit_mib else None)


def expandable(limit_mib: int | None = None) -> CachingAllocator:
    return CachingAllocator(True, limit_mib * MIB if limit_mib else None)


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        # c10/core/AllocatorConfig.h: kMinBlockSize 512, kSmallSize 1 MiB, kSmallBuffer 2 MiB,
        # kLargeBuffer 20 MiB, kMinLargeAlloc 10 MiB, kRoundLarge 2 MiB.
        (0, 512, 2 * MIB),
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (30 * MIB, 30 * MIB, 30 * MIB),
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),
    ],
)
def test_segments_without_expandable(size: int, allocated: int, reserved: int) -> None:
    allocator = fixed()
    allocator.allocate(1, size)
    assert allocator.reserved_bytes == reserved
    assert allocator.allocated_bytes == allocated


def test_a_small_rest_of_a_large_block_is_not_split_off() -> None:
    allocator = fixed()
    allocator.allocate(1, 11 * MIB + 512)  # a segment of 12 MiB
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (12 * MIB, 12 * MIB)
    allocator.release(1)
    assert allocator.allocated_bytes == 0
    growing = expandable()
    growing.allocate(1, 11 * MIB + 512)
    assert (growing.allocated_bytes, growing.reserved_bytes) == (11 * MIB + 512, 20 * MIB)


def test_small_requests_share_one_segment() -> None:
    allocator = fixed()
    for key in range(4):
        allocator.allocate(key, 512 * KIB)
    assert allocator.reserved_bytes == 2 * MIB
    allocator.allocate(4, 1)
    assert allocator.reserved_bytes == 4 * MIB


def test_the_best_fitting_block_is_taken() -> None:
    allocator = fixed()
    for key, size in ((1, 30), (2, 12), (3, 20)):
        allocator.allocate(key, size * MIB)
    for key in (1, 2, 3):
        allocator.release(key)
    allocator.allocate(4, 12 * MIB)
    allocator.allocate(5, 30 * MIB)
    assert allocator.reserved_bytes == 62 * MIB
    allocator.allocate(6, 20 * MIB)
    assert allocator.reserved_bytes == 62 * MIB
    allocator.allocate(7, 20 * MIB)
    assert allocator.reserved_bytes == 82 * MIB


def test_freed_neighbours_merge() -> None:
    allocator = fixed()
    allocator.allocate(0, 40 * MIB)
    allocator.release(0)
    for key in range(4):
        allocator.allocate(key, 10 * MIB)
    assert allocator.reserved_bytes == 40 * MIB
    for key in (1, 3, 2, 0):  # before, after, between
        allocator.release(key)
    allocator.allocate(9, 40 * MIB)
    assert allocator.reserved_bytes == 40 * MIB


@pytest.mark.parametrize("make", [fixed, expandable])
def test_streams_and_size_classes_share_nothing(make) -> None:
    allocator = make()
    allocator.allocate(1, 20 * MIB, stream=0)
    allocator.release(1)
    allocator.allocate(2, 20 * MIB, stream=1)
    assert allocator.reserved_bytes == 40 * MIB
    allocator.allocate(3, 1000, stream=0)
    assert allocator.reserved_bytes == 42 * MIB


def test_expandable_segments_grow_in_units() -> None:
    allocator = expandable()
    allocator.allocate(1, 30 * MIB)
    assert allocator.reserved_bytes == 40 * MIB
    allocator.allocate(2, 10 * MIB)
    assert allocator.reserved_bytes == 40 * MIB
    allocator.allocate(3, 2 * MIB)
    assert allocator.reserved_bytes == 60 * MIB
    allocator.allocate(4, 700 * KIB)
    assert allocator.reserved_bytes == 62 * MIB
    allocator.allocate(5, MIB)
    assert allocator.reserved_bytes == 62 * MIB
    allocator.allocate(6, MIB)
    assert allocator.reserved_bytes == 64 * MIB


def test_a_free_end_grows_instead_of_a_new_segment() -> None:
    """What expandable segments are for: 100 MiB free and 150 wanted takes 60 more, not 150."""
    allocator = expandable()
    allocator.allocate(1, 100 * MIB)
    allocator.release(1)
    allocator.allocate(2, 150 * MIB)
    assert allocator.reserved_bytes == 160 * MIB
    old = fixed()
    old.allocate(1, 100 * MIB)
    old.release(1)
    old.allocate(2, 150 * MIB)
    assert old.reserved_bytes == 250 * MIB


def test_empty_cache_gives_back_whole_segments_only() -> None:
    allocator = fixed()
    allocator.allocate(0, 40 * MIB)
    allocator.release(0)
    allocator.allocate(1, 10 * MIB)
    allocator.allocate(2, 16 * MIB)
    allocator.release(2)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 40 * MIB  # 10 MiB of it are in use
    allocator.release(1)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0


def test_empty_cache_gives_back_units_of_expandable_segments() -> None:
    allocator = expandable()
    for key, size in ((1, 30), (2, 50), (3, 20)):
        allocator.allocate(key, size * MIB)
    assert allocator.reserved_bytes == 100 * MIB
    allocator.release(2)  # 30 to 80 MiB: the units 40-60 and 60-80
    allocator.empty_cache()
    assert allocator.reserved_bytes == 60 * MIB
    allocator.allocate(4, 10 * MIB)  # the piece of 30-40 that stayed mapped
    assert allocator.reserved_bytes == 60 * MIB
    allocator.allocate(5, 30 * MIB)  # back into the hole
    assert allocator.reserved_bytes == 100 * MIB
    for key in (1, 3, 4, 5):
        allocator.release(key)
    allocator.empty_cache()
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (0, 0)


@pytest.mark.parametrize("make", [fixed, expandable])
def test_at_the_limit_the_cache_is_released_once(make) -> None:
    allocator = make(100)
    allocator.allocate(1, 20 * MIB, stream=1)
    allocator.release(1)
    allocator.allocate(2, 60 * MIB)
    assert allocator.retries == 0
    allocator.allocate(3, 40 * MIB)
    assert allocator.retries == 1
    assert allocator.reserved_bytes == 100 * MIB


@pytest.mark.parametrize("make", [fixed, expandable])
def test_out_of_memory(make) -> None:
    allocator = make(100)
    allocator.allocate(1, 60 * MIB)
    with pytest.raises(SimulatedOutOfMemory) as caught:
        allocator.allocate(2, 41 * MIB)
    assert caught.value.requested_bytes == 41 * MIB
    assert caught.value.reserved_bytes == 60 * MIB
    # The books are still right.
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (60 * MIB, 60 * MIB)
    allocator.allocate(3, 40 * MIB)
    allocator.release(1)
    allocator.release(3)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0


def test_fragmentation_is_out_of_memory_without_expandable_segments() -> None:
    """Free pieces of one segment do not make a whole, unless they can be mapped elsewhere."""

    def holes(allocator: CachingAllocator) -> CachingAllocator:
        allocator.allocate(9, 120 * MIB)
        allocator.release(9)
        for key in range(6):
            allocator.allocate(key, 20 * MIB)
        for key in (0, 2, 4):
            allocator.release(key)
        return allocator

    with pytest.raises(SimulatedOutOfMemory):
        holes(fixed(120)).allocate(10, 60 * MIB)
    growing = holes(expandable(120))
    growing.allocate(10, 60 * MIB)
    assert growing.reserved_bytes == 120 * MIB


def test_peaks_and_their_reset() -> None:
    allocator = fixed()
    allocator.allocate(1, 40 * MIB)
    allocator.release(1)
    allocator.allocate(2, 10 * MIB)
    assert allocator.peak_reserved_bytes == 40 * MIB
    allocator.reset_peaks()
    assert (allocator.allocated_bytes, allocator.peak_reserved_bytes) == (10 * MIB, 40 * MIB)


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("limit_mib", [None, 400])
@pytest.mark.parametrize("seed", range(4))
def test_soak(growing: bool, limit_mib: int | None, seed: int) -> None:
    """Random traffic: the books hold at every step and end at zero."""
    chance = random.Random(seed)
    limit = limit_mib * MIB if limit_mib else None
    # The limit is held against what is asked, and then whole units are mapped.
    beyond = LARGE_SEGMENT - 1 if growing else 0
    allocator = CachingAllocator(growing, limit)
    live: dict[int, int] = {}
    refused = 0
    for key in range(3000):
        if live and chance.random() < 0.48:
            victim = chance.choice(list(live))
            allocator.release(victim)
            del live[victim]
        elif chance.random() < 0.02:
            allocator.empty_cache()
        else:
            size = int(2 ** chance.uniform(0, 25.5))
            try:
                allocator.allocate(key, size, stream=chance.choice((0, 0, 1)))
                live[key] = -(-size // 512) * 512 if size else 512
            except SimulatedOutOfMemory:
                refused += 1
        wanted = sum(live.values())
        assert wanted <= allocator.allocated_bytes <= allocator.reserved_bytes
        if growing:
            assert allocator.allocated_bytes == wanted
        assert limit is None or allocator.peak_reserved_bytes <= limit + beyond
    assert refused == 0 or limit is not None
    for key in list(live):
        allocator.release(key)
    assert allocator.allocated_bytes == 0
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_passing_through_is_allocating_and_releasing(growing: bool, seed: int) -> None:
    chance = random.Random(seed)
    passing, plain = (CachingAllocator(growing, 800 * MIB) for _ in range(2))
    live: list[int] = []
    for key in range(600):
        size = int(2 ** chance.uniform(8, 26))
        if live and chance.random() < 0.45:
            gone = live.pop(chance.randrange(len(live)))
            passing.release(gone)
            plain.release(gone)
        elif chance.random() < 0.5:
            plain.allocate(-5, size)
            taken = plain.allocated_bytes - passing.allocated_bytes
            plain.release(-5)
            assert passing.pass_through(size) == taken
        else:
            passing.allocate(key, size)
            plain.allocate(key, size)
            live.append(key)
        for book in ("allocated", "reserved", "peak_reserved"):
            name = f"{book}_bytes"
            assert getattr(passing, name) == getattr(plain, name)


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_playing_is_the_methods_one_after_the_other(growing: bool, seed: int) -> None:
    chance = random.Random(seed)
    events: list[tuple[int, int, int, int]] = []
    live: list[int] = []
    for key in range(900):
        size = int(2 ** chance.uniform(20.5, 26)) // 512 * 512
        beside = chance.randrange(0, 8 * MIB)
        if live and chance.random() < 0.47:
            events.append((RELEASE, live.pop(chance.randrange(len(live))), -1, beside))
        else:
            kind = chance.choice((ALLOCATE, ALLOCATE, LOAD, SCRATCH))
            events.append((kind, key, size, beside))
            live += [key] if kind != SCRATCH else []
    limit = 3000 * MIB
    plain = CachingAllocator(growing, limit)
    most, reserved, refused = 0, [], False
    for kind, key, size, beside in events:
        try:
            if kind == RELEASE:
                plain.release(key)
            elif kind == SCRATCH:
                most = max(most, plain.allocated_bytes + plain.pass_through(size) + beside)
            else:
                plain.allocate(key, size, COPY_STREAM if kind == LOAD else 0)
                most = max(most, plain.allocated_bytes + beside)
        except SimulatedOutOfMemory:
            refused = True
            break
        reserved.append(plain.reserved_bytes)
    played = CachingAllocator(growing, limit)
    try:
        for start in range(0, len(events), 100):
            some = events[start : start + 100]
            played.play(*(list(column) for column in zip(*some, strict=True)))
        assert not refused
    except SimulatedOutOfMemory:
        assert refused
    assert played.peak_alive_bytes == most
    assert played.allocated_bytes == plain.allocated_bytes
    assert played.peak_reserved_bytes == max(reserved) == plain.peak_reserved_bytes
    assert played.retries == plain.retries
