"""All settings, in the order in which the page shows them."""

from __future__ import annotations

from webui.core.gguf import GGUF, GGUF_MIXES
from webui.core.setting import SettingSpec, SettingValue
from webui.core.text import Text
from webui.core.upscale_settings import UPSCALE_SETTINGS

FP8 = "fp8"
"""The precision that stores weights in float8_e4m3fn and computes in bf16."""
FIRST_BLOCK = "first-block"
"""The step cache that decides by how much the first block's work changes (FirstBlockCache)."""
TAYLORSEER = "taylorseer"
"""The step cache that extrapolates between steps of a fixed schedule (TaylorSeer, lite)."""
NOT_QUANTIZED = "none"
"""The quantisation that leaves the weights in their precision."""
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
            name="quantization",
            choices=(NOT_QUANTIZED, "int8", "nf4", "int8wo", "fp8wo", GGUF),
            default=NOT_QUANTIZED,
            label=Text("Quantisation", "量化"),
            info=Text(
                "Weights of the transformer or the language model in 8 or 4 bits: a half or a "
                "quarter of their memory, a somewhat other result, and slower steps on most cards. "
                "gguf takes them from a GGUF file in the model's folder. Never chosen unasked.",
                "以 8 位或 4 位存放 Transformer 或语言模型的权重：其显存减为一半或四分之一，"
                "结果略有不同，多数显卡上每步更慢。gguf 从模型文件夹中的 GGUF 文件读取权重。"
                "不会自动选用。",
            ),
            choice_labels={
                NOT_QUANTIZED: Text("none", "不量化"),
                "int8": Text("int8 (bitsandbytes)", "int8：8 位（bitsandbytes）"),
                "nf4": Text("nf4: 4 bits (bitsandbytes)", "nf4：4 位（bitsandbytes）"),
                "int8wo": Text("int8wo (torchao)", "int8wo：8 位（torchao）"),
                "fp8wo": Text("fp8wo (torchao)", "fp8wo：8 位浮点（torchao）"),
                GGUF: Text("gguf: from a GGUF file", "gguf：来自 GGUF 文件"),
            },
        ),
        SettingSpec(
            name="gguf_type",
            choices=tuple(GGUF_MIXES),
            default="q8_0",
            label=Text("GGUF type", "GGUF 类型"),
            info=Text(
                "Type of the GGUF file, as in its name: how many bits a weight has.",
                "GGUF 文件的类型，与文件名一致：每个权重占多少位。",
            ),
            only_with=("quantization", GGUF),
            choice_labels={
                "q8_0": Text("Q8_0: 8.5 bits", "Q8_0：8.5 位"),
                "q6_k": Text("Q6_K: 6.6 bits", "Q6_K：6.6 位"),
                "q5_k_m": Text("Q5_K_M: about 5.9 bits", "Q5_K_M：约 5.9 位"),
                "q5_k_s": Text("Q5_K_S: 5.5 bits", "Q5_K_S：5.5 位"),
                "q4_k_m": Text("Q4_K_M: about 5.2 bits", "Q4_K_M：约 5.2 位"),
            },
        ),
        SettingSpec(
            name="attention",
            choices=("sdpa", "flash", "sage", "xformers", "eager"),
            default="sdpa",
            label=Text("Attention", "注意力实现"),
            info=Text(
                "Which kernels compute attention. PyTorch's own (sdpa) are fast and lean; the "
                "packages may be faster where they are installed and know the card. eager keeps "
                "the whole matrix and is there for comparison.",
                "用哪种内核计算注意力。PyTorch 自带的 sdpa 又快又省；已安装且支持该显卡时，"
                "其他包可能更快。eager 会保存整个矩阵，仅供比较。",
            ),
            choice_labels={
                "sdpa": Text("sdpa (PyTorch)", "sdpa：PyTorch 自带"),
                "flash": Text("flash (flash-attn)", "flash：需安装 flash-attn"),
                "sage": Text("sage: 8-bit (sageattention)", "sage：8 位（sageattention）"),
                "xformers": Text("xformers (the package)", "xformers：需安装同名包"),
                "eager": Text("eager: the plain formula", "eager：直接按公式"),
            },
        ),
        SettingSpec(
            name="step_cache",
            choices=("none", FIRST_BLOCK, TAYLORSEER),
            default="none",
            label=Text("Step cache", "步间缓存"),
            info=Text(
                "Reuse work between denoising steps: faster, a somewhat other picture. first-block "
                "leaves out the other blocks where the first one changes little; taylorseer "
                "computes some steps and extrapolates those between. Never chosen unasked.",
                "在去噪步之间复用计算：更快，画面略有不同。first-block 在首个块变化很小时"
                "跳过其余块；taylorseer 只计算部分步，其余外推得出。不会自动选用。",
            ),
            choice_labels={
                "none": Text("none: every step in full", "none：每步完整计算"),
                FIRST_BLOCK: Text("first-block: where little changes", "first-block：变化小时跳过"),
                TAYLORSEER: Text("taylorseer: steps between guessed", "taylorseer：中间步外推"),
            },
        ),
        SettingSpec(
            name="step_cache_threshold",
            low=0,
            high=50,
            default=5,
            label=Text("Step cache threshold (%)", "步间缓存阈值（%）"),
            info=Text(
                "Up to which change of the first block's work since the last full step the other "
                "blocks are left out: higher is faster and further from the exact picture; at 0 "
                "nothing is.",
                "首个块的计算与上次完整步相比，变化不超过该值时跳过其余块：越高越快，"
                "与精确画面相差越大；0 表示从不跳过。",
            ),
            only_with=("step_cache", FIRST_BLOCK),
            choice_labels={},
        ),
        SettingSpec(
            name="step_cache_interval",
            low=1,
            high=20,
            default=5,
            label=Text("Step cache interval", "步间缓存间隔"),
            info=Text(
                "Every how many steps one is computed in full, after the first three: more is "
                "faster and further from the exact picture; at 1 all are.",
                "前三步之后，每隔多少步完整计算一次：越大越快，与精确画面相差越大；"
                "1 表示全部计算。",
            ),
            only_with=("step_cache", TAYLORSEER),
            choice_labels={},
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
            name="split_guidance",
            choices=(False, True),
            default=False,
            label=Text("Guidance in two passes", "引导分两次计算"),
            info=Text(
                "Run the model once with and once without the picture in every step, instead of "
                "both at once: half of the temporary memory, the same result.",
                "每一步先后计算有图片和无图片的结果，而不是一起计算：临时显存减半，结果不变。",
            ),
            choice_labels=_ON_OFF,
        ),
        SettingSpec(
            name="text_encoder",
            choices=("gpu", "stream", "cpu", "cached", "absent"),
            default="absent",
            label=Text("Text encoder", "文本编码器"),
            info=Text(
                "Where the prompt is encoded: on the card (it leaves after encoding, unless "
                "offload is none), streamed layer by layer, or on the processor. Cached: a prompt "
                "that was encoded before needs no encoder; a new one is encoded on the processor.",
                "在哪里编码提示词：在显卡上（除 offload 为 none 外，编码后即移出）、逐层流式传输，"
                "或在处理器上。cached：编码过的提示词不再需要编码器，新的提示词在处理器上编码。",
            ),
            choice_labels={
                "gpu": Text("gpu: on the card", "gpu：在显卡上"),
                "stream": Text("stream: layer by layer", "stream：逐层流式传输"),
                "cpu": Text("cpu: on the processor", "cpu：在处理器上"),
                "cached": Text("cached: encoded before", "cached：使用之前的编码"),
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
            only_with=("vae_tiling", True),
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
            only_with=("vae_tiling", True),
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
            name="page_batch",
            low=1,
            high=256,
            default=1,
            label=Text("Pages at a time", "每批页数"),
            info=Text(
                "How many pages are read at the same time: more keep the card busy, and each needs "
                "its own part of the memory.",
                "同时处理多少页：越多显卡利用率越高，每页都要占用一份显存。",
            ),
            choice_labels={},
        ),
        *UPSCALE_SETTINGS,
        SettingSpec(
            name="gradient_checkpointing",
            choices=(False, True),
            default=True,
            label=Text("Gradient checkpointing", "梯度检查点"),
            info=Text(
                "Keep only each layer's input for the way back and compute the rest again: far "
                "less memory, about a third more time, the same result.",
                "反向传播时只保留每层输入，其余重新计算：显存少得多，耗时约增加三分之一，结果不变。",
            ),
            choice_labels=_ON_OFF,
        ),
        SettingSpec(
            name="optimizer",
            choices=("adamw-fused", "adamw", "adamw-8bit"),
            default="adamw-fused",
            label=Text("Optimizer", "优化器"),
            info=Text(
                "AdamW in one kernel (fused), operation by operation (needs one more copy of the "
                "weights for a moment), or with its states in 8 bits.",
                "AdamW：单个融合内核、逐步运算（会短暂多占一份权重），或以 8 位保存状态。",
            ),
            choice_labels={
                "adamw-fused": Text("AdamW, fused", "AdamW，融合内核"),
                "adamw": Text("AdamW, foreach", "AdamW，逐步运算"),
                "adamw-8bit": Text("AdamW, 8-bit states (bitsandbytes)", "AdamW，8 位状态"),
            },
        ),
        SettingSpec(
            name="gpus",
            low=1,
            high=64,
            default=1,
            label=Text("GPUs", "GPU 数"),
            info=Text(
                "How many cards work together; figures of memory are for each of them.",
                "一起工作的显卡数量；显存数字均指单卡。",
            ),
            choice_labels={},
        ),
        SettingSpec(
            name="zero_stage",
            low=0,
            high=3,
            default=0,
            label=Text("ZeRO stage", "ZeRO 阶段"),
            info=Text(
                "What the cards share instead of each keeping all: optimizer states (1), gradients "
                "too (2), weights too (3).",
                "多卡之间分摊而非各存一份的内容：优化器状态（1）、再加梯度（2）、再加权重（3）。",
            ),
            choice_labels={},
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
