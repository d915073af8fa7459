"""Pages as the model takes them: pictures as patches, with their place in the prompt.

What differs between models follows from their configuration: the sizes of patches, the number of
the picture's token, and which of these inputs their class takes.

Shapes: B pages at a time, P patches of each, D values of a patch (in one axis or several), M tokens
that its picture becomes (P over the merged square), S tokens of its prompt.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from webui.core.pages import PageCard, PageRequest
from webui.pipelines.picture_processors import picture_processor
from webui.pipelines.prompts import batch_tokens, conversation_tokens, plain_tokens
from webui.pipelines.text_model import TextPipeline

_IMAGE = 1
"""What `mm_token_type_ids` says of a picture's tokens (transformers, models/qwen2_5_vl)."""


def batch_inputs(
    pipe: TextPipeline, request: PageRequest, pages: Sequence[Image.Image]
) -> dict[str, torch.Tensor]:
    """Pages with their prompts as one batch, where the pipeline's inputs wait.

    Returns:
        `pixel_values` (B*P D) in the model's number format, to which the model would cast them
        first; `image_grid_thw` (B 3): frames, rows and columns of patches; `input_ids`,
        `attention_mask` and, where the model takes them, `mm_token_type_ids` (B S).
    """
    return question_inputs(pipe, [page_question(pipe.card, request, page) for page in pages])


@dataclass(frozen=True, slots=True)
class Question:
    """A picture, and what the model is asked about it."""

    picture: Image.Image
    size: tuple[int, int]
    """Height and width in pixels that the model sees."""
    prompt: str


def page_question(card: PageCard, request: PageRequest, page: Image.Image) -> Question:
    """What is asked about a page, or about its regions where the card's model looks for those."""
    side = card.layout_size
    fed = card.fed_size(page.height, page.width, request.max_pixels)
    return Question(page, (side, side) if side else fed, card.prompt)


def question_inputs(pipe: TextPipeline, questions: Sequence[Question]) -> dict[str, torch.Tensor]:
    """As `batch_inputs`, for questions of any kind."""
    card: PageCard = pipe.card
    processor = picture_processor(card, pipe.folder)
    pictures = [
        asked.picture.convert("RGB").resize(asked.size[::-1], processor.resample)
        for asked in questions
    ]
    # They have the size that was planned: the processors' own rules for it differ.
    found = processor(images=pictures, do_resize=False)
    grids = torch.as_tensor(found["image_grid_thw"])
    counts = [math.prod(asked.size) // card.size_multiple**2 for asked in questions]
    prompts = [
        _prompt(pipe, asked.prompt, count) for asked, count in zip(questions, counts, strict=True)
    ]
    inputs = batch_tokens(pipe, prompts)
    patches = torch.as_tensor(found["pixel_values"]).to(pipe.model.dtype)
    inputs |= {
        "pixel_values": patches.to(pipe.input_device),
        "image_grid_thw": grids.to(pipe.input_device),
    }
    return inputs | token_kinds(pipe.model, inputs["input_ids"])


def token_kinds(model: Any, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Which tokens (B S) are a picture's, for models that ask; empty for others."""
    name = "mm_token_type_ids"
    if name not in inspect.signature(model.forward).parameters:
        return {}
    return {name: (input_ids == int(model.config.image_token_id)).int() * _IMAGE}


def _prompt(pipe: TextPipeline, prompt: str, image_tokens: int) -> list[int]:
    """What the model is asked, the picture's places in it."""
    card: PageCard = pipe.card
    token = int(pipe.model.config.image_token_id)
    if pipe.tokenizer is None:
        words = plain_tokens(card.prompt_tokens)
        half = card.prompt_tokens // 2
        return [*words[:half], *[token] * image_tokens, *words[half:]]
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    place = pipe.tokenizer.convert_ids_to_tokens(token)
    return conversation_tokens(pipe, content, (place, place * image_tokens))
