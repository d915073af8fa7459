"""Requests from large to small, and the first of them that fits: what inverse questions climb."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from webui.core.model import ModelCard
from webui.core.request import Request

Predicate = Callable[[Request], bool]

STEPS_AROUND = 4
"""How far around the bisected place a request is tried: what fits is monotone in live bytes, and
in reserved bytes but for the allocator's rounding."""


def fewer_frames(model: ModelCard, request: Request, most: int) -> list[Request]:
    """The request at every number of frames that the model makes, from `most` down to one."""
    top = min(most, model.max_frames)
    top -= (top - 1) % model.frame_step
    return [request.with_changes(frames=count) for count in range(top, 0, -model.frame_step)]


def sizes_of_shape(model: ModelCard, request: Request, most_height_px: int) -> list[Request]:
    """The request at every height of the model's grid from `most_height_px` down, in its shape.

    A width that would pass the model's longest side is left out, so that the shape is kept.
    """
    unit = model.size_multiple
    shape = request.width / request.height
    top = most_height_px // unit * unit
    return [
        request.with_changes(height=height, width=model.snap_side(height * shape))
        for height in range(top, model.min_side - 1, -unit)
        if round(height * shape / unit) * unit <= model.max_side
    ]


def listed_sizes(model: ModelCard, request: Request) -> list[Request]:
    """The request at the authors' sizes, the most pixels first, its own orientation before."""
    wide = request.width >= request.height
    sizes = sorted(
        model.sizes,
        key=lambda size: (size[0] * size[1], (size[0] >= size[1]) == wide),
        reverse=True,
    )
    return [request.with_changes(width=width, height=height) for width, height in sizes]


def first_that_fits(
    requests: Sequence[Request],
    fits: Predicate,
    seems_to_fit: Predicate | None = None,
) -> Request | None:
    """The first request of a ladder that fits, by bisection.

    Args:
        requests: from large to small; a smaller one never needs more live bytes.
        fits: the answer that counts, by a replay.
        seems_to_fit: a cheaper guess to bisect by; `fits` itself when left out.

    Returns:
        The largest that fits, or None where not even the smallest does.
    """
    guess = seems_to_fit or fits
    low, high = 0, len(requests)
    while low < high:
        middle = (low + high) // 2
        if guess(requests[middle]):
            high = middle
        else:
            low = middle + 1
    # Around the border both ways: the allocator's rounding makes it uneven by a step or two.
    for request in requests[max(0, low - STEPS_AROUND) : low + STEPS_AROUND]:
        if fits(request):
            return request
    return None
