"""What the catalogue knows of each model family: its components, keys and settings."""

from __future__ import annotations

from dataclasses import dataclass

from webui.core.setting import Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One entry a family; a new family is a new entry."""

    kind: str
    """Which kind of card its models have: `clip`, `upscaling`, `pages`, `scans`, `language` or
    `training`."""
    components: tuple[str, ...]
    """What its pipelines are made of."""
    optional_components: tuple[str, ...] = ()
    """What only some of its models have."""
    workload: tuple[str, ...] = ()
    """The optional workload keys that its models take, where a card does not name its own."""
    settings: tuple[str, ...]
    """Settings that change something for it: what a card means by `all`."""
    values: Values
    """For some settings, those of their values that it knows."""


_WRITING_VALUES: Values = {
    "quantization": ("none", "int8", "nf4"),
    "precision": ("bf16", "fp16", "fp32"),
    "offload": ("none", "leaf"),
    "attention": ("sdpa", "eager"),
}
"""Of the models that write text."""
COMPONENT_OF = ("image_encoder",)
"""Settings about a component of the same name, which models without it do not have."""

FAMILIES = {
    "wan": Family(
        kind="clip",
        components=("transformer", "vae", "text_encoder", "scheduler"),
        optional_components=("image_encoder", "transformer_2"),
        workload=("prompt", "negative_prompt", "flow_shift", "solver"),
        settings=(
            "precision",
            "offload",
            "attention",
            "step_cache",
            "step_cache_threshold",
            "step_cache_interval",
            "quantization",
            "gguf_type",
            "ffn_chunks",
            "text_encoder",
            "image_encoder",
            "vae_precision",
            "vae_tiling",
            "vae_tile",
            "vae_tile_overlap",
            "channels_last",
            "allocator",
        ),
        values={"attention": ("sdpa", "flash", "sage", "xformers")},
    ),
    "svd": Family(
        kind="clip",
        components=("image_encoder", "unet", "vae", "scheduler"),
        workload=("image",),
        settings=(
            "precision",
            "offload",
            "ffn_chunks",
            "split_guidance",
            "image_encoder",
            "vae_precision",
            "decode_chunk",
            "allocator",
        ),
        values={"precision": ("bf16", "fp16", "fp32")},
    ),
    "flashvsr": Family(
        kind="upscaling",
        components=("projection", "transformer", "decoder", "vae"),
        settings=(
            "precision",
            "offload",
            "decoder",
            "sparsity",
            "tile",
            "tile_overlap",
            "tile_batch",
            "tile_recheck",
            "tile_reserve_gib",
            "gpus",
            "allocator",
        ),
        values={"precision": ("bf16", "fp16", "fp32"), "offload": ("none", "model", "leaf")},
    ),
    "swin2sr": Family(
        kind="upscaling",
        components=(),
        optional_components=("x2", "x4"),
        settings=(
            "precision",
            "tile",
            "tile_overlap",
            "tile_batch",
            "tile_recheck",
            "tile_reserve_gib",
            "gpus",
            "allocator",
        ),
        values={"precision": ("bf16", "fp16", "fp32")},
    ),
    "qwen_vl": Family(
        kind="pages",
        components=("model",),
        settings=("precision", "offload", "quantization", "attention", "page_batch", "allocator"),
        values=_WRITING_VALUES,
    ),
    "ocr": Family(kind="scans", components=(), settings=(), values={}),
    "language": Family(
        kind="language",
        components=("model",),
        settings=("precision", "offload", "quantization", "attention", "allocator"),
        values=_WRITING_VALUES,
    ),
    "qwen_vl_training": Family(
        kind="training",
        components=("model",),
        settings=(
            "precision",
            "gradient_checkpointing",
            "optimizer",
            "gpus",
            "zero_stage",
            "allocator",
        ),
        values={"precision": ("bf16", "fp16", "fp32")},
    ),
}
