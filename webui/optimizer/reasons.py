"""Says in words, with numbers, why the settings are what they are."""

from __future__ import annotations

from collections.abc import Mapping

from webui.core.clip import ClipRequest
from webui.core.gguf import GGUF
from webui.core.model import ModelCard
from webui.core.plan import Choice, Estimate
from webui.core.request import Request
from webui.core.settings import (
    FIRST_BLOCK,
    FP8,
    NOT_QUANTIZED,
    SETTINGS,
    TAYLORSEER,
    Settings,
    SettingValue,
)
from webui.core.text import Text
from webui.core.training import TrainRequest
from webui.core.units import SAME_TIME_S, format_bytes, signed_time
from webui.core.upscale import UpscaleCard, UpscaleRequest
from webui.estimator.case import Case
from webui.estimator.target import Target
from webui.estimator.upscaling import workers_of
from webui.optimizer.candidates import effective_settings
from webui.optimizer.upscaling import WORTH_SHARING_FRAMES
from webui.optimizer.upscaling_reasons import upscaling_reasons

_PLAIN: Settings = {
    "precision": "bf16",
    "quantization": NOT_QUANTIZED,
    "offload": "none",
    "ffn_chunks": 1,
    "split_guidance": False,
    "text_encoder": "gpu",
    "image_encoder": "gpu",
    "vae_precision": "fp32",
    "vae_tiling": False,
    "channels_last": False,
    "attention": "sdpa",
    "step_cache": "none",
    "page_batch": 1,
    "decoder": "tiny",
    "sparsity": "stable",
    "tile": 0,
    "tile_batch": 1,
    "gradient_checkpointing": False,
    "optimizer": "adamw-fused",
    "gpus": 1,
    "zero_stage": 0,
    "allocator": "default",
}
"""What each means of saving memory is compared with."""

_WHOLE = ("",)
"""A means that changes several phases: its saving is that of the highest, its time that of all."""
_PHASES_OF = {
    "text_encoder": ("encode",),
    "image_encoder": ("image_encode",),
    "decode_chunk": ("decode",),
    "vae_precision": ("decode", "image_encode"),
    "vae_tiling": ("decode", "image_encode"),
    "channels_last": ("decode", "image_encode"),
    "offload": ("denoise", "generate", "upscale"),
    "ffn_chunks": ("denoise",),
    "split_guidance": ("denoise",),
    "precision": ("denoise", "generate", "upscale"),
    "quantization": ("denoise", "generate"),
    "page_batch": ("generate",),
    "decoder": ("decode",),
    "sparsity": ("denoise",),
    "tile": ("denoise", "upscale"),
    "gpus": ("denoise", "upscale"),
    "tile_batch": ("denoise", "upscale"),
    "attention": ("prefill",),
    "step_cache": ("denoise",),
    "gradient_checkpointing": _WHOLE,
    "optimizer": _WHOLE,
    "zero_stage": _WHOLE,
}
"""The phase in which a setting's effect is told: of these the one that the model has."""

_NAMES: dict[tuple[str, SettingValue], Text] = {
    ("precision", FP8): Text("transformer stored in fp8", "Transformer 以 fp8 存储"),
    ("quantization", "int8"): Text("weights in 8 bits (int8)", "权重以 8 位存放（int8）"),
    ("quantization", "nf4"): Text("weights in 4 bits (nf4)", "权重以 4 位存放（nf4）"),
    ("quantization", "int8wo"): Text("weights in 8 bits (int8wo)", "权重以 8 位存放（int8wo）"),
    ("quantization", "fp8wo"): Text("weights in 8 bits (fp8wo)", "权重以 8 位存放（fp8wo）"),
    ("quantization", GGUF): Text("weights in GGUF blocks (gguf)", "权重以 GGUF 块存放（gguf）"),
    ("offload", "model"): Text("one component on the card at a time", "一次只放一个组件到显卡"),
    ("offload", "leaf"): Text("leaf streaming", "逐层流式传输"),
    ("offload", "block"): Text("block streaming", "逐块流式传输"),
    ("text_encoder", "stream"): Text("streamed text encoder", "流式文本编码器"),
    ("text_encoder", "cpu"): Text("text encoder on the processor", "文本编码器放在处理器上"),
    ("image_encoder", "cpu"): Text("image encoder on the processor", "图像编码器放在处理器上"),
    ("vae_precision", "bf16"): Text("VAE in bf16", "VAE 用 bf16"),
    ("vae_precision", "fp16"): Text("VAE in fp16", "VAE 用 fp16"),
    ("split_guidance", True): Text("guidance in two passes", "引导分两次计算"),
    ("vae_tiling", True): Text("VAE in tiles", "VAE 分块"),
    ("channels_last", True): Text("VAE weights in channels-last", "VAE 权重用 channels-last"),
    ("attention", "eager"): Text("attention by the plain formula", "按公式直接计算注意力"),
    ("step_cache", FIRST_BLOCK): Text("first-block cache", "首块缓存"),
    ("step_cache", TAYLORSEER): Text("steps between extrapolated", "中间步外推"),
    ("gradient_checkpointing", True): Text("gradient checkpointing", "梯度检查点"),
    ("optimizer", "adamw"): Text("AdamW operation by operation", "逐步运算的 AdamW"),
    ("optimizer", "adamw-8bit"): Text("optimizer states in 8 bits", "8 位优化器状态"),
    ("zero_stage", 1): Text("optimizer states shared (ZeRO 1)", "分摊优化器状态（ZeRO 1）"),
    ("zero_stage", 2): Text("gradients shared too (ZeRO 2)", "再分摊梯度（ZeRO 2）"),
    ("zero_stage", 3): Text("weights shared too (ZeRO 3)", "再分摊权重（ZeRO 3）"),
}


def _plain(name: str, model: ModelCard, request: Request) -> SettingValue:
    """What a setting's value is compared with: the model's own, and all frames at once."""
    if name == "decode_chunk" and isinstance(request, ClipRequest):
        return request.frames
    return model.setting_defaults.get(name, _PLAIN.get(name, ""))


def _means(name: str, value: SettingValue, model: ModelCard, request: Request) -> Text | None:
    """A value in words, where it is a means of saving memory."""
    if value == _plain(name, model, request):
        return None
    if name == "decode_chunk":
        plural = "s" if value != 1 else ""
        return Text(f"{value} frame{plural} decoded at a time", f"一次解码 {value} 帧")
    if name == "page_batch":
        return Text(f"{value} pages at a time", f"每批 {value} 页")
    if name == "tile":
        return Text(f"tiles of {value} px", f"{value} 像素的分块")
    if name == "tile_batch":
        return Text(f"{value} tiles at a time", f"每批 {value} 个分块")
    if name == "gpus" and isinstance(request, UpscaleRequest):
        working = workers_of(request, {"gpus": value})
        if working == 1:
            return None
        return Text(f"frames shared between {working} cards", f"帧由 {working} 张卡分担")
    if name == "ffn_chunks":
        return Text(f"feed-forward in {value} pieces", f"前馈分 {value} 段")
    return _NAMES.get((name, value))


def describe(changes: Settings, model: ModelCard, request: Request) -> Text:
    """Settings in words: 'leaf streaming, feed-forward in 8 pieces'."""
    told = []
    for name, value in changes.items():
        label = SETTINGS[name].label
        told.append(
            _means(name, value, model, request)
            or Text(f"{label.en}: {value}", f"{label.zh}：{value}")
        )
    return Text(", ".join(text.en for text in told), "、".join(text.zh for text in told))


_SAVE_TIME = {"page_batch", "step_cache", "tile_batch", "gpus"}
"""Means that save time and not memory."""
_NOTHING_RECOMPUTED = Text(
    "A whole step fits: every activation is kept and nothing is computed twice.",
    "整步都放得下：保留全部激活，无需重复计算。",
)


Savings = Mapping[str, Text]
"""One sentence for each means in use, with what it saves and costs; by its setting."""


def find_savings(model: ModelCard, request: Request, found: Estimate, target: Target) -> Savings:
    """What each of an estimate's means saves and costs, where it changes anything."""
    told = {
        name: _saving(model, request, found, target, name)
        for name in effective_settings(model, target)
        if _means(name, found.settings[name], model, request) is not None
    }
    return {name: saving for name, saving in told.items() if saving is not None}


def explain(
    model: ModelCard, request: Request, found: Estimate, target: Target, savings: Savings
) -> tuple[Text, ...]:
    """The savings, or that none are needed, and what changes nothing here."""
    sentences = list(savings.values())
    if found.fits and set(savings) <= _SAVE_TIME:
        sentences.append(
            _NOTHING_RECOMPUTED
            if isinstance(request, TrainRequest)
            else Text(
                "Everything fits on the card at once: nothing is offloaded or tiled.",
                "全部内容可同时放进显存：无需卸载或分块。",
            )
            if target.card.kind == "cuda"
            else Text(
                "It fits in this machine's memory as it is.",
                "本机内存足够，无需任何节省手段。",
            )
        )
    if isinstance(model, UpscaleCard) and isinstance(request, UpscaleRequest):
        sentences += upscaling_reasons(model, request, found)
    ignored = [name for name in request.settings if name not in effective_settings(model, target)]
    if ignored:
        labels = [SETTINGS[name].label for name in ignored]
        listed = ", ".join(label.en for label in labels)
        listed_zh = "、".join(label.zh for label in labels)
        sentences.append(
            Text(
                f"On a processor these settings change nothing: {listed}.",
                f"在处理器上，这些设置不起作用：{listed_zh}。",
            )
        )
    return tuple(sentences)


def _saving(
    model: ModelCard, request: Request, found: Estimate, target: Target, name: str
) -> Text | None:
    """'leaf streaming: -24.6 GiB, +0.1 s a step (in denoise)'; None where nothing changes."""
    settings = found.settings
    label = _means(name, settings[name], model, request) or SETTINGS[name].label
    used = Case(model, request, settings, target)
    without = Case(model, request, settings | {name: _plain(name, model, request)}, target)
    counted = [phase for phase in used.phases if phase.startswith(_PHASES_OF[name])]
    if not counted:
        return label
    whole = _PHASES_OF[name] == _WHOLE
    if not whole:
        # The phase that it changes most.
        changed = {one: abs(used.peak_bytes(one) - without.peak_bytes(one)) for one in counted}
        counted = [max(counted, key=changed.__getitem__)]
    bytes_difference = max(map(used.peak_bytes, counted)) - max(map(without.peak_bytes, counted))
    time_difference = sum(used.seconds(phase) - without.seconds(phase) for phase in counted)
    if not bytes_difference and abs(time_difference) < SAME_TIME_S:
        return None
    per_en, per_zh = (" a step", "/步") if whole else ("", "")
    if isinstance(request, UpscaleRequest):
        time_difference /= request.frames
        per_en, per_zh = " a frame", "/帧"
    elif counted[0].startswith("denoise"):
        time_difference /= request.repeats
        per_en, per_zh = " a step", "/步"
    amount = format_bytes(bytes_difference)
    sign = "" if bytes_difference < 0 else "+"
    time, time_zh = (signed_time(time_difference, each) for each in ("en", "zh"))
    during = next(words for start, words in _PHASE_WORDS.items() if counted[0].startswith(start))
    return Text(
        f"{label.en}: {sign}{amount} while {during.en}, {time}{per_en}.",
        f"{label.zh}：{during.zh}时 {sign}{amount}，{time_zh}{per_zh}。",
    )


_PHASE_WORDS = {
    "encode": Text("encoding", "编码"),
    "image_encode": Text("encoding the picture", "编码图片"),
    "denoise": Text("denoising", "去噪"),
    "decode": Text("decoding", "解码"),
    "prefill": Text("reading the prompt", "读入提示词"),
    "generate": Text("writing", "写出结果"),
    "upscale": Text("upscaling", "放大"),
    # All phases of training.
    "": Text("training", "训练"),
}


def choice_of(
    model: ModelCard, request: Request, found: Estimate, target: Target, savings: Savings
) -> dict[str, Choice]:
    """For each setting that has an effect: its value, who chose it, and why."""
    choices = {}
    for name in effective_settings(model, target):
        value = found.settings[name]
        if not SETTINGS[name].matters(found.settings):
            continue
        by_user = name in request.settings
        if by_user:
            why = Text("You chose it.", "由你指定。")
        else:
            why = savings.get(name) or _plain_reason(name, value, model, request, target)
            if why is _NOT_NEEDED and not found.fits:
                why = _NO_HELP
        choices[name] = Choice(value=value, by_user=by_user, why=why)
    return choices


_NOT_NEEDED = Text("Not needed: it fits without.", "不需要：无需它也放得下。")
_NO_HELP = Text("It does not make the rest fit.", "用上它也放不下。")
_LIBRARYS = Text("The library's default.", "库的默认值。")
_OWN_REASONS = {
    "step_cache": Text("It changes the picture: chosen only by you.", "会改变画面：只能由你指定。"),
    "step_cache_threshold": _LIBRARYS,
    "step_cache_interval": _LIBRARYS,
    "gguf_type": Text("The finest; name the one of your file.", "最精细的一种；请写明文件的类型。"),
    "channels_last": Text(
        "It costs nothing, and convolutions need no copies.", "没有代价，卷积无需额外副本。"
    ),
    "optimizer": Text(
        "One kernel without copies; the same result.", "单个内核，没有临时副本，结果相同。"
    ),
    "gpus": Text("One card, unless you name more.", "一张卡，除非你指定更多。"),
    "decoder": Text("The fast one; the other is for you to name.", "较快的一个；另一个由你指定。"),
    "sparsity": Text("The authors' default.", "作者的默认值。"),
    "tile": Text("Whole frames have no borders inside.", "整帧处理，内部没有接缝。"),
    "tile_overlap": Text(
        "What the guide uses, or a quarter of smaller tiles.", "指南的取值；较小的分块取四分之一。"
    ),
    "tile_batch": Text(
        "More at a time do not fit, or are no faster.", "每批更多放不下，或并不更快。"
    ),
    "tile_recheck": Text("The guide's interval.", "指南的间隔。"),
    "tile_reserve_gib": Text("The guide's reserve.", "指南的保留量。"),
}


def _plain_reason(
    name: str, value: SettingValue, model: ModelCard, request: Request, target: Target
) -> Text:
    if name == "precision":
        if target.card.kind == "cpu":
            return Text("Fastest on a processor.", "在处理器上最快。")
        if value == model.setting_defaults.get(name, "bf16"):
            return Text("The authors' precision.", "作者使用的精度。")
        return Text("This card has no bf16.", "这张卡不支持 bf16。")
    if name == "decode_chunk":
        return Text("All frames at once flicker least.", "一次解码全部帧，闪烁最少。")
    if name == "attention":
        return Text("Fast and lean, the same result.", "又快又省，结果不变。")
    if name == "page_batch":
        return (
            Text("There is one page.", "只有一页。")
            if request.repeats == 1
            else Text(
                "More at a time do not fit, or are no faster.", "每批更多页放不下，或并不更快。"
            )
        )
    if name == "allocator":
        return (
            Text("Wastes the least memory.", "浪费的显存最少。")
            if value == "expandable"
            else Text("Windows has no expandable segments.", "Windows 没有 expandable segments。")
        )
    if name == "gpus" and isinstance(request, UpscaleRequest) and target.gpus > 1:
        return Text(
            f"Fewer than {WORTH_SHARING_FRAMES} frames: other cards would hardly help.",
            f"不足 {WORTH_SHARING_FRAMES} 帧：增加显卡收益很小。",
        )
    if name in _OWN_REASONS:
        return _OWN_REASONS[name]
    if name in ("vae_tile", "vae_tile_overlap"):
        default = SETTINGS[name].default
        return (
            _LIBRARYS
            if value == default
            else Text("A quarter of the tile.", "块边长的四分之一。")
            if name == "vae_tile_overlap"
            else Text("Smaller tiles fit.", "更小的块才放得下。")
        )
    return _NOT_NEEDED


def does_not_fit(model: ModelCard, request: Request, found: Estimate, target: Target) -> Text:
    """How much is needed, what of it is kept free after running out of memory, and how much there
    is."""
    case = Case(model, request, found.settings, target)
    kept_bytes, needed_bytes = 0, found.peak_device_bytes
    for phase in found.phases:
        kept = case.kept_bytes(phase.name)
        if phase.reserved_bytes + kept + found.context_bytes > needed_bytes:
            kept_bytes, needed_bytes = kept, phase.reserved_bytes + kept + found.context_bytes
    needed = format_bytes(needed_bytes + found.margin_bytes)
    limit = format_bytes(found.limit_bytes)
    if kept_bytes:
        kept_free = format_bytes(kept_bytes)
        return Text(
            f"It does not fit: {needed} needed with the margin and {kept_free} that are kept free "
            f"because this model ran out of memory here, {limit} there.",
            f"放不下：含余量需要 {needed}（其中 {kept_free} 因该模型曾在本机显存不足而预留），"
            f"只有 {limit}。",
        )
    return Text(
        f"It does not fit: {needed} needed with the margin, {limit} there.",
        f"放不下：含余量需要 {needed}，只有 {limit}。",
    )
