"""Prompts as tokens and answers as text, for all models that write.

Without a tokenizer (random weights) any tokens do: memory and time do not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from webui.pipelines.text_model import TextPipeline

_WORDS = 100
"""Tokens that are words in every vocabulary: its first ones."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was written for one prompt or page."""

    tokens: tuple[int, ...]
    text: str
    """Empty with random weights."""


def plain_tokens(count: int) -> list[int]:
    """So many tokens for a run with random weights."""
    return [1 + index % _WORDS for index in range(count)]


def conversation_tokens(pipe: TextPipeline, content: Any, replace: tuple[str, str]) -> list[int]:
    """What a user says, in the model's own frame.

    Args:
        pipe: has the tokenizer.
        content: a text, or the parts of a message as the library's templates take them.
        replace: a piece of the frame, and what to put in its place.
    """
    messages = [{"role": "user", "content": content}]
    text = pipe.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    tokens: list[int] = pipe.tokenizer(text.replace(*replace), add_special_tokens=False)[
        "input_ids"
    ]
    return tokens


def batch_tokens(pipe: TextPipeline, prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    """Prompts as one batch (B S): shorter ones are filled up on the left, and masked there."""
    longest = max(len(tokens) for tokens in prompts)
    gaps = [longest - len(tokens) for tokens in prompts]
    ids = [[0] * gap + tokens for gap, tokens in zip(gaps, prompts, strict=True)]
    mask = [[0] * gap + [1] * (longest - gap) for gap in gaps]
    where = pipe.input_device
    return {
        "input_ids": torch.tensor(ids, device=where),
        "attention_mask": torch.tensor(mask, device=where),
    }


def answer_of(pipe: TextPipeline, tokens: list[int], marks: bool = False) -> Answer:
    """An answer without what stands after its end.

    Args:
        pipe: wrote it.
        tokens: of the answer.
        marks: keep words that are no text, such as places.
    """
    ends = pipe.model.generation_config.eos_token_id
    known = set(ends if isinstance(ends, list) else [ends])
    end = next((place for place, token in enumerate(tokens) if token in known), len(tokens))
    kept = tokens[:end]
    if pipe.tokenizer is None:
        return Answer(tuple(kept), "")
    return Answer(tuple(kept), pipe.tokenizer.decode(kept, skip_special_tokens=not marks))
