"""The judge on clips whose content is known, because the script drew them."""

import numpy as np
import pytest

from webui.demo.evaluate import accuracy, chance, judge_drawn, shuffled_accuracy
from webui.demo.generate import with_settings
from webui.demo.judge import judge


@pytest.mark.parametrize(
    ("frames", "height", "width"), [(17, 96, 96), (9, 128, 128), (17, 96, 160)]
)
def test_judge_reads_drawn_clips(frames: int, height: int, width: int) -> None:
    settings = with_settings(frames=frames, height=height, width=width)
    outcomes = judge_drawn(64, settings, seed=frames + width)
    shares = accuracy(outcomes)
    assert min(shares["colour"], shares["shape"], shares["motion"]) >= 0.99
    luck, guess = shuffled_accuracy(outcomes), chance(outcomes)
    for trait, share in guess.items():
        assert luck[trait] <= share + 0.05


def test_one_frame_has_colour_and_shape_but_no_motion() -> None:
    outcomes = judge_drawn(64, with_settings(frames=1))
    shares = accuracy(outcomes)
    assert min(shares["colour"], shares["shape"]) >= 0.99
    assert all(outcome.found.motion is None for outcome in outcomes)


def test_an_empty_picture_has_nothing() -> None:
    finding = judge(np.full((5, 64, 64, 3), 90, np.uint8))
    assert (finding.colour, finding.shape, finding.motion) == (None, None, None)


def test_noise_is_survived() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3)).astype(np.uint8)
    judge(noise)
