"""Seconds of reading pages: batch after batch through its phases."""

from __future__ import annotations

from webui.core.card import Card
from webui.estimator.qwen_vl import PagesMemory
from webui.estimator.told import SecondsTerm, note
from webui.estimator.writing_seconds import batch_seconds

PIXELS_S = 8e6
"""Pixels a second that the host makes into patches, before the tower looks: the library's
processor works on them in numpy. From 26 runs with 4 megapixels and more beside H200s, whose hosts
did 4 to 14 (transformers 5.23, 2026-11-27)."""


def phase_seconds(name: str, memory: PagesMemory, pages: int, card: Card, host: Card) -> float:
    """Seconds of one phase of all batches, the weights' way to the card included.

    Args:
        name: vision, prefill or generate.
        memory: the same request's memory.
        pages: of the whole run.
        card: where it runs.
        host: the processor beside it.
    """
    batch, seconds = memory.shape["b"], 0.0
    for each in memory.passes():
        windows = windowed_tokens(each)
        seconds += pages // batch * batch_seconds(name, each, card, batch, windows)
        if pages % batch:
            seconds += batch_seconds(name, each, card, pages % batch, windows)
    return seconds + _preparing(memory, pages) if name == "vision" else seconds


def _preparing(memory: PagesMemory, pages: int) -> float:
    """Resizing the pages and cutting them into patches, which the host does."""
    request = memory.request
    height, width = memory.card.fed_size(request.height, request.width, request.max_pixels)
    pixels = float(pages * (height * width + memory.card.layout_size**2))
    return note(
        SecondsTerm("prepare", "cpu", {"pixels": pixels}, {"pixels": PIXELS_S}, pixels / PIXELS_S)
    )


def windowed_tokens(memory: PagesMemory) -> int:
    """A picture's tokens if each of its windows were a whole one: a launch each, however small."""
    card, request = memory.card, memory.request
    vision = card.configs["model"]["vision_config"]
    if "window_size" not in vision:
        return memory.shape["m"]
    side = int(vision["window_size"])
    height, width = card.fed_size(request.height, request.width, request.max_pixels)
    return -(-height // side) * -(-width // side) * (side // card.size_multiple) ** 2
