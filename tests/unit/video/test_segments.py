"""Segments: for every length and overlap they make each frame once."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from webui.video.segments import LEAST_FRAMES, blend_weights, split


def test_every_frame_is_one_segments_own() -> None:
    chance = random.Random(0)
    cases = [(frames, 8, overlap, 1) for frames in range(1, 40) for overlap in (0, 1, 8, 20)]
    cases += [
        (chance.randint(1, 9000), chance.choice([1, 5, 96, 480]), chance.randint(0, 60),
         chance.randint(1, 8))
        for _ in range(150)
    ]  # fmt: skip
    for frames, length, overlap, gpus in cases:
        segments = split(frames, length, overlap, gpus)
        assert [n for one in segments for n in range(one.start, one.stop)] == list(range(frames))
        assert [one.index for one in segments] == list(range(len(segments)))
        for before, one in pairwise(segments):
            assert 0 <= max(0, one.start - overlap) - one.read_start < 4
            assert one.read_start % 4 == 0 or not overlap
            assert one.blend == before.tail <= min(8, overlap)
            assert one.read_start <= one.head_start and before.start <= one.head_start
            assert one.count == one.stop - one.read_start <= length + overlap + 3
        assert segments[0].blend == segments[-1].tail == 0


def test_the_grid_is_fixed_for_one_worker() -> None:
    assert [one.start for one in split(1000)] == [0, 480, 960]
    assert [one.start for one in split(100_000)] == list(range(0, 100_000, 480))


@pytest.mark.parametrize(
    ("frames", "gpus", "lengths"),
    [
        (1920, 4, [480] * 4),
        (1920, 2, [480] * 4),
        (500, 2, [256, 244]),  # not 480 and 20
        (300, 4, [96, 96, 96, 12]),
        (90, 4, [90]),
        (2000, 4, [256] * 7 + [208]),
    ],
)
def test_several_workers_end_together(frames: int, gpus: int, lengths: list[int]) -> None:
    segments = split(frames, gpus=gpus)
    assert [one.stop - one.start for one in segments] == lengths
    assert all(length % 8 == 0 and length >= LEAST_FRAMES for length in lengths[:-1])


def test_weights_go_over_evenly() -> None:
    assert blend_weights(3) == (0.25, 0.5, 0.75)
    assert blend_weights(1) == (0.5,)


@pytest.mark.parametrize(
    "wrong", [(0, 480, 16, 1), (9, 0, 16, 1), (9, 480, -1, 1), (9, 480, 16, 0)]
)
def test_numbers_below_their_least(wrong: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError):
        split(*wrong)
