"""Pages as the model takes them: pictures as patches, with their place in the prompt.

Shapes: B pages at a time, P patches of each, D values of a patch, M tokens that its picture
becomes (P over the merged square), S tokens of its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil

from webui.core.pages import PageCard, PageRequest
from webui.pipelines.checkpoint import reading
from webui.pipelines.prompts import batch_tokens, conversation_tokens, plain_tokens
from webui.pipelines.text_model import TextPipeline

_IMAGE_TOKEN = "<|image_pad|>"
_IMAGE = 1
"""What `mm_token_type_ids` says of a picture's tokens (transformers, models/qwen2_5_vl)."""


def batch_inputs(
    pipe: TextPipeline, request: PageRequest, pages: Sequence[Image.Image]
) -> dict[str, torch.Tensor]:
    """Pages with their prompts as one batch, where the pipeline's inputs wait.

    Returns:
        `pixel_values` (B*P D) in the model's number format, to which the model would cast them
        first; `image_grid_thw` (B 3): frames, rows and columns of patches; `input_ids`,
        `attention_mask` and `mm_token_type_ids` (B S).
    """
    found = _processor(pipe, request)(images=list(pages))
    grids = torch.as_tensor(found["image_grid_thw"])
    merged = int(pipe.model.config.vision_config.spatial_merge_size) ** 2
    counts = (grids.prod(-1) // merged).tolist()
    inputs = batch_tokens(pipe, [_prompt(pipe, count) for count in counts])
    is_image = inputs["input_ids"] == int(pipe.model.config.image_token_id)
    patches = torch.as_tensor(found["pixel_values"]).to(pipe.model.dtype)
    return inputs | {
        "mm_token_type_ids": is_image.int() * _IMAGE,
        "pixel_values": patches.to(pipe.input_device),
        "image_grid_thw": grids.to(pipe.input_device),
    }


def _processor(pipe: TextPipeline, request: PageRequest) -> Qwen2VLImageProcessorPil:
    """The library's picture processor, with the request's limits in pixels."""
    card: PageCard = pipe.card
    vision = pipe.model.config.vision_config
    asked = request.max_pixels if isinstance(request.max_pixels, int) else 0
    most = min(card.max_pixels, asked or card.max_pixels)
    own = {
        "patch_size": int(vision.patch_size),
        "merge_size": int(vision.spatial_merge_size),
        "temporal_patch_size": int(vision.temporal_patch_size),
        "size": {"shortest_edge": card.min_pixels, "longest_edge": most},
    }
    if pipe.folder is None or not (pipe.folder / "preprocessor_config.json").is_file():
        return Qwen2VLImageProcessorPil(**own)
    return reading(
        "preprocessor_config.json",
        lambda: Qwen2VLImageProcessorPil.from_pretrained(
            str(pipe.folder), local_files_only=True, **own
        ),
    )


def _prompt(pipe: TextPipeline, image_tokens: int) -> list[int]:
    """What the model is asked with a page, the picture's places in it."""
    card: PageCard = pipe.card
    if pipe.tokenizer is None:
        words = plain_tokens(card.prompt_tokens)
        picture = [int(pipe.model.config.image_token_id)] * image_tokens
        half = card.prompt_tokens // 2
        return [*words[:half], *picture, *words[half:]]
    content = [{"type": "image"}, {"type": "text", "text": card.prompt}]
    return conversation_tokens(pipe, content, (_IMAGE_TOKEN, _IMAGE_TOKEN * image_tokens))
