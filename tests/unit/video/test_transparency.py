"""Pictures that one can see through: they stay so, and what is hidden in them is not dragged in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from webui.video.assembly import assemble
from webui.video.compare import CHOSEN_AFTER, CHOSEN_BEFORE, compare
from webui.video.facts import examine
from webui.video.footage import AFTER, Footage
from webui.video.pictures import opened_picture
from webui.video.project import FOLDER, Project
from webui.video.reading import Reader

SCALE, TALL, WIDE = 2, 32, 48
ORANGE, HIDDEN = (240, 140, 20), (0, 0, 255)


def logo() -> Image.Image:
    """An orange square with a soft edge to the left; blue hides where nothing is seen."""
    pixels = np.zeros((TALL, WIDE, 4), np.uint8)
    pixels[..., :3] = HIDDEN
    pixels[8:24, 16:40] = (*ORANGE, 255)
    pixels[8:24, 14:16] = (*ORANGE, 128)
    return Image.fromarray(pixels)


def upscaled(source: Path) -> tuple[Project, Path]:
    project = Project.start(source.parent / FOLDER, source, *examine(source), scale=SCALE)
    with Footage(project, project.segments) as footage:
        for segment in project.segments:
            for index, pixels in enumerate(footage.read(segment)):
                footage.write(segment, index, pixels.repeat(SCALE, 0).repeat(SCALE, 1))
            footage.finish(segment)
    return project, assemble(project, source.parent / "upscaled.mp4").path


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_a_picture_keeps_its_transparency(kind: str, tmp_path: Path) -> None:
    source = tmp_path / f"in.{kind}"
    logo().save(source, **({"lossless": True, "exact": True} if kind == "webp" else {}))
    assert examine(source)[0].transparent
    (read,) = Reader(source).frames()
    # Beside the square there is its own colour, however blue the file is there.
    assert np.abs(read.astype(int) - ORANGE).max() <= 6
    project, result = upscaled(source)
    with Image.open(result) as made:
        assert made.mode == "RGBA" and made.size == (SCALE * WIDE, SCALE * TALL)
        alpha = np.asarray(made.getchannel("A"))
    assert (alpha[20:44, 36:76] == 255).all() and not alpha[:8].any() and not alpha[:, :16].any()
    assert 100 < alpha[32, 2 * 15] < 160  # the soft edge
    compare(project, result, 0)
    for name in (AFTER, CHOSEN_BEFORE, CHOSEN_AFTER):
        with Image.open(project.folder / name) as shown:
            seen = np.asarray(shown).astype(int)
        assert seen[2, 2].min() > 250, name  # on white
        assert np.abs(seen[32, 56] - ORANGE).max() <= 8, name


def test_pictures_beyond_the_librarys_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result of 185 megapixels is no bomb: `check_size` bounds what is read."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    logo().save(tmp_path / "in.png")
    _, result = upscaled(tmp_path / "in.png")
    with opened_picture(result) as made:
        assert made.mode == "RGBA" and made.size == (SCALE * WIDE, SCALE * TALL)


def test_a_turned_picture_turns_its_transparency(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    logo().save(tmp_path / "in.png", exif=exif)
    _, result = upscaled(tmp_path / "in.png")
    with Image.open(result) as made:
        assert made.size == (SCALE * TALL, SCALE * WIDE)
        alpha = np.rot90(np.asarray(made.getchannel("A")))
    assert alpha[32, 56] == 255 and not alpha[:8].any()


def test_colours_of_a_palette_are_seen_through_as_well(tmp_path: Path) -> None:
    picture = Image.new("P", (16, 16), 0)
    picture.putpalette([*HIDDEN, *ORANGE])
    picture.paste(1, (4, 4, 12, 12))
    picture.save(tmp_path / "in.png", transparency=0)
    (read,) = Reader(tmp_path / "in.png").frames()
    assert np.abs(read.astype(int) - ORANGE).max() <= 6
    with Image.open(upscaled(tmp_path / "in.png")[1]) as made:
        assert made.getpixel((0, 0))[3] == 0 and made.getpixel((16, 16))[3] == 255


def test_opaque_pictures_stay_without(tmp_path: Path) -> None:
    Image.new("RGBA", (WIDE, TALL), (*ORANGE, 255)).save(tmp_path / "in.png")
    assert not examine(tmp_path / "in.png")[0].transparent
    with Image.open(upscaled(tmp_path / "in.png")[1]) as made:
        assert made.mode == "RGB"


def test_an_animation_becomes_a_video_on_black_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    logo().save(path, save_all=True, append_images=[logo().rotate(180)], duration=100)
    facts = examine(path)[0]
    assert facts.frames == 2 and facts.warning is not None and "black" in facts.warning.en
    assert not next(Reader(path).frames())[0, 0].any()


def test_nothing_but_transparency(tmp_path: Path) -> None:
    Image.new("RGBA", (WIDE, TALL), (0, 0, 0, 0)).save(tmp_path / "in.png")
    with Image.open(upscaled(tmp_path / "in.png")[1]) as made:
        assert made.mode == "RGBA" and made.getchannel("A").getextrema() == (0, 0)
