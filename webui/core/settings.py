"""Settings: the memory sliders. What is not named in a request is left to the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from webui.core.errors import BadInput
from webui.core.fields import shown
from webui.core.text import Text

SettingValue = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingSpec:
    """One setting: its values in order of preference, its default, and its words."""

    name: str
    choices: tuple[SettingValue, ...] = ()
    """Allowed values; empty for a whole number between `low` and `high`."""
    low: int = 0
    high: int = 0
    multiple: int = 1
    default: SettingValue
    """What `estimate` takes when the request does not name it."""
    label: Text
    info: Text
    choice_labels: Mapping[SettingValue, Text]
    """What a value means, for people."""

    def check(self, value: Any) -> SettingValue:
        """The value in its proper type.

        Raises:
            BadInput: not one of the choices, or out of range.
        """
        field = f"settings.{self.name}"
        if self.choices:
            if self.choices == (False, True):
                if isinstance(value, bool):
                    return value
            elif isinstance(value, str) and value in self.choices:
                return value
            names = [str(choice).lower() for choice in self.choices]
            near = get_close_matches(shown(value), names, 1, 0.5)
            allowed = ", ".join(names)
            raise BadInput(
                field,
                Text(
                    f"'{shown(value)}' is not a value of the setting {self.name}.",
                    f"设置 {self.name} 没有“{shown(value)}”这个值。",
                ),
                Text(
                    (f"Did you mean {near[0]}? " if near else "") + f"It takes: {allowed}.",
                    (f"是否想用 {near[0]}？" if near else "") + f"可用的值：{allowed}。",
                ),
            )
        # 256.0 counts as 256: JSON of other languages writes whole numbers so.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high or value % self.multiple:
            raise BadInput(
                field,
                Text(
                    f"'{shown(value)}' is not a value of the setting {self.name}.",
                    f"设置 {self.name} 没有“{shown(value)}”这个值。",
                ),
                Text(
                    f"It takes a multiple of {self.multiple} from {self.low} to {self.high}.",
                    f"请用 {self.low} 到 {self.high} 之间 {self.multiple} 的倍数。",
                ),
            )
        return int(value)


FP8 = "fp8"
"""The precision that stores weights in float8_e4m3fn and computes in bf16."""
MAX_CHUNK = 50
"""Most frames of a decode chunk; the default of `estimate` is the request's frames."""
_ON_OFF: dict[SettingValue, Text] = {True: Text("on", "开"), False: Text("off", "关")}
_PRECISIONS: dict[SettingValue, Text] = {
    "fp32": Text("fp32 (4 bytes a value)", "fp32（每个数 4 字节）"),
    "bf16": Text("bf16 (2 bytes a value)", "bf16（每个数 2 字节）"),
    "fp16": Text("fp16 (2 bytes a value)", "fp16（每个数 2 字节）"),
}

SETTINGS: dict[str, SettingSpec] = {
    spec.name: spec
    for spec in (
        SettingSpec(
            name="precision",
            choices=("bf16", "fp16", "fp32", FP8),
            default="bf16",
            label=Text("Precision", "精度"),
            info=Text(
                "Number format of the transformer and the text encoder. fp8 stores the transformer "
                "in one byte a value and computes in bf16: half its memory, a slightly other "
                "picture.",
                "Transformer 和文本编码器的数值格式。fp8 以每个数 1 字节存放 Transformer、"
                "用 bf16 计算：显存减半，画面略有不同。",
            ),
            choice_labels=_PRECISIONS | {FP8: Text("fp8 (stored in 1 byte)", "fp8（1 字节存储）")},
        ),
        SettingSpec(
            name="offload",
            choices=("none", "model", "block", "leaf"),
            default="none",
            label=Text("Offload", "权重卸载"),
            info=Text(
                "Where the weights wait: none keeps all of them on the card, model swaps whole "
                "components, block moves one transformer block at a time, leaf streams layer by "
                "layer beside the computation. The result is the same.",
                "权重放在哪里：none 全部留在显卡上；model 按整个组件换入换出；block 逐个 "
                "Transformer 块搬运；leaf 边计算边逐层流式传输。生成结果不变。",
            ),
            choice_labels={
                "none": Text("none: all on the card", "none：全部在显卡上"),
                "model": Text("model: one component at a time", "model：一次一个组件"),
                "block": Text("block: one block at a time", "block：一次一个块"),
                "leaf": Text("leaf: streamed layer by layer", "leaf：逐层流式传输"),
            },
        ),
        SettingSpec(
            name="ffn_chunks",
            low=1,
            high=64,
            default=1,
            label=Text("Feed-forward pieces", "前馈分段数"),
            info=Text(
                "In how many pieces the transformer does its work on single tokens (feed-forward, "
                "norms, gates): less than half of the temporary memory while denoising, the same "
                "result.",
                "把 Transformer 中逐词元的计算（前馈、归一化、门控）分成若干段进行："
                "去噪时的临时显存不到一半，结果不变。",
            ),
            choice_labels={},
        ),
        SettingSpec(
            name="text_encoder",
            choices=("gpu", "stream", "cpu", "absent"),
            default="absent",
            label=Text("Text encoder", "文本编码器"),
            info=Text(
                "Where the prompt is encoded: on the card (it leaves after encoding, unless "
                "offload is none), streamed layer by layer, or on the processor.",
                "在哪里编码提示词：在显卡上（除 offload 为 none 外，编码后即移出）、逐层流式传输，"
                "或在处理器上。",
            ),
            choice_labels={
                "gpu": Text("gpu: on the card", "gpu：在显卡上"),
                "stream": Text("stream: layer by layer", "stream：逐层流式传输"),
                "cpu": Text("cpu: on the processor", "cpu：在处理器上"),
                "absent": Text("absent: embeddings are given", "absent：直接给出嵌入"),
            },
        ),
        SettingSpec(
            name="image_encoder",
            choices=("gpu", "cpu"),
            default="gpu",
            label=Text("Image encoder", "图像编码器"),
            info=Text(
                "Where the picture is encoded: on the card (it leaves after encoding, unless "
                "offload is none), or on the processor.",
                "在哪里编码起始图片：在显卡上（除 offload 为 none 外，编码后即移出），"
                "或在处理器上。",
            ),
            choice_labels={
                "gpu": Text("gpu: on the card", "gpu：在显卡上"),
                "cpu": Text("cpu: on the processor", "cpu：在处理器上"),
            },
        ),
        SettingSpec(
            name="vae_precision",
            choices=("fp32", "bf16", "fp16"),
            default="fp32",
            label=Text("VAE precision", "VAE 精度"),
            info=Text(
                "Number format of the decoder; the authors recommend fp32, bf16 halves its memory.",
                "解码器的数值格式；作者推荐 fp32，bf16 可省一半显存。",
            ),
            choice_labels=_PRECISIONS,
        ),
        SettingSpec(
            name="vae_tiling",
            choices=(False, True),
            default=False,
            label=Text("VAE tiling", "VAE 分块"),
            info=Text(
                "Decode the picture in overlapping tiles: much less memory, a little slower.",
                "把画面分成相互重叠的小块解码：显存少得多，速度稍慢。",
            ),
            choice_labels=_ON_OFF,
        ),
        SettingSpec(
            name="vae_tile",
            low=64,
            high=1024,
            multiple=32,
            default=256,
            label=Text("VAE tile (px)", "VAE 块大小（像素）"),
            info=Text("Side of a tile, in pixels.", "每块的边长（像素）。"),
            choice_labels={},
        ),
        SettingSpec(
            name="vae_tile_overlap",
            low=16,
            high=512,
            multiple=16,
            default=64,
            label=Text("VAE tile overlap (px)", "VAE 块重叠（像素）"),
            info=Text(
                "How far neighbouring tiles overlap; they are blended there.",
                "相邻块重叠的宽度，重叠处平滑过渡。",
            ),
            choice_labels={},
        ),
        SettingSpec(
            name="decode_chunk",
            low=1,
            high=MAX_CHUNK,
            default=MAX_CHUNK,
            label=Text("Decode chunk (frames)", "解码分段（帧）"),
            info=Text(
                "How many frames the decoder takes at a time: fewer need far less memory. It "
                "smooths over the frames of a chunk only, so borders may flicker a little.",
                "解码器一次处理多少帧：越少占用显存越低。平滑只在段内进行，段与段之间可能略有闪烁。",
            ),
            choice_labels={},
        ),
        SettingSpec(
            name="channels_last",
            choices=(False, True),
            default=False,
            label=Text("VAE channels-last", "VAE channels-last"),
            info=Text(
                "Keep the VAE's convolution weights in channels-last order: less scratch memory "
                "and faster on a GPU.",
                "VAE 卷积权重按 channels-last 存放：在 GPU 上临时显存更少、速度更快。",
            ),
            choice_labels=_ON_OFF,
        ),
        SettingSpec(
            name="allocator",
            choices=("expandable", "default"),
            default="expandable",
            label=Text("Allocator", "显存分配器"),
            info=Text(
                "PyTorch's expandable segments waste far less memory (not on Windows).",
                "PyTorch 的 expandable segments 浪费的显存少得多（Windows 不支持）。",
            ),
            choice_labels={
                "expandable": Text("expandable segments", "expandable segments"),
                "default": Text("default", "默认"),
            },
        ),
    )
}


Settings = dict[str, SettingValue]
"""Values by setting name; complete once the optimizer or `with_defaults` has filled it."""


def check_settings(given: Mapping[str, Any], available: tuple[str, ...]) -> Settings:
    """The named settings, checked; `auto` and None mean 'not named'.

    Args:
        given: setting values from the request.
        available: the settings that the model really has.

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
                Text(
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
        checked[name] = SETTINGS[name].check(value)
    if checked.get("precision") == FP8 and "ffn_chunks" not in available:
        # Both settings are made for transformers of this kind only.
        raise BadInput(
            "settings.precision",
            Text("This model cannot be stored in fp8.", "这个模型不能以 fp8 存储。"),
            Text("Use fp16, bf16 or fp32.", "请用 fp16、bf16 或 fp32。"),
        )
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
    filled = {name: settings.get(name, own.get(name, SETTINGS[name].default)) for name in available}
    if "vae_tile" in settings and "vae_tile_overlap" not in settings:
        # The default overlap is too wide for the smallest tiles.
        half = int(settings["vae_tile"]) // 2
        filled["vae_tile_overlap"] = min(int(filled["vae_tile_overlap"]), half)
    return filled
