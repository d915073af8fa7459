"""Saves frames: H.264 clips that every browser plays, or pictures, and a thumbnail."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.video.encoders import find_encoder
from webui.video.writing import Encoding, Writer

THUMBNAIL_SIDE_PX = 320


def save_outputs(clips: Sequence[NDArray[np.uint8]], fps: int, folder: Path) -> list[str]:
    """Writes the clips, and a thumbnail of the first, into the folder.

    Args:
        clips: frames of each, T H W C, RGB, uint8; sides are even.
        fps: frames a second.
        folder: exists.

    Returns:
        Names of the outputs inside the folder: `clip.mp4`, or `image.png` for one frame; of several
        clips `clip-1.mp4` and so on.

    Raises:
        MissingDependency: no H.264 encoder.
        OSError: the disk is full, or the folder cannot be written.
    """
    numbers = [f"-{index + 1}" for index in range(len(clips))] if len(clips) > 1 else [""]
    names = [
        _save(frames, fps, folder, number) for frames, number in zip(clips, numbers, strict=True)
    ]
    _write_whole(folder / "thumbnail.jpg", lambda part: _thumbnail(clips[0], part))
    return names


def _save(frames: NDArray[np.uint8], fps: int, folder: Path, number: str) -> str:
    """Writes one clip; returns its name."""
    if len(frames) == 1:
        name = f"image{number}.png"
        _write_whole(folder / name, lambda part: Image.fromarray(frames[0]).save(part, "PNG"))
        return name
    name = f"clip{number}.mp4"
    encoder = find_encoder()
    _write_whole(folder / name, lambda part: _encode(frames, fps, part, encoder))
    return name


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
