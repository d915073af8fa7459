"""The picture that a run starts from: what is taken, and what is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from webui.core.errors import BadInput
from webui.storage import pictures, read_picture, store_picture


def test_a_picture_is_cropped_to_the_clips_shape(tmp_path: Path) -> None:
    wide = Image.new("RGB", (400, 100), "blue")
    wide.paste("red", (150, 0, 250, 100))
    wide.save(tmp_path / "wide.webp", lossless=True)
    found = read_picture(tmp_path / "wide.webp", 64, 64)
    assert found.size == (64, 64) and found.mode == "RGB"
    pixels = np.asarray(found)
    assert pixels[..., 0].min() > 240 and pixels[2:-2, 2:-2, 2].max() < 15


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    lying = Image.new("RGB", (64, 32), "green")
    lying.paste("white", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    lying.save(tmp_path / "photo.jpg", exif=exif)
    found = read_picture(tmp_path / "photo.jpg", 32, 64)
    assert min(found.getpixel((16, 5))) > 200 and max(found.getpixel((16, 60))[::2]) < 50


def test_transparency_becomes_plain_colours(tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "clear.png", 64, 64).mode == "RGB"


def test_it_is_stored_in_the_runs_folder(tmp_path: Path) -> None:
    assert store_picture(Image.new("RGB", (8, 8), "red"), tmp_path) == "input-image.png"
    assert [path.name for path in tmp_path.iterdir()] == ["input-image.png"]


def huge_png(path: Path) -> None:
    """A few bytes that claim 100 000 x 100 000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )


KINDS = ("missing", "folder", "text", "cut", "bomb", "large", "svg", "nul")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_picture_is_refused_in_both_languages(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "picture.png"
    match kind:
        case "folder":
            path.mkdir()
        case "text":
            path.write_text("not a picture")
        case "cut":
            Image.effect_noise((64, 64), 50).save(path)
            path.write_bytes(path.read_bytes()[:200])
        case "bomb":
            huge_png(path)
        case "large":
            monkeypatch.setattr(pictures, "MAX_FILE_BYTES", 10)
            Image.new("RGB", (64, 64)).save(path)
        case "svg":
            path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        case "nul":
            path = Path("a\x00b")
    with pytest.raises(BadInput) as caught:
        read_picture(path, 64, 64)
    assert caught.value.field == "image"
    assert caught.value.message.en != caught.value.message.zh
