"""Saves frames: H.264 clips that every browser plays, or pictures, and a thumbnail."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from webui.core.errors import MissingDependency
from webui.core.text import Text

ENCODERS = ("libx264", "libopenh264", "h264_nvenc", "h264_mf", "h264_videotoolbox")
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


def find_encoder() -> str:
    """The first H.264 encoder that this build of PyAV has.

    Raises:
        MissingDependency: there is none.
    """
    for name in ENCODERS:
        try:
            av.Codec(name, "w")
        except ValueError:  # av.codec.codec.UnknownCodecError
            continue
        return name
    raise MissingDependency(
        Text(
            "This installation of PyAV has no H.264 encoder, so no clip can be written.",
            "当前安装的 PyAV 没有 H.264 编码器，无法写出视频。",
        ),
        Text("Install the official wheel: pip install av", "请安装官方版本：pip install av"),
    )


def _encode(frames: NDArray[np.uint8], fps: int, path: Path, encoder: str) -> None:
    _, height, width, _ = frames.shape
    # The header in front (faststart) lets a browser play before it has the whole file.
    options = {"movflags": "+faststart"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = cast(VideoStream, container.add_stream(encoder, rate=Fraction(fps)))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if encoder == "libx264":
            stream.options = {"crf": "17", "preset": "medium"}
        else:
            stream.bit_rate = max(2_000_000, width * height * fps // 4)
        # Written down in the file, so that players do not guess the colours by the size.
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = 1
        context.color_range = 1
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode())


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
