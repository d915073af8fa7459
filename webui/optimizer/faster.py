"""What would be much faster where the plan fits: offered, and never taken unasked."""

from __future__ import annotations

from typing import Any

from webui.core.language import TextRequest
from webui.core.model import ModelCard
from webui.core.pages import PageRequest
from webui.core.plan import Alternative, Estimate
from webui.core.request import Request
from webui.core.text import Text
from webui.core.units import format_seconds
from webui.estimator.target import Target
from webui.optimizer.pixels import with_pixels
from webui.optimizer.search import find_best

MUCH_FASTER = 2.0
"""So many times: less is not worth a change of the result."""
_BITS = {"int8": 8, "nf4": 4}
"""Quantisations that are offered, the one that changes the result least first."""
_FIRST_INT8 = (7, 5)


def find_faster(
    model: ModelCard, request: Request, target: Target, chosen: Estimate, open_request: Request
) -> tuple[Alternative, ...]:
    """Quantised weights, where writing waits for weights that are streamed again for each token.

    Args:
        model: the request's model.
        request: fixed settings and workload.
        target: the device.
        chosen: the plan's estimate, which fits.
        open_request: the request with `max_pixels` as it was asked for: where that is `auto`, fewer
            pixels may leave room for the quantised weights.
    """
    waits = isinstance(request, TextRequest | PageRequest)
    streams = chosen.settings.get("offload") in ("leaf", "block")
    if not waits or not streams or "quantization" in request.settings:
        return ()
    known = model.setting_values.get("quantization", tuple(_BITS))
    for name, bits in _BITS.items():
        old = (target.card.compute_capability or (0, 0)) < _FIRST_INT8
        if name not in known or "quantization" not in model.settings or (name == "int8" and old):
            continue
        fewer = {"settings": {**request.settings, "quantization": name}}
        asked, pixels = with_pixels(model, open_request.with_changes(**fewer), target)
        if pixels is None:
            asked = request.with_changes(**fewer)
        found = find_best(model, asked, target)
        if found is None or found.seconds * MUCH_FASTER > chosen.seconds:
            continue
        fast, slow = format_seconds(found.seconds), format_seconds(chosen.seconds)
        fast_zh, slow_zh = (format_seconds(each.seconds, "zh") for each in (found, chosen))
        pixels_left = _fewer_pixels(request, asked)
        shrunk = shrunk_zh = ""
        if pixels_left is not None:
            shrunk = f", with pages shrunk to {pixels_left} pixels,"
            shrunk_zh = f"、页面缩至 {pixels_left} 像素，"
        text = Text(
            f"Quantised to {bits} bits{shrunk} it takes about {fast} instead of {slow}; the "
            "text may differ a little",
            f"量化为 {bits} 位{shrunk_zh}约需 {fast_zh}，而不是 {slow_zh}；文字可能略有不同",
        )
        changes: dict[str, Any] = {"settings": {"quantization": name}}
        if pixels_left is not None:
            changes["max_pixels"] = pixels_left
        return (Alternative(text=text, changes=changes),)
    return ()


def _fewer_pixels(request: Request, asked: Request) -> int | None:
    """How many pixels of a page are left, where they are fewer than the plan's."""
    if not isinstance(request, PageRequest) or not isinstance(asked, PageRequest):
        return None
    left, before = asked.max_pixels, request.max_pixels
    return left if isinstance(left, int) and isinstance(before, int) and left < before else None
