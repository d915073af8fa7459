"""When nothing fits: the nearest requests that would, offered and never taken unasked."""

from __future__ import annotations

from collections.abc import Callable

from webui.core.card import Card
from webui.core.model import ModelCard
from webui.core.plan import Alternative
from webui.core.request import Request
from webui.core.text import Text
from webui.estimator.estimate import Target
from webui.optimizer.search import find_leanest

Cards = Callable[[], tuple[tuple[Card, Target], ...]]


def find_alternatives(
    model: ModelCard, request: Request, target: Target, cards: Cards
) -> tuple[Alternative, ...]:
    """Freed settings, fewer frames, a smaller size, a larger card: each the nearest that fits."""

    def fits(changed: Request) -> bool:
        return find_leanest(model, changed, target).fits

    offers = []
    if request.settings:
        free = request.with_changes(settings={})
        if fits(free):
            names = {name: "auto" for name in request.settings}
            offers.append(
                Alternative(
                    text=Text("Fits with automatic settings", "改用自动设置即可放下"),
                    changes={"settings": names},
                )
            )
    frames = most_frames(model, request, fits)
    if frames is not None:
        offers.append(
            Alternative(
                text=Text(f"Fits at {frames} frames", f"{frames} 帧可以放下"),
                changes={"frames": frames},
            )
        )
    size = largest_size(model, request, fits)
    if size is not None:
        width, height = size
        offers.append(
            Alternative(
                text=Text(f"Fits at {width}x{height}", f"{width}x{height} 可以放下"),
                changes={"width": width, "height": height},
            )
        )
    for card, card_target in cards():
        if find_leanest(model, request, card_target).fits:
            offers.append(
                Alternative(
                    text=Text(f"Fits on {card.title}", f"{card.title} 可以放下"),
                    changes={"card": card.name, "vram_gib": None},
                )
            )
            break
    return tuple(offers)


def most_frames(model: ModelCard, request: Request, fits: Callable[[Request], bool]) -> int | None:
    """The most frames below the asked number that fit; more frames never need less memory."""
    low, high = 0, (request.frames - 1) // model.frame_step - 1
    best = None
    while low <= high:
        middle = (low + high) // 2
        frames = middle * model.frame_step + 1
        if fits(request.with_changes(frames=frames)):
            best, low = frames, middle + 1
        else:
            high = middle - 1
    return best


def largest_size(
    model: ModelCard, request: Request, fits: Callable[[Request], bool]
) -> tuple[int, int] | None:
    """The largest size of the same shape below the asked one that fits, as (width, height)."""
    shape = request.width / request.height
    unit = model.size_multiple
    low, high = model.min_side // unit, request.height // unit - 1
    best = None
    while low <= high:
        middle = (low + high) // 2
        height = middle * unit
        width = model.snap_side(height * shape)
        if fits(request.with_changes(height=height, width=width)):
            best, low = (width, height), middle + 1
        else:
            high = middle - 1
    return best
