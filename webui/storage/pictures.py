"""The picture that a run starts from: decoded with bounds, kept as plain pixels in its folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from webui.core.errors import BadInput
from webui.core.text import Text
from webui.core.units import MIB
from webui.storage.files import writing

if TYPE_CHECKING:
    from PIL.Image import Image

INPUT_PREFIX = "input-"
"""How the names of pictures in a run's folder begin."""
MAX_FILE_BYTES = 32 * MIB
MAX_PIXELS = 64_000_000
"""More than any camera of today takes; a file of a few KiB can claim far more."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""Plain raster formats: decoders of others are larger, and hardly anybody has such files."""


def read_picture(path: Path, width_px: int, height_px: int, key: str = "image") -> Image:
    """The picture upright, in RGB, cropped around its middle to the clip's shape and scaled to it.

    Args:
        path: a file of the owner, or one that the page has received.
        width_px: the clip's width.
        height_px: the clip's height.
        key: the request's key that named it, for messages.

    Raises:
        BadInput: not there, too large, or no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        size_bytes = path.stat().st_size
    except (OSError, ValueError):
        raise _refused(key, "it is not there", "文件不存在") from None
    if not path.is_file():
        raise _refused(key, "it is not a file", "不是文件")
    if size_bytes > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES // MIB
        raise _refused(key, f"it is larger than {limit} MiB", f"文件超过 {limit} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    many = MAX_PIXELS // 1_000_000
                    raise _refused(
                        key, f"it has more than {many} million pixels", f"像素超过 {many} 百万"
                    )
                upright = ImageOps.exif_transpose(opened).convert("RGB")
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
    ):
        raise _refused(key, "it is not a whole picture", "不是完整的图片") from None
    return ImageOps.fit(upright, (width_px, height_px), Image.Resampling.LANCZOS)


def store_picture(picture: Image, folder: Path, key: str = "image") -> str:
    """Writes the picture into a run's folder, named after the request's key; returns its name.

    Raises:
        NotEnoughDisk: the disk is full.
        StudioError: the folder cannot be written.
    """
    name = f"{INPUT_PREFIX}{key}.png"
    with writing(folder / name) as part:
        picture.save(part, format="PNG")
    return name


def _refused(key: str, why: str, why_zh: str) -> BadInput:
    formats = ", ".join(FORMATS)
    return BadInput(
        key,
        Text(f"The picture cannot be used: {why}.", f"无法使用这张图片：{why_zh}。"),
        Text(f"Give a picture in one of: {formats}.", f"请提供以下格式的图片：{formats}。"),
    )
