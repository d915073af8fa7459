"""A frame of the input beside what became of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.video.clips import clip, number_of
from webui.video.assembly import assemble
from webui.video.compare import CHOSEN_AFTER, CHOSEN_BEFORE, SIDE_PX, compare
from webui.video.facts import examine
from webui.video.footage import Footage
from webui.video.project import Project

FRAMES, SCALE, SEGMENT = 40, 2, 32


@pytest.fixture(scope="module")
def ended_early(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Path]:
    """A run of which only the first of two segments is done."""
    folder = tmp_path_factory.mktemp("compare")
    source = clip(folder / "in.mp4", FRAMES)
    project = Project.start(
        folder / "video", source, *examine(source), scale=SCALE, segment_frames=SEGMENT
    )
    first = project.segments[0]
    with Footage(project, [first]) as footage:
        for index, pixels in enumerate(footage.read(first)):
            larger = pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
            footage.write(first, index, larger)
        footage.finish(first)
    assemble(project, folder / "upscaled.mp4")
    return project, folder / "upscaled.mp4"


def numbers(project: Project) -> tuple[int, int]:
    pictures = [
        np.asarray(Image.open(project.folder / name)) for name in (CHOSEN_BEFORE, CHOSEN_AFTER)
    ]
    assert pictures[0].shape == pictures[1].shape
    before, after = (number_of(picture, SCALE) for picture in pictures)
    return before, after


def test_both_pictures_are_of_the_frame_that_was_asked_for(
    ended_early: tuple[Project, Path],
) -> None:
    project, result = ended_early
    for number in (0, 21, 5):
        assert compare(project, result, number) == number
        assert numbers(project) == (number, number)


def test_beyond_what_is_made_the_last_frame_is_shown(ended_early: tuple[Project, Path]) -> None:
    project, result = ended_early
    shown = compare(project, result, FRAMES - 1)
    assert 0 < shown < FRAMES - 1
    assert numbers(project) == (shown, shown)


def test_large_frames_are_shown_smaller(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("in.png", "out.png")]
    for path, width in zip(paths, (SIDE_PX // 2, 2 * SIDE_PX), strict=True):
        Image.new("RGB", (width, 16), (10, 200, 30)).save(path)
    project = Project.start(tmp_path / "video", paths[0], *examine(paths[0]), scale=4)
    assert compare(project, paths[1], 0) == 0
    with Image.open(project.folder / CHOSEN_AFTER) as shown:
        assert shown.width == SIDE_PX
