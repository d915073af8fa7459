"""Synthetic samples: a picture and text of a given length, as the model's processor makes them.

Shapes: B samples, S tokens of a sample, P patches of a picture, D values of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers.vision_utils import (
    get_vision_attention_seqlens,
    get_vision_position_ids,
    get_vision_window_index,
)

from webui.core.training import TrainRequest
from webui.pipelines.qwen_vl_training.components import Trainee

IGNORED = -100
"""A label that the loss leaves out: a picture's tokens are given, not predicted."""

Batch = dict[str, Any]
"""The model's arguments."""


def build_batch(pipe: Trainee, request: TrainRequest, generator: torch.Generator) -> Batch:
    """One batch on the run's device, labels among it.

    Everything that the vision tower derives from the pictures' sizes is made on the processor and
    given to it ready, so that no step waits for the GPU to read it back, and the meta device can
    run the same code.

    Args:
        pipe: the model.
        request: `batch`, `sequence_length`, `image_size`.
        generator: of the processor; draws words and pixels.
    """
    ids, kinds, grid = _tokens(pipe, request, generator)
    labels = ids.masked_fill(kinds == 1, IGNORED)
    inputs: Batch = {"input_ids": ids, "labels": labels}
    if grid is not None:
        positions, _ = pipe.model.model.get_rope_index(ids, kinds, image_grid_thw=grid)
        inputs |= {"position_ids": positions, **_picture(pipe, grid, generator)}
    kept_on_host = ("image_grid_thw", "image_cu_seqlens", "image_cu_window_seqlens")
    return {
        name: value if name in kept_on_host else value.to(pipe.run_device)
        for name, value in inputs.items()
    }


def _tokens(
    pipe: Trainee, request: TrainRequest, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Ids (B S), kinds (B S; 1 where the picture is) and the grids of the pictures (B 3)."""
    config = pipe.card.configs["model"]
    words = int(config["vision_start_token_id"])
    shape = (request.batch, request.sequence_length)
    ids = torch.randint(0, words, shape, generator=generator)
    kinds = torch.zeros(shape, dtype=torch.int32)
    count = pipe.card.image_tokens(request.image_size)
    if not count:
        return ids, kinds, None
    # Marks around the picture, where there is room for both beside a word to learn.
    first = 1 if count + 2 < request.sequence_length else 0
    if first:
        ids[:, 0] = int(config["vision_start_token_id"])
        ids[:, count + 1] = int(config["vision_end_token_id"])
    ids[:, first : first + count] = int(config["image_token_id"])
    kinds[:, first : first + count] = 1
    side = pipe.card.fed_size(request.image_size) // int(config["vision_config"]["patch_size"])
    return ids, kinds, torch.tensor([[1, side, side]] * request.batch)


def _picture(pipe: Trainee, grid: torch.Tensor, generator: torch.Generator) -> Mapping[str, Any]:
    """Pixels (B*P D, fp32 as the processor gives them), and what follows from the grids."""
    config = pipe.model.config.vision_config
    area = int(config.temporal_patch_size) * int(config.patch_size) ** 2
    patches = int(grid.prod(dim=-1).sum())
    window_index, cu_window_seqlens = get_vision_window_index(
        grid, config.spatial_merge_size, config.window_size, config.patch_size
    )
    cu_seqlens, _ = get_vision_attention_seqlens(grid, config)
    shape = (patches, int(config.in_channels) * area)
    # A row that repeats costs a draw of one row: a picture's values change nothing.
    row = torch.randn((1, shape[1]), generator=generator)
    return {
        "pixel_values": row.expand(shape).contiguous(),
        "image_grid_thw": grid,
        "image_position_ids": get_vision_position_ids(grid, config.spatial_merge_size),
        "image_cu_seqlens": cu_seqlens,
        "image_window_index": window_index,
        "image_cu_window_seqlens": cu_window_seqlens,
    }
