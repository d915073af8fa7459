"""Text (task `generate` of a language model): the step that turns an idea into a script."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.errors import BadInput
from webui.core.fields import MAX_BATCH, read_prompt, read_whole
from webui.core.model import ModelCard
from webui.core.request import Given, Request
from webui.core.text import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDefaults:
    """Values for what a request leaves out."""

    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCard(ModelCard):
    """A language model."""

    defaults: TextDefaults
    max_positions: int
    """Tokens of a prompt and its answer together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest(Request):
    """Answers to prompts of one length, written at the same time."""

    prompt: str = ""
    prompt_tokens: int
    """Length of the prompt; an estimate does not read the prompt itself."""
    new_tokens: int
    batch: int = 1
    """How many answers are written at the same time."""

    @property
    def shape(self) -> tuple[Hashable, ...]:
        return (self.prompt_tokens, self.new_tokens, self.batch)

    @property
    def size_text(self) -> str:
        return f"{self.batch}x{self.prompt_tokens} +{self.new_tokens}"


def read_language(given: Given, model: TextCard, common: Mapping[str, Any]) -> TextRequest:
    """The request for text, with defaults for what is left out.

    Args:
        given: the keys.
        model: takes them.
        common: the values of the keys that all tasks have.

    Raises:
        BadInput: names the first wrong field and says what is allowed.
    """
    most = model.max_positions
    request = TextRequest(
        prompt=read_prompt(given),
        prompt_tokens=read_whole(given, "prompt_tokens", model.defaults.prompt_tokens, 1, most),
        new_tokens=read_whole(given, "new_tokens", model.defaults.new_tokens, 1, most),
        batch=read_whole(given, "batch", 1, 1, MAX_BATCH),
        **common,
    )
    tokens = request.prompt_tokens + request.new_tokens
    if tokens > most:
        raise BadInput(
            "new_tokens",
            Text(
                f"Prompt and answer would be {tokens} tokens; {model.title} takes {most}.",
                f"提示词与结果共 {tokens} 个词元；{model.title} 最多 {most} 个。",
            ),
            Text("Use fewer new_tokens.", "请减少 new_tokens。"),
        )
    return request
