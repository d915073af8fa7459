"""What the optimizer may choose for the settings that the user left open."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from webui.core.clip import ClipRequest
from webui.core.gguf import GGUF
from webui.core.model import ModelCard
from webui.core.pages import PageRequest
from webui.core.request import Request
from webui.core.settings import (
    FP8,
    NOT_QUANTIZED,
    SETTINGS,
    Settings,
    SettingValue,
    refused_together,
)
from webui.core.upscale import UpscaleCard, UpscaleRequest
from webui.estimator.target import Target
from webui.optimizer import upscaling

GPU_ONLY = (
    "quantization",
    "gguf_type",
    "offload",
    "text_encoder",
    "image_encoder",
    "channels_last",
    "allocator",
)
"""Settings that mean nothing on a processor."""
GPU_KERNELS = {"flash", "sage", "xformers"}
"""Values of `attention` that are kernels for GPUs."""
_ON_PROCESSOR: Settings = {
    "quantization": NOT_QUANTIZED,
    "gguf_type": SETTINGS["gguf_type"].default,
    "offload": "none",
    "text_encoder": "gpu",
    "image_encoder": "gpu",
    "channels_last": False,
    "allocator": "expandable",
}
AUTO_TILES = (256, 128)
"""Tile sides that are tried, the library's default first."""
AUTO_PIECES = 8
"""More pieces free nothing more: from here on the peak is self-attention, which has none."""
AUTO_BATCHES = (1, 2, 4, 8, 16, 32, 64)
"""Pages at a time that are tried, beside all of them: each doubling halves the passes, and beyond
these a pass is no longer bound by what it reads and launches."""
ZERO_STAGES = (0, 1, 2, 3)
AUTO_CHUNKS = (8, 4, 2, 1)
"""Frames of a decode chunk that are tried after all of them; 8 is what the library's guide uses
(diffusers, docs, api/pipelines/stable_diffusion/svd.md)."""


def effective_settings(model: ModelCard, target: Target) -> tuple[str, ...]:
    """The model's settings that change something on this device."""
    names = model.settings
    if target.card.kind == "cpu":
        kernels = set(model.setting_values.get("attention", ())) - GPU_KERNELS
        unused = GPU_ONLY if len(kernels) > 1 else (*GPU_ONLY, "attention")
        names = tuple(name for name in names if name not in unused)
    return names


def own_defaults(model: ModelCard, request: Request, target: Target) -> Settings:
    """What `estimate` takes for this request and device instead of a setting's own default."""
    own = dict(model.setting_defaults)
    if target.card.kind == "cuda" and not target.card.bf16:
        for name in ("precision", "vae_precision"):
            if own.get(name, SETTINGS[name].default) == "bf16":
                own[name] = "fp16"
    if request.platform == "windows":
        own["allocator"] = "default"
    if isinstance(request, ClipRequest):
        own["decode_chunk"] = request.frames
    return own


def open_values(
    model: ModelCard, request: Request, target: Target
) -> dict[str, list[SettingValue]]:
    """For each setting the values to try; one value where the user or the device decides."""
    card = target.card
    own = model.setting_defaults
    half = str(own.get("precision", "bf16" if card.bf16 else "fp16"))
    vae_half = own.get("vae_precision")
    on_gpu = card.kind == "cuda"
    fixed_tile = request.settings.get("vae_tile")
    tiles = AUTO_TILES if fixed_tile is None else (int(fixed_tile),)
    frames = request.frames if isinstance(request, ClipRequest) else 1
    values: dict[str, list[SettingValue]] = {
        "precision": [half] if on_gpu else ["fp32", "bf16"],
        "image_encoder": ["gpu", "cpu"],
        "decode_chunk": [frames, *(n for n in AUTO_CHUNKS if n < frames)],
        # Fewer bits change the result: only who names them gets them.
        "quantization": [NOT_QUANTIZED],
        "gguf_type": [SETTINGS["gguf_type"].default],
        "offload": ["none", "model", "leaf", "block"],
        "ffn_chunks": [1, AUTO_PIECES],
        "split_guidance": [False, True],
        "text_encoder": ["gpu", "stream", "cpu"],
        "vae_precision": [vae_half or "fp32", *([] if vae_half else [half])]
        if on_gpu
        else ["fp32"],
        "vae_tiling": [False, True],
        "vae_tile": list(tiles),
        "vae_tile_overlap": [auto_overlap(tile) for tile in tiles],
        "channels_last": [True],
        "attention": ["sdpa"],
        # They change the picture: only who names one gets it.
        "step_cache": ["none"],
        "step_cache_threshold": [SETTINGS["step_cache_threshold"].default],
        "step_cache_interval": [SETTINGS["step_cache_interval"].default],
        "page_batch": _batches(request),
        "gradient_checkpointing": [False, True],
        # Eight bits change the result a little: only who names them gets them.
        "optimizer": ["adamw-fused"],
        "gpus": [1],
        "zero_stage": list(ZERO_STAGES if int(request.settings.get("gpus", 1)) > 1 else (0,)),
        "allocator": ["default" if request.platform == "windows" else "expandable"],
    }
    if isinstance(model, UpscaleCard) and isinstance(request, UpscaleRequest):
        values |= upscaling.open_values(model, request, target)
    knows_fp8 = FP8 in model.setting_values.get("precision", SETTINGS["precision"].choices)
    if on_gpu and card.bf16 and knows_fp8 and _fp8_can_help(request):
        values["precision"].append(FP8)
    values = {
        name: [value for value in values[name] if value in model.setting_values.get(name, (value,))]
        for name in model.settings
    }
    for name, value in request.settings.items():
        if not upscaling.is_open(name, value):
            values[name] = [value]
    if not on_gpu:
        values |= {name: [value] for name, value in _ON_PROCESSOR.items() if name in values}
        if request.settings.get("text_encoder") in ("absent", "cached"):
            values["text_encoder"] = [request.settings["text_encoder"]]
    return values


def candidates(model: ModelCard, request: Request, target: Target) -> Iterator[Settings]:
    """All sensible combinations of the open values."""
    values = open_values(model, request, target)
    names = list(values)
    seen: set[tuple[SettingValue, ...]] = set()
    for combination in product(*values.values()):
        settings = dict(zip(names, combination, strict=True))
        if not _is_sensible(settings, model, request):
            continue
        key = tuple(settings.values())
        if key not in seen:
            seen.add(key)
            yield settings


def _batches(request: Request) -> list[SettingValue]:
    """Pages at a time: powers of two, and all of them where they are not many."""
    pages = request.repeats if isinstance(request, PageRequest) else 1
    several = [count for count in AUTO_BATCHES if count < pages]
    return [*several, pages] if pages <= AUTO_BATCHES[-1] else [*several]


def _fp8_can_help(request: Request) -> bool:
    """Whether weights in fp8 could make something fit that nothing before it does.

    Streamed layer by layer, hardly any weights are on the card, and a layer's copy in bf16 is as
    large as without fp8 (traces of 14B: 1.76 GiB in bf16, 1.78 in fp8). So it is asked for only
    where the user has ruled streaming by layers out; who wants half of the host memory chooses it.
    """
    return request.settings.get("offload", "leaf") != "leaf"


def _is_sensible(settings: Settings, model: ModelCard, request: Request) -> bool:
    """Leaves out combinations that repeat another one, or contradict themselves."""
    if refused_together(settings) is not None:
        return False
    if isinstance(model, UpscaleCard) and isinstance(request, UpscaleRequest):
        return upscaling.is_sensible(model, request, settings)
    if "vae_tile" not in settings or not isinstance(request, ClipRequest):
        return True
    fixed = request.settings
    tile, overlap = int(settings["vae_tile"]), int(settings["vae_tile_overlap"])
    if "vae_tile_overlap" not in fixed and overlap != auto_overlap(tile):
        return False
    if overlap > tile // 2:
        return False
    if "vae_tile" in fixed:
        return True
    is_default = tile == SETTINGS["vae_tile"].default
    if settings["vae_tiling"]:
        # Tiles as large as the picture are no tiles; who asked for them still gets an answer.
        return tile < max(request.height, request.width) or ("vae_tiling" in fixed and is_default)
    return is_default


def auto_overlap(tile: int) -> int:
    """About a quarter of the tile, as the library's default has it."""
    spec = SETTINGS["vae_tile_overlap"]
    return max(spec.low, tile // 4 // spec.multiple * spec.multiple)


FP8_COST = 4.0
"""More than tiles and a VAE in bf16 together: fp8 changes the picture itself."""
STEP_CACHE_COST = 8.0
"""More than fp8: whole steps are guessed."""
QUANTIZATION_COST = {
    NOT_QUANTIZED: 0.0,
    "int8": 5.0,
    "nf4": 6.0,
    "int8wo": 5.0,
    "fp8wo": 5.0,
    GGUF: 5.0,
}
"""More than fp8, as the order of means has it; fewer bits cost more. Who names a GGUF file has
said how many."""


def quality_cost(settings: Settings) -> float:
    """How far the picture may differ from the authors' settings; 0 for lossless ones.

    Means with a small known cost come after the lossless ones: each counts, and smaller tiles,
    which have more borders, a little more.
    """
    cost = 0.0
    if settings.get("vae_precision", "fp32") != "fp32":
        cost += 1.0
    if settings.get("precision") == FP8:
        cost += FP8_COST
    if settings.get("step_cache", "none") != "none":
        cost += STEP_CACHE_COST
    cost += QUANTIZATION_COST[str(settings.get("quantization", NOT_QUANTIZED))]
    if settings.get("vae_tiling"):
        cost += 1.0 if int(settings["vae_tile"]) >= AUTO_TILES[0] else 1.5
    if "decode_chunk" in settings:
        # The decoder smooths within a chunk only: fewer frames, more borders.
        cost += 0.5 / int(settings["decode_chunk"])
    return cost + upscaling.quality_cost(settings)
