"""Pictures as videos: a still one is one frame, an animated GIF, WebP or PNG has several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from webui.core.upscale import MAX_FRAMES
from webui.video.opening import check_size, refused
from webui.video.timeline import DEFAULT_RATE, Timeline

FORMATS = ("GIF", "WEBP", "PNG", "JPEG", "BMP", "TIFF")
_LEAST_MS = 20
_USUAL_MS = 100
"""How long a frame of an animation stays that asks for less than `_LEAST_MS`: as browsers do."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its Exif orientation: one for all frames of an animation."""
_BAD = (OSError, ValueError, SyntaxError, EOFError, OverflowError, Image.DecompressionBombError)


def is_picture(path: Path) -> bool:
    """Whether it begins as a picture does, whatever its name."""
    try:
        with opened_picture(path):
            return True
    except (UnidentifiedImageError, *_BAD):
        return False


def scan_picture(path: Path) -> tuple[Timeline, Image.Image, str]:
    """A picture's timeline, its first frame as it is shown, and what kind of file it is.

    Raises:
        BadInput: it is larger than what is read, or broken.
    """
    with opened_picture(path) as picture:
        kind = picture.format or ""
        check_size(picture.height, picture.width)
        frames = _count(picture)
        if frames > MAX_FRAMES:
            raise refused(f"it has more than {MAX_FRAMES} frames", f"帧数超过 {MAX_FRAMES}")
        times, clock = [], 0
        try:
            for index in range(frames):
                picture.seek(index)
                if not index:
                    first = ImageOps.exif_transpose(picture)
                    first.load()
                if kind == "WEBP":
                    picture.load()  # says only then how long it stays
                times.append(clock)
                clock += _stays_ms(picture)
        except _BAD:
            if not times:
                raise refused("the picture is not whole", "图片不完整") from None
    if len(times) == 1:
        times, clock = [0], round(1000 / DEFAULT_RATE)
    timeline = Timeline(
        times=np.array(times, np.int64),
        keys=np.empty(0, np.int64),
        time_base=Fraction(1, 1000),
        end=clock,
    )
    return timeline, first, kind.lower()


def picture_frames(path: Path, start: int, stop: int) -> Iterator[NDArray[np.uint8] | None]:
    """Frames [start, stop), H W 3, RGB; None for one that is damaged."""
    with opened_picture(path) as picture:
        turn = _turn(picture)
        still = _count(picture) == 1
        for index in range(start, stop):
            try:
                picture.seek(index)
                shown = (
                    _colours(picture) if still and is_transparent(picture) else _on_black(picture)
                )
                yield np.asarray(shown if turn is None else shown.transpose(turn))
            except _BAD:
                yield None


def _count(picture: Image.Image) -> int:
    """Its frames; a TIFF's others are pages."""
    return 1 if picture.format == "TIFF" else int(getattr(picture, "n_frames", 1))


def _turn(picture: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except _BAD:  # of a PNG it may stand behind the pixels
        return None


def is_transparent(picture: Image.Image) -> bool:
    """Whether one can see through any of its pixels."""
    if not _has_alpha(picture):
        return False
    seen = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    return seen.getchannel("A").histogram()[255] < picture.width * picture.height


def alpha_of(path: Path) -> Image.Image:
    """How opaque the pixels of a still picture are (mode L), turned as it is shown.

    Raises:
        OSError: it cannot be read any more.
    """
    with opened_picture(path) as picture:
        turn = _turn(picture)
        alpha = picture.convert("RGBA").getchannel("A")
    return alpha if turn is None else alpha.transpose(turn)


def on_white(picture: Image.Image, alpha: Image.Image) -> Image.Image:
    """A picture for people to look at, whose transparency may be of another size."""
    opaque = alpha.resize(picture.size, Image.Resampling.BICUBIC)
    return Image.composite(picture, Image.new("RGB", picture.size, "white"), opaque)


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info


def _colours(shown: Image.Image) -> Image.Image:
    """A picture without its transparency: pixels that one does not see take the colours around, so
    that no edge has a fringe of what was hidden, when it is enlarged."""
    picture = shown.convert("RGBA")
    levels = [picture.convert("RGBa")]  # colours count as much as they are seen
    while max(levels[-1].size) > 1:
        half = [-(-side // 2) for side in levels[-1].size]
        levels.append(levels[-1].resize((half[0], half[1]), Image.Resampling.BOX))
    filled = levels.pop().convert("RGBA").convert("RGB")
    while len(levels) > 1:
        level = levels.pop()
        filled = filled.resize(level.size, Image.Resampling.BILINEAR)
        shown = level.convert("RGBA")
        filled.paste(shown.convert("RGB"), mask=shown.getchannel("A"))
    filled = filled.resize(picture.size, Image.Resampling.BILINEAR)
    seen = picture.getchannel("A").point(lambda value: 255 if value else 0)
    filled.paste(picture.convert("RGB"), mask=seen)
    return filled


def _on_black(picture: Image.Image) -> Image.Image:
    """Without transparency."""
    if _has_alpha(picture):
        layer = picture.convert("RGBA")
        black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, layer).convert("RGB")
    return picture.convert("RGB")


def _stays_ms(picture: Image.Image) -> int:
    stays = round(float(picture.info.get("duration", 0) or 0))
    return stays if stays >= _LEAST_MS else _USUAL_MS


@contextmanager
def opened_picture(path: Path) -> Iterator[Image.Image]:
    """A picture of any size, of the kinds that are read; no more than its header is read yet.

    Raises:
        OSError: it is none of them.
    """
    most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # `check_size` decides
    try:
        picture = Image.open(path, formats=FORMATS)  # no more than its header
    finally:
        Image.MAX_IMAGE_PIXELS = most
    with picture:
        yield picture
