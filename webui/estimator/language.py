"""Language models: a request's one batch of answers, as `writing` puts its phases together."""

from __future__ import annotations

from webui.core.language import TextCard, TextRequest
from webui.core.settings import Settings, unquantized
from webui.estimator.rules import Rules
from webui.estimator.templates import width_of
from webui.estimator.writing import WritingMemory


def relevant(
    phase: str, model: TextCard, request: TextRequest, settings: Settings, rules: Rules
) -> tuple[TextRequest, Settings]:
    """Request and settings with a fixed value for what a phase's memory does not depend on."""
    settings = dict(settings)
    if width_of(str(settings["precision"])) == "half":
        settings["precision"] = "bf16"
    if rules.kind != "cuda":
        settings = unquantized(settings | {"offload": "none"})
    return request.with_changes(
        new_tokens=request.new_tokens if phase == "generate" else 1
    ), settings


class TextMemory(WritingMemory):
    """Events of each phase; all prompts of a batch are the same one."""

    def __init__(
        self, card: TextCard, request: TextRequest, settings: Settings, rules: Rules
    ) -> None:
        shape = {"b": request.batch, "s": request.prompt_tokens}
        super().__init__(card, settings, rules, shape, request.new_tokens)
        self.card = card
        self.request = request
