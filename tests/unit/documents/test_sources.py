"""Inputs as pages: what is opened, in which order, and what is refused without harm."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import psutil
import pypdfium2
import pytest
from PIL import Image

from webui.core.errors import BadInput
from webui.documents.sources import Source


def sheet(colour: str = "white", size: tuple[int, int] = (90, 120)) -> Image.Image:
    return Image.new("RGB", size, colour)


def pdf(path: Path, pages: int = 3) -> Path:
    document = pypdfium2.PdfDocument.new()
    for index in range(pages):
        document.new_page(144 + 72 * index, 288)
    document.save(path)
    document.close()
    return path


def why(path: Path, dpi: int = 72) -> BadInput:
    with pytest.raises(BadInput) as caught, Source(path, dpi) as source:
        source.open(1)
    assert caught.value.field == "input" and caught.value.message.zh
    return caught.value


def test_a_pdf_is_drawn_at_its_resolution(tmp_path: Path) -> None:
    with Source(pdf(tmp_path / "a.pdf"), 144) as source:
        assert source.pages == 3
        for number, width in ((1, 288), (3, 576), (2, 432)):
            page = source.open(number)
            assert (page.width, page.height, page.mode) == (width, 576, "RGB")
            assert source.size(number) == (576, width)


def test_every_page_of_a_tiff_is_one(tmp_path: Path) -> None:
    others = [sheet("blue"), sheet("red", (50, 60))]
    sheet("green").save(tmp_path / "a.tif", save_all=True, append_images=others)
    with Source(tmp_path / "a.tif", 72) as source:
        assert [source.open(n).getpixel((5, 5)) for n in (3, 1, 2)] == [
            (255, 0, 0), (0, 128, 0), (0, 0, 255),
        ]  # fmt: skip
        assert source.size(3) == (60, 50)


def test_a_folder_is_read_as_people_number_it(tmp_path: Path) -> None:
    for name, colour in (("page10.png", "red"), ("page2.png", "blue")):
        sheet(colour).save(tmp_path / name)
    pdf(tmp_path / "Page3.pdf", 2)
    (tmp_path / "notes.txt").write_text("no page")
    (tmp_path / ".hidden.png").write_bytes(b"")
    with Source(tmp_path, 72) as source:
        places = [source.place(number) for number in range(1, source.pages + 1)]
    assert [(document.name, page) for document, page in places] == [
        ("page2.png", 1), ("Page3.pdf", 1), ("Page3.pdf", 2), ("page10.png", 1),
    ]  # fmt: skip


def test_an_archive_stays_packed_and_its_names_are_no_paths(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    sheet("red").save(picture)
    archive = tmp_path / "in" / "batch.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(picture, "../../evil.png")
        packed.writestr("..\\..\\broken.png", b"no picture")
        packed.writestr("__MACOSX/evil.png", b"")
        packed.writestr("script.sh", b"rm")
        packed.write(pdf(tmp_path / "a.pdf"), "/abs/a.pdf")
    with Source(archive, 72) as source:
        assert [document.name for document in source.documents] == [
            "a.pdf", "broken.png", "evil.png",
        ]  # fmt: skip
        assert source.open(5).getpixel((1, 1)) == (255, 0, 0)
        with pytest.raises(BadInput):
            source.open(4)
        assert source.open(1).width == 144
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "in", "picture.png"]
    assert list(archive.parent.iterdir()) == [archive]


def test_an_archive_that_lies_about_its_size_is_stopped(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("webui.documents.sources.MAX_MEMBER_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.png", bytes(1_000_000))
    assert "larger" in why(tmp_path / "bomb.zip").message.en


def claims(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes that claims so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_bad_files_get_a_clear_word(tmp_path: Path) -> None:
    assert "million pixels" in why(claims(tmp_path / "large.png", 30_000, 30_000)).message.en
    assert "whole picture" in why(claims(tmp_path / "cut.png", 300, 300)).message.en
    whole = pdf(tmp_path / "whole.pdf").read_bytes()
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing more")
    assert "whole PDF" in why(tmp_path / "broken.pdf").message.en
    (tmp_path / "zip.zip").write_bytes(whole)
    assert "ZIP" in why(tmp_path / "zip.zip").message.en
    (tmp_path / "text.txt").write_text("no page")
    assert "no pages" in why(tmp_path / "text.txt").message.en
    (tmp_path / "empty").mkdir()
    assert "no pages" in why(tmp_path / "empty").message.en
    assert "not there" in why(tmp_path / "nothing.pdf").message.en


def test_a_locked_pdf_says_so(tmp_path: Path) -> None:
    # 40-bit encryption with an owner's and a user's password that nobody knows.
    locked = (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\n"
        b"4 0 obj<</Filter/Standard/V 1/R 2/P -44/O<" + b"41" * 32 + b">/U<" + b"42" * 32
        + b">>>endobj\ntrailer<</Root 1 0 R/Size 5/Encrypt 4 0 R"
        b"/ID[<41414141414141414141414141414141><41414141414141414141414141414141>]>>\n%%EOF"
    )  # fmt: skip
    (tmp_path / "locked.pdf").write_bytes(locked)
    assert "password" in why(tmp_path / "locked.pdf").message.en


def test_transparent_and_deep_pictures_are_seen_as_people_see_them(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("I;16", (40, 40), 32768).save(tmp_path / "deep.tif")
    lying = sheet("green", (64, 32))
    lying.paste("white", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "turned.jpg", exif=exif)
    with Source(tmp_path, 72) as source:
        assert source.open(1).getpixel((3, 3)) == (255, 255, 255)
        assert source.open(2).getpixel((3, 3)) == (128, 128, 128)
        assert source.size(3) == (64, 32) and source.open(3).size == (32, 64)


def test_pages_are_counted_in_a_process_of_their_own(tmp_path: Path) -> None:
    path = pdf(tmp_path / "many.pdf", 10_000 // 100)

    def count(*more: str) -> dict:
        command = [sys.executable, "-m", "webui.documents", str(path), "--dpi", "72", *more]
        return json.loads(subprocess.run(command, capture_output=True, check=False).stdout)

    assert count() == {"pages": "1-100", "height": 288, "width": 144 + 72 * 99}
    assert count("--pages", "1, 3-4") == {"pages": "1, 3-4", "height": 288, "width": 360}
    assert count("--pages", "101")["error"]["field"] == "pages"


@pytest.mark.parametrize("packed", [False, True], ids=["file", "zip"])
def test_pages_of_a_long_pdf_do_not_pile_up(tmp_path: Path, packed: bool) -> None:
    noise = Image.effect_noise((900, 900), 90)
    shades = [int(5 * number) for number in range(48)]
    sheets = [Image.merge("RGB", (noise, noise, Image.new("L", noise.size, s))) for s in shades]
    path = tmp_path / "long.pdf"
    sheets[0].save(
        path, save_all=True, append_images=sheets[1:], resolution=900, quality=95
    )  # an inch wide
    each_bytes = path.stat().st_size / len(sheets)
    assert each_bytes > 400_000
    if packed:
        with zipfile.ZipFile(tmp_path / "long.zip", "w") as archive:
            archive.write(path, "long.pdf")
        path = tmp_path / "long.zip"
    process = psutil.Process()
    with Source(path, 72) as source:
        held, blue = [], []
        for number in range(1, len(sheets) + 1):
            blue.append(float(np.asarray(source.open(number))[:, :, 2].mean()))
            held.append(process.memory_info().rss)
    assert blue == sorted(blue)  # each page is the one that was asked for
    assert max(held[-16:]) - max(held[:16]) < 16 * each_bytes
