"""Documents: the batches of pages of a request, as `writing` puts their phases together."""

from __future__ import annotations

from webui.core.pages import PageCard, PageRequest
from webui.core.settings import Settings, unquantized
from webui.estimator.rules import Rules
from webui.estimator.templates import width_of
from webui.estimator.writing import WritingMemory


def batch_of(request: PageRequest, settings: Settings) -> int:
    """Pages of the largest batch."""
    return min(int(settings["page_batch"]), request.repeats)


def relevant(
    phase: str, model: PageCard, request: PageRequest, settings: Settings, rules: Rules
) -> tuple[PageRequest, Settings]:
    """Request and settings with a fixed value for what a phase's memory does not depend on."""
    batch = batch_of(request, settings)
    settings = dict(settings) | {"page_batch": batch}
    if width_of(str(settings["precision"])) == "half":
        settings["precision"] = "bf16"
    if rules.kind != "cuda":
        settings = unquantized(settings | {"offload": "none"})
    # A second batch matters to streamed weights: it finds their order.
    pages = batch + 1 if request.repeats > batch and settings["offload"] != "none" else batch
    changes = {"pages": pages, "new_tokens": 1 if phase != "generate" else request.new_tokens}
    return request.with_changes(**changes), settings


class PagesMemory(WritingMemory):
    """Events of each phase of the largest batch.

    Pages of a file may differ in size, and then the shorter prompts are filled up and masked;
    blank pages (`verify`) are of one size.
    """

    def __init__(
        self, card: PageCard, request: PageRequest, settings: Settings, rules: Rules
    ) -> None:
        picture = card.image_tokens(request)
        batch = batch_of(request, settings)
        super().__init__(
            card,
            settings,
            rules,
            {"b": batch, "s": picture + card.prompt_tokens, "m": picture},
            request.new_tokens,
            padded=bool(request.input),
            again=request.repeats > batch,
        )
        self.card = card
        self.request = request
