"""One frame of an input beside what became of it, for people to compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from webui.video.footage import save_pictures
from webui.video.pictures import on_white
from webui.video.project import Project
from webui.video.reading import Pixels, Reader

CHOSEN_BEFORE, CHOSEN_AFTER = "chosen_before.jpg", "chosen.jpg"
"""In the project's folder, as the newest frame is; one pair, whichever was asked for last."""
SIDE_PX = 2560
"""Longest side of what is shown: enough to see single pixels of full HD."""


def compare(project: Project, result: Path, number: int) -> int:
    """Writes a frame of the input and of the result as pictures of one size.

    The input's is enlarged by a bicubic filter, as players do it.

    Args:
        project: of the video.
        result: what was made of it; of a run that ended early, only its first frames.
        number: of the frame, from 0; the last one where there are fewer.

    Returns:
        The number that is shown.

    Raises:
        BadInput: one of the two cannot be read.
        OSError: the disk is full.
    """
    made = Reader(result)
    number = max(0, min(number, len(made.timeline) - 1, project.frames - 1))
    after = _picture(made, number)
    before = _picture(Reader(project.source, project.timeline), number)
    after.thumbnail((SIDE_PX, SIDE_PX))
    before = before.resize(after.size, Image.Resampling.BICUBIC)
    if (alpha := project.alpha()) is not None:
        before, after = on_white(before, alpha), on_white(after, alpha)
    save_pictures(project.folder, {CHOSEN_BEFORE: before, CHOSEN_AFTER: after})
    return number


def _picture(reader: Reader, number: int) -> Image.Image:
    frame: Pixels = next(reader.frames(number, number + 1))
    return Image.fromarray(frame.astype(np.uint8, copy=False))
