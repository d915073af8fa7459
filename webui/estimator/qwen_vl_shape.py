"""What the templates of a Qwen2.5-VL training step are functions of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.training import TrainCard, TrainRequest

ROWS = 128
"""Attention's backward pass pads its rows to a multiple of this."""

WAYS = ("full", "lora")
"""What is trained: all weights, or adapters."""
KEPT = ("checkpoint", "all")
"""What is kept for the way back: each layer's input, or everything."""
VIEWS = ("image", "text")
"""Samples with a picture, or of text alone."""


def variant_of(way: str, kept: str, view: str, attention: str) -> str:
    """The prefix of a variant's arrays."""
    return f"{way}.{kept}.{view}.{attention}"


@dataclass(frozen=True, slots=True)
class Step:
    """The variables of one forward and backward pass.

    A size is a sum of some of them times constants, and of `k` times `t`.
    """

    b: int
    """Samples."""
    t: int
    """Tokens of all samples."""
    s: int
    """Tokens of a sample."""
    u: int
    """The same, each sample's padded to whole blocks of rows."""
    a: int
    """Values of an attention matrix of each sample: tokens squared, times samples."""
    c: int
    """Values of the causal mask: tokens of a sample squared."""
    p: int
    """Patches of all pictures."""
    r: int
    """Patches of one picture, padded: the rows that full attention takes at once."""
    w: int
    """Patches of the largest window, padded: the rows of windowed attention."""
    k: int
    """Rank of the adapters; 0 without."""

    def to_dict(self) -> dict[str, int]:
        return {name: int(getattr(self, name)) for name in self.__slots__}


def step_of(card: TrainCard, request: TrainRequest) -> Step:
    """The variables of a request's passes."""
    tokens = request.sequence_length
    patches = patches_of(card, request.image_size)
    lengths = window_lengths(card, request.image_size)
    return Step(
        b=request.batch,
        t=request.batch * tokens,
        s=tokens,
        u=request.batch * padded(tokens),
        a=request.batch * tokens**2,
        c=tokens**2,
        p=request.batch * patches,
        r=padded(patches),
        w=padded(max(lengths, default=0)),
        k=request.lora_rank,
    )


def padded(rows: int) -> int:
    return -(-rows // ROWS) * ROWS


def vision_config(card: TrainCard) -> Mapping[str, Any]:
    config: Mapping[str, Any] = card.configs["model"]["vision_config"]
    return config


def patches_of(card: TrainCard, image_size_px: int) -> int:
    """Patches of one picture."""
    side = card.fed_size(image_size_px) // int(vision_config(card)["patch_size"])
    return int(side**2)


def window_lengths(card: TrainCard, image_size_px: int) -> list[int]:
    """Patches of each attention window of one picture; those at its edges are smaller.

    As transformers' get_vision_window_index cuts it.
    """
    config = vision_config(card)
    merged = int(config["spatial_merge_size"])
    side = card.fed_size(image_size_px) // int(config["patch_size"]) // merged
    window = int(config["window_size"]) // merged // int(config["patch_size"])
    edges = [min(window, side - start) for start in range(0, side, window)]
    return [merged**2 * height * width for height in edges for width in edges]


def block_counts(card: TrainCard) -> tuple[int, int]:
    """Blocks of the vision tower with windowed and with full attention."""
    config = vision_config(card)
    full = len([index for index in config["fullatt_block_indexes"] if index < config["depth"]])
    return int(config["depth"]) - full, full


@dataclass(frozen=True, slots=True)
class VisionAttention:
    """How the vision tower's attention is cut, which decides its time and not its memory."""

    q: int
    """Products of queries and keys, over all blocks and pieces."""
    x: int
    """Pieces beyond one in each block."""


def vision_attention_of(card: TrainCard, request: TrainRequest) -> VisionAttention:
    """Over all blocks: windows in most of them, whole pictures in the others."""
    if not request.image_size:
        return VisionAttention(0, 0)
    windowed, full = block_counts(card)
    lengths = window_lengths(card, request.image_size)
    patches = patches_of(card, request.image_size)
    squares = windowed * sum(length**2 for length in lengths) + full * patches**2
    pieces = request.batch * (windowed * len(lengths) + full)
    return VisionAttention(q=request.batch * squares, x=pieces - windowed - full)
