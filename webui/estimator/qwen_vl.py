"""Documents: the batches of pages of a request, as `writing` puts their phases together."""

from __future__ import annotations

from copy import copy

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
            # Regions come after the look for them.
            again=request.repeats > batch or bool(card.layout_size),
        )
        self.card = card
        self.request = request

    def passes(self) -> list[PagesMemory]:
        """What a page goes through: also the look for its regions, where the model does that.

        Of the regions one is counted, as large as the page and with an answer as long as was asked
        for; those of a page are smaller, and as long only together.
        """
        side = self.card.layout_size
        if not side:
            return [self]
        picture = side**2 // self.card.size_multiple**2
        page = self.card.page_tokens(self.request)
        return [self._with_picture(picture), self._with_picture(page)]

    def _with_picture(self, tokens: int) -> PagesMemory:
        other = copy(self)
        before = tokens if self.shape["b"] > 1 else 0
        changed = {"s": tokens + self.card.prompt_tokens, "m": tokens, "p": before}
        other.shape = {**self.shape, **changed}
        return other
