"""Settings: the memory sliders. What is not named in a request is left to the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from webui.core.errors import BadInput
from webui.core.fields import shown
from webui.core.gguf import GGUF
from webui.core.setting import Settings, SettingSpec, SettingValue, Values
from webui.core.setting_specs import (
    FIRST_BLOCK,
    FP8,
    MAX_CHUNK,
    NOT_QUANTIZED,
    SETTINGS,
    TAYLORSEER,
)
from webui.core.text import Text

__all__ = [
    "FIRST_BLOCK",
    "FP8",
    "MAX_CHUNK",
    "NOT_QUANTIZED",
    "SETTINGS",
    "TAYLORSEER",
    "SettingSpec",
    "SettingValue",
    "Settings",
    "Values",
    "check_settings",
    "refused_together",
    "unquantized",
    "with_defaults",
]


_NO_SLICING = Text(
    "Attention here never makes its whole matrix (SDPA), so slicing it would change nothing. "
    "Remove it; ffn_chunks saves memory while denoising.",
    "这里的注意力（SDPA）从不生成完整矩阵，切片不会有任何作用。请删去它；"
    "想在去噪时省显存可用 ffn_chunks。",
)
_AS_ATTENTION = Text(
    "It is a value of another setting: attention: xformers.",
    "它是另一个设置的值：attention: xformers。",
)
_BESIDE = Text("It stands beside settings, not in them.", "它应与 settings 并列，而不在其中。")
_REQUEST_KEYS = (
    "colour", "dpi", "frames", "guidance", "height", "overlap", "pages", "quality", "scale",
    "seed", "segment_frames", "steps", "width",
)  # fmt: skip
_KNOWN_ELSEWHERE = {
    **dict.fromkeys(_REQUEST_KEYS, _BESIDE),
    "attention_slicing": _NO_SLICING,
    "enable_attention_slicing": _NO_SLICING,
    "xformers": _AS_ATTENTION,
    "enable_xformers_memory_efficient_attention": _AS_ATTENTION,
}
"""What people know from other programs, or from requests, and what it is here."""


def check_settings(
    given: Mapping[str, Any], available: tuple[str, ...], values: Values | None = None
) -> Settings:
    """The named settings, checked; `auto` and None mean 'not named'.

    Args:
        given: setting values from the request.
        available: the settings that the model really has.
        values: for some of them, the values that the model knows.

    Raises:
        BadInput: unknown name, a setting that the model does not have, or a wrong value.
    """
    checked: Settings = {}
    for name, value in given.items():
        if name not in SETTINGS:
            named = shown(name)
            near = get_close_matches(named, list(SETTINGS), 1, 0.5)
            raise BadInput(
                f"settings.{named}",
                Text(f"There is no setting '{named}'.", f"没有名为“{named}”的设置。"),
                _KNOWN_ELSEWHERE.get(named)
                or Text(
                    f"Did you mean {near[0]}?" if near else f"Settings: {', '.join(available)}.",
                    f"是否想用 {near[0]}？" if near else f"可用设置：{', '.join(available)}。",
                ),
            )
        if value is None or value == "auto":
            continue
        if name not in available:
            raise BadInput(
                f"settings.{name}",
                Text(
                    f"The setting {name} has no effect on this model.",
                    f"设置 {name} 对这个模型不起作用。",
                ),
                Text(
                    f"Remove it. This model has: {', '.join(available)}.",
                    f"请删去它。这个模型有：{', '.join(available)}。",
                ),
            )
        checked[name] = SETTINGS[name].check(value, (values or {}).get(name))
    refused = refused_together(checked)
    if refused is not None:
        raise refused
    if "vae_tile_overlap" in checked:
        tile = int(checked.get("vae_tile", SETTINGS["vae_tile"].default))
        overlap = int(checked["vae_tile_overlap"])
        if overlap > tile // 2:
            raise BadInput(
                "settings.vae_tile_overlap",
                Text(
                    f"Tiles of {tile} px cannot overlap by {overlap} px.",
                    f"{tile} 像素的块不能重叠 {overlap} 像素。",
                ),
                Text(
                    f"Use an overlap of at most {tile // 2} px, or larger tiles.",
                    f"重叠请不超过 {tile // 2} 像素，或用更大的块。",
                ),
            )
    return checked


UNQUANTIZED_ONLY: Values = {"precision": ("fp32", FP8), "offload": ("block", "leaf")}
"""What quantised weights rule out: their layers compute in bf16 or fp16, and the streaming of the
library moves parameters, but not the scales that quantised layers keep beside them. GGUF has its
scales within the blocks, so it can be streamed."""


def refused_together(settings: Mapping[str, SettingValue]) -> BadInput | None:
    """What is wrong with values that contradict each other; None where none do.

    The parser refuses them, and the optimizer leaves them out.

    Args:
        settings: some or all of a model's.
    """
    return _refused_quantized(settings) or _refused_sharing(settings)


def _refused_quantized(settings: Mapping[str, SettingValue]) -> BadInput | None:
    """What quantised weights do not go with."""
    quantization = settings.get("quantization", NOT_QUANTIZED)
    if quantization == NOT_QUANTIZED:
        return None
    for name, ruled_out in UNQUANTIZED_ONLY.items():
        value = settings.get(name)
        if value in ruled_out and (name, quantization) != ("offload", GGUF):
            allowed = {"precision": ("bf16", "fp16"), "offload": ("none", "model")}[name]
            return BadInput(
                f"settings.{name}",
                Text(
                    f"Weights quantised to {quantization} do not go with {name}: {value}.",
                    f"量化为 {quantization} 的权重不能与 {name}: {value} 一起使用。",
                ),
                Text(
                    f"Use {name}: {allowed[0]} or {allowed[1]}, or quantization: none.",
                    f"请用 {name}: {allowed[0]} 或 {allowed[1]}，或 quantization: none。",
                ),
            )
    return None


def _refused_sharing(settings: Mapping[str, SettingValue]) -> BadInput | None:
    """ZeRO needs cards to share between, and states that it can share."""
    stage, gpus = int(settings.get("zero_stage", 0)), int(settings.get("gpus", 1))
    if not stage:
        return None
    if gpus < 2:
        return BadInput(
            "settings.zero_stage",
            Text(
                f"ZeRO stage {stage} shares between GPUs, and gpus is {gpus}.",
                f"ZeRO 阶段 {stage} 在多张 GPU 之间分摊，而 gpus 是 {gpus}。",
            ),
            Text(
                "Set gpus to 2 or more, or leave zero_stage out.",
                "请把 gpus 设为 2 以上，或不写 zero_stage。",
            ),
        )
    if settings.get("optimizer") == "adamw-8bit":
        return BadInput(
            "settings.optimizer",
            Text(
                "ZeRO shares states in fp32; adamw-8bit has none.",
                "ZeRO 分摊的是 fp32 状态，而 adamw-8bit 没有。",
            ),
            Text("Use adamw-fused, or zero_stage: 0.", "请用 adamw-fused，或 zero_stage: 0。"),
        )
    return None


def unquantized(settings: Settings) -> Settings:
    """The settings, with weights as they are in the files."""
    if "quantization" not in settings:
        return settings
    whole = settings | {"quantization": NOT_QUANTIZED}
    if "gguf_type" in settings:
        whole["gguf_type"] = SETTINGS["gguf_type"].default
    return whole


def with_defaults(
    settings: Mapping[str, SettingValue],
    available: tuple[str, ...],
    defaults: Mapping[str, SettingValue] | None = None,
) -> Settings:
    """All settings of the model: the named ones, and `estimate`'s default for the others.

    Args:
        settings: the named ones.
        available: those that the model has.
        defaults: the model's own, in place of a setting's.
    """
    own = defaults or {}
    if settings.get("tile_batch") == 0:  # to begin with
        settings = {**settings, "tile_batch": 1}
    filled = {name: settings.get(name, own.get(name, SETTINGS[name].default)) for name in available}
    if "vae_tile" in settings and "vae_tile_overlap" not in settings:
        # The default overlap is too wide for the smallest tiles.
        half = int(settings["vae_tile"]) // 2
        filled["vae_tile_overlap"] = min(int(filled["vae_tile_overlap"]), half)
    if settings.get("tile") and "tile_overlap" not in settings:
        filled["tile_overlap"] = min(int(filled["tile_overlap"]), int(settings["tile"]) // 2)
    return filled
