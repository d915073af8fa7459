"""`max_pixels: auto`: the most pixels of a page that fit, for the plan to go on with."""

from __future__ import annotations

from webui.core.documents import AUTO, DocumentCard, DocumentRequest
from webui.core.model import ModelCard
from webui.core.request import Request
from webui.core.text import Text
from webui.estimator.target import Target
from webui.optimizer.ladder import first_that_fits
from webui.optimizer.search import can_fit

STEP = 1.05
"""Between counts that are tried: finer ones are no other page to anybody."""
_LEAST = Text("the least that the model takes", "模型允许的最小值")
_MOST_THAT_FITS = Text("the most that fits, to 5 %", "放得下的最大值（精确到 5 %）")
_MODELS_MOST = Text("the most that the model takes", "模型允许的最大值")
_WHOLE = Text("all that the page has", "页面的全部像素")


def with_pixels(model: ModelCard, request: Request, target: Target) -> tuple[Request, Text | None]:
    """The request with a number for `auto`, and what the plan says of it.

    Weights stay on the card where any count fits so: reading then does not wait for them, and a
    sharper page is not worth that. No page is made larger than it is.

    Args:
        model: the request's model.
        request: fixed settings and workload.
        target: the device.
    """
    asked = isinstance(request, DocumentRequest) and request.max_pixels == AUTO
    if not asked or not isinstance(request, DocumentRequest):
        return request, None
    assert isinstance(model, DocumentCard)
    counts = _counts(model, request)
    rungs = [request.with_changes(max_pixels=count) for count in counts]
    may_stay = "offload" in model.settings and "offload" not in request.settings
    found: Request | None = None
    if may_stay and target.card.kind == "cuda":
        resident = [
            rung.with_changes(settings={**rung.settings, "offload": "none"}) for rung in rungs
        ]
        found = first_that_fits(resident, lambda rung: can_fit(model, rung, target))
    found = found or first_that_fits(rungs, lambda rung: can_fit(model, rung, target))
    chosen = found.max_pixels if isinstance(found, DocumentRequest) else counts[-1]
    assert isinstance(chosen, int), "rungs have numbers"
    if found is None:
        why = _LEAST
    elif chosen < counts[0]:
        why = _MOST_THAT_FITS
    else:
        why = _WHOLE if chosen == request.height * request.width else _MODELS_MOST
    return request.with_changes(max_pixels=chosen), Text(
        f"max_pixels: auto became {chosen}, {why.en}.",
        f"max_pixels: auto 取 {chosen}，即{why.zh}。",
    )


def _counts(model: DocumentCard, request: DocumentRequest) -> list[int]:
    """Pixel counts from the page's own, or the model's limit, to its least."""
    least = max(model.size_multiple**2, model.min_pixels)
    most = max(least, min(model.max_pixels, request.height * request.width))
    counts = [float(most)]
    while counts[-1] / STEP > least:
        counts.append(counts[-1] / STEP)
    return [int(count) for count in counts] + [least]
