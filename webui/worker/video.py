"""Saves frames: an H.264 clip that every browser plays, or a picture, and a thumbnail."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.video.encoders import find_encoder
from webui.video.writing import Encoding, Writer

THUMBNAIL_SIDE_PX = 320


def save_outputs(frames: NDArray[np.uint8], fps: int, folder: Path) -> list[str]:
    """Writes the frames and a thumbnail into the folder.

    Args:
        frames: T H W C, RGB, uint8; sides are even.
        fps: frames a second of the clip.
        folder: exists.

    Returns:
        Names of the outputs inside the folder: `clip.mp4`, or `image.png` for one frame.

    Raises:
        MissingDependency: no H.264 encoder.
        OSError: the disk is full, or the folder cannot be written.
    """
    if len(frames) == 1:
        name = "image.png"
        _write_whole(folder / name, lambda part: Image.fromarray(frames[0]).save(part, "PNG"))
    else:
        name = "clip.mp4"
        encoder = find_encoder()
        _write_whole(folder / name, lambda part: _encode(frames, fps, part, encoder))
    _write_whole(folder / "thumbnail.jpg", lambda part: _thumbnail(frames, part))
    return [name]


def _encode(frames: NDArray[np.uint8], fps: int, path: Path, encoder: str) -> None:
    _, height, width, _ = frames.shape
    encoding = Encoding(
        height=height,
        width=width,
        rate=Fraction(fps),
        time_base=Fraction(1, fps),
        encoder=encoder,
    )
    with Writer(path, encoding) as writer:
        for number, pixels in enumerate(frames):
            writer.write(pixels, number)


def _thumbnail(frames: NDArray[np.uint8], path: Path) -> None:
    picture = Image.fromarray(frames[len(frames) // 2])
    picture.thumbnail((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX))
    picture.save(path, "JPEG", quality=85)


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes under another name and renames: the folder never shows half a file."""
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
