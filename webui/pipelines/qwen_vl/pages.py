"""Pages as the model takes them: pictures from files, as patches, with their place in the prompt.

Shapes: B pages at a time, P patches of each, D values of a patch, M tokens that its picture
becomes (P over the merged square), S tokens of its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from transformers import Qwen2VLImageProcessorPil

from webui.core.errors import BadInput
from webui.core.fields import shown
from webui.core.pages import PageCard, PageRequest, page_numbers
from webui.core.text import Text
from webui.pipelines.checkpoint import reading
from webui.pipelines.prompts import batch_tokens, conversation_tokens, plain_tokens
from webui.pipelines.text_model import TextPipeline

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_IMAGE_TOKEN = "<|image_pad|>"
_IMAGE = 1
"""What `mm_token_type_ids` says of a picture's tokens (transformers, models/qwen2_5_vl)."""


def page_files(request: PageRequest) -> list[Path]:
    """The files of the pages that the request names: a picture, or those of a folder by name.

    Raises:
        BadInput: there is no such file, or no page of that number.
    """
    path = Path(request.input)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files or not files[0].is_file():
        raise _no_pages(request.input)
    asked = request.pages
    numbers = page_numbers(asked) if isinstance(asked, str) else list(range(1, asked + 1))
    if numbers[-1] > len(files):
        raise BadInput(
            "pages",
            Text(
                f"There is no page {numbers[-1]}: the input has {len(files)}.",
                f"没有第 {numbers[-1]} 页：输入共 {len(files)} 页。",
            ),
            Text(f"Use 1 to {len(files)}.", f"请用 1 到 {len(files)}。"),
        )
    return [files[number - 1] for number in numbers]


def open_page(path: Path) -> Image.Image:
    """One page.

    Raises:
        BadInput: it is no picture.
    """
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise _no_pages(path.name) from error


def blank_page(request: PageRequest) -> Image.Image:
    """A page for a run with random weights."""
    return Image.new("RGB", (request.width, request.height), (128, 128, 128))


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
    most = min(card.max_pixels, request.max_pixels or card.max_pixels)
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


def _no_pages(name: str) -> BadInput:
    return BadInput(
        "input",
        Text(f"'{shown(name)}' holds no pages.", f"“{shown(name)}”中没有页面。"),
        Text(
            "Name a picture (PNG, JPEG or WebP), or a folder of pictures.",
            "请指定一张图片（PNG、JPEG 或 WebP），或图片所在的文件夹。",
        ),
    )
