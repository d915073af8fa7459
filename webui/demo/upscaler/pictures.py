"""What the upscaler learns from: photographs of Debian's packages, and pictures drawn here.

The packages come by the system's own `apt-get`; their copyright files say that everybody may use
and change the pictures (GPL-2+, CC-BY, CC-BY-SA, CC0). None of what the tests measure on is
among them. On other systems, `--pictures` names a folder of photographs instead.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PACKAGES: dict[str, tuple[str, ...]] = {
    "plasma-workspace-wallpapers": (
        "Autumn", "BytheWater", "ColdRipple", "ColorfulCups", "DarkestHour", "EveningGlow",
        "FallenLeaf", "Grey", "Kite", "OneStandsOut", "Path", "SafeLanding", "Shell", "Volna",
        "summer_1am",
    ),
    "mate-backgrounds": (
        "Aqua", "Blinds", "Dune", "FreshFlower", "Garden", "GreenMeadow", "LadyBird", "RainDrops",
        "Storm", "TwoWings", "Wood", "YellowFlower", "Elephants_3840x2160",
    ),
    "lomiri-wallpapers-16.04": (
        "Bridge_by", "Dragonfly_by", "Picture_0B_by", "Picture_1A_by", "Wine_by", "aitzgorri_by",
        "analogpattern_by", "free_by", "friends_by", "greentock_by", "life_by",
        "picosdeeuropa_by", "seeding_by", "sunset_by",
    ),
    "lomiri-wallpapers-20.04": ("Kleiber_by", "Infinite-Sea_by"),
    "palapeli-data": (
        "castle-maintenon", "cincinnati-bridge", "citrus-fruits", "european-honey-bee",
        "panther-chameleon-female",
    ),
}  # fmt: skip
"""Package, and what the names of its photographs (or of the folders that hold them) begin with."""
VALIDATION = ("life_by", "EveningGlow", "castle-maintenon", "Garden")
"""Kept out of training, to see how it goes. What the tests measure on is not seen at all."""
LONGEST_SIDE_PX = 1200
"""Photographs are made smaller, which takes the noise and the blocks of their JPEG files away."""
QUALITY = 93
DRAWN = 24
_DRAWN_SIDE_PX = 512


def fetch(folder: Path) -> None:
    """Puts the photographs into a folder, unless they are there.

    Raises:
        RuntimeError: this system has no `apt-get`, or a package is not to be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for package, names in PACKAGES.items():
        missing = [name for name in names if not (folder / f"{name}.jpg").is_file()]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            found = list(_pictures_of(package, Path(scratch)))
            for name in missing:
                # The largest of those that a package has in several sizes.
                paths = [path for path in found if _named(path, name)]
                if not paths:
                    raise RuntimeError(f"{package} has no picture {name}")
                _reduced(max(paths, key=lambda path: path.stat().st_size)).save(
                    folder / f"{name}.jpg", quality=QUALITY, subsampling=0
                )


def _pictures_of(package: str, scratch: Path) -> Iterator[Path]:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise RuntimeError("this needs Debian's apt-get, or --pictures with photographs of yours")
    print(f"fetching {package}", flush=True)
    subprocess.run(["apt-get", "download", "-q", package], cwd=scratch, check=True)
    (archive,) = scratch.glob("*.deb")
    subprocess.run(["dpkg", "-x", archive.name, "files"], cwd=scratch, check=True)
    for path in sorted((scratch / "files").rglob("*.jpg")):
        if not path.is_symlink() and path.stem != "screenshot":
            yield path


def _named(path: Path, name: str) -> bool:
    return path.stem.startswith(name) or f"/wallpapers/{name}/contents/images/" in path.as_posix()


def _reduced(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX), Image.Resampling.LANCZOS)
    return picture


def draw(number: int) -> Image.Image:
    """A picture of letters, lines and shapes; the same for the same number."""
    chosen = random.Random(number)
    finer = 3
    side = _DRAWN_SIDE_PX * finer

    def colour() -> tuple[int, int, int]:
        return chosen.randrange(256), chosen.randrange(256), chosen.randrange(256)

    def place() -> tuple[int, int]:
        return chosen.randrange(side), chosen.randrange(side)

    picture = Image.linear_gradient("L").resize((side, side)).rotate(chosen.choice((0, 90, 180)))
    picture = Image.composite(
        Image.new("RGB", (side, side), colour()), Image.new("RGB", (side, side), colour()), picture
    )
    pen = ImageDraw.Draw(picture)
    for _ in range(40):
        (left, top), size = place(), chosen.randrange(finer * 8, finer * 150)
        box = (left, top, left + size, top + int(size * chosen.uniform(0.3, 1.5)))
        kind = chosen.randrange(5)
        if kind == 0:
            pen.ellipse(box, fill=colour())
        elif kind == 1:
            pen.polygon([place() for _ in range(3)], outline=colour(), width=finer * 2)
        elif kind == 2:
            for step in range(0, size, finer * chosen.randrange(3, 9)):
                ends = (left + step, top, left + step + size // 3, top + size)
                pen.line(ends, fill=colour(), width=finer * chosen.randrange(1, 3))
        elif kind == 3:
            pen.rounded_rectangle(box, radius=size // 6, fill=colour())
        else:
            letters = "".join(chosen.choices("aeghkmorstwxRBQ&@258 ", k=24))
            font = ImageFont.load_default(finer * chosen.randrange(9, 40))
            pen.text((left - side // 4, top), letters, fill=colour(), font=font)
    return picture.resize((_DRAWN_SIDE_PX, _DRAWN_SIDE_PX), Image.Resampling.BOX)
