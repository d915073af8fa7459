"""What is traced of documents: a batch of pages through tower, prompt and steps.

Variables: b pages at a time, s tokens of a page with its prompt, m of them the picture's, c tokens
in the cache before a step; p: m where there is another page before the last, else 0.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from PIL import Image

from webui.core.pages import PageCard
from webui.core.settings import NOT_QUANTIZED
from webui.estimator.tape import Terms
from webui.pipelines.picture_processors import picture_processor
from webui.pipelines.qwen_vl.pages import token_kinds
from webui.pipelines.text_model import TextPipeline, parts_of
from webui.tracing.fit import Shape
from webui.tracing.recorder import Recording
from webui.tracing.seeing import seeing
from webui.tracing.writing import (
    MODES,
    PIECES,
    WAYS,
    build,
    record_write,
    restored_arrays,
    weight_arrays,
)
from webui.tracing.written import Recorded, products, written_arrays, written_costs

Arrays = dict[str, np.ndarray]

_LINEAR = products("", "b", "s", "bs", "m", "bm")
_SQUARES = products("ss", "bss")
_OF_PROMPT = {"vision": _LINEAR, "prefill": _LINEAR + _SQUARES}
_OF_BOTH = {"vision": _LINEAR + products("pp", "mm"), "prefill": _LINEAR + _SQUARES}
TERMS: dict[str, dict[str, Terms]] = {
    "flash": {"vision": _LINEAR, "prefill": _LINEAR},
    "padded": _OF_PROMPT,
    "math-one": _OF_PROMPT,
    "math-many": _OF_PROMPT,
    "eager-one": _OF_BOTH,
    "eager-many": _OF_BOTH,
}
"""What sizes are sums of, for each way of attention."""
COST_TERMS: dict[str, Terms] = {
    "vision": _LINEAR + products("mm", "bmm"),
    "prefill": _LINEAR + _SQUARES,
}
_TOWER_COSTS = ("flash", "eager-one", "eager-many")
"""Ways that differ in the tower; the others are there for the prompt's mask and heads."""
_BATCHES = (
    (0, 15, (4, 4)),
    (1, 15, (4, 4)),
    (0, 31, (4, 4)),
    (1, 39, (4, 4)),
    (0, 15, (4, 8)),
    (2, 23, (4, 8)),
    (1, 47, (8, 8)),
    (0, 23, (8, 8)),
    (2, 55, (4, 12)),
    (0, 47, (4, 12)),
)
"""Pages beyond the fewest, tokens around a picture, rows and columns of its merged patches: whole
windows, so that the cost of windows is exact; prompts one token short of a whole row of an
attention bias, which is then filled up by one."""


def record_batch(
    card: PageCard,
    precision: str,
    mode: str,
    way: str,
    cut: str,
    shape: Shape,
    grid: tuple[int, int],
    quantization: str = NOT_QUANTIZED,
) -> tuple[TextPipeline, list[Recording]]:
    """A batch of pages on meta.

    Args:
        card: the model.
        precision: of its weights.
        mode: how they live, one of `MODES`.
        way: how attention is computed, one of `WAYS`.
        cut: how the tower's attention is cut, one of `seeing.CUTS`.
        shape: b and s.
        grid: rows and columns of merged patches of each page.
        quantization: of its weights.
    """
    pipe = build(card, precision, way, quantization)
    vision = pipe.model.config.vision_config
    merge = int(vision.spatial_merge_size)
    sides = torch.tensor([[1, grid[0] * merge, grid[1] * merge]] * shape["b"])
    picture = grid[0] * grid[1]
    values = (int(sides.prod(-1).sum()), *_patch_shape(card))

    def inputs(pipe: TextPipeline, where: torch.device) -> dict[str, torch.Tensor]:
        ids = torch.ones((shape["b"], shape["s"]), dtype=torch.int64, device=where)
        ids[:, 1 : 1 + picture] = int(pipe.model.config.image_token_id)
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            **token_kinds(pipe.model, ids),
            "pixel_values": torch.empty(values, dtype=pipe.model.dtype, device=where),
            "image_grid_thw": sides,
        }

    tokens = shape["b"] * picture
    told = seeing(pipe.model, sides, cut, on_meta=mode == "resident")
    return pipe, record_write(pipe, mode, way, inputs, tokens, told)


def _patch_shape(card: PageCard) -> tuple[int, ...]:
    """Of the values of one patch, as the model's picture processor gives them."""
    side = card.size_multiple
    found = picture_processor(card, None)(images=[Image.new("RGB", (side, side))], do_resize=False)
    return tuple(np.shape(found["pixel_values"])[1:])


def trace_model(
    card: PageCard,
    precision: str,
    modes: tuple[str, ...] = MODES,
    ways: tuple[str, ...] = tuple(WAYS),
    quantization: str = NOT_QUANTIZED,
) -> Arrays:
    """Weights, the pieces of a batch for each way of attention and of offloading, their costs."""
    pipe = build(card, precision, "flash", quantization)
    arrays: Arrays = weight_arrays(pipe) | restored_arrays(pipe)
    connected = "connector" in parts_of(pipe.model)
    for way in ways:
        for mode in modes:
            cut = "last" if WAYS[way].attention == "eager" else "whole"
            recorded = _recorded(card, precision, mode, way, cut, quantization)
            arrays |= written_arrays(mode, way, recorded, TERMS[way])
            if mode == "resident":
                arrays |= written_costs(way, recorded, COST_TERMS, PIECES[1:5])
        if way in _TOWER_COSTS or connected:  # those of its own windows and pictures
            seen = _recorded(card, precision, "resident", way, "pictures", quantization)
            pieces = PIECES[:1] if way in _TOWER_COSTS else ()
            arrays |= written_costs(
                way, seen, COST_TERMS, pieces + (PIECES[1:2] if connected else ())
            )
    return arrays


def _recorded(
    card: PageCard, precision: str, mode: str, way: str, cut: str, quantization: str
) -> list[Recorded]:
    """Batches of the shapes that a way is traced at."""
    recorded = []
    for more, text, grid in _BATCHES:
        if WAYS[way].batches == "one" and more:
            continue
        pages, picture = WAYS[way].fewest + more, grid[0] * grid[1]
        shape = {"b": pages, "s": picture + text, "m": picture, "p": (pages - 1) * picture}
        pipe, found = record_batch(card, precision, mode, way, cut, shape, grid, quantization)
        recorded.append((shape, pipe, found))
    return recorded


PARTS = {
    "model": trace_model,
    "model_int8": partial(trace_model, modes=("resident",), quantization="int8"),
    "model_nf4": partial(trace_model, modes=("resident",), quantization="nf4"),
}
"""The parts of the family's models, each with what traces it."""
