"""The picture of a page that is kept beside its text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from webui.documents.blocks import KINDS, Block

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_SIDE_PX = 1600
"""Of the kept picture; boxes are told in pixels of the page, so they are scaled with it."""
COLOURS = dict(zip(KINDS, ("#c2410c", "#2563eb", "#15803d", "#7c3aed", "#be185d"), strict=True))
"""Of the boxes, by kind."""


def save_page(page: Image, path: Path) -> None:
    """Writes a JPEG of the page, small enough to look at.

    Raises:
        OSError: the disk is full.
    """
    kept = page.copy()
    kept.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    part = path.with_name(f".{path.name}.part")
    try:
        kept.save(part, "JPEG", quality=80)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def with_boxes(page: Image, blocks: tuple[Block, ...], width: int) -> Image:
    """The page's kept picture with its blocks drawn, each in the colour of its kind.

    Args:
        page: the kept picture.
        blocks: in pixels of the page.
        width: of the page, in pixels.
    """
    from PIL import ImageDraw

    drawn = page.convert("RGB")
    scale = drawn.width / width if width else 1.0
    pencil = ImageDraw.Draw(drawn)
    for block in blocks:
        if block.box is not None:
            place = [side * scale for side in block.box]
            pencil.rectangle(place, outline=COLOURS[block.kind], width=2)
    return drawn
