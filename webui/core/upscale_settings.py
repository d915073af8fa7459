"""The settings of upscaling, in the order in which the page shows them."""

from __future__ import annotations

from webui.core.setting import SettingSpec
from webui.core.text import Text

UPSCALE_SETTINGS = (
    SettingSpec(
        name="decoder",
        choices=("tiny", "full"),
        default="tiny",
        label=Text("Decoder", "解码器"),
        info=Text(
            "What turns the latent into frames: a small decoder that also looks at the input, or "
            "the whole VAE of Wan2.1, which is slower and needs more memory.",
            "把潜变量变成画面：小解码器（同时参考输入画面），"
            "或完整的 Wan2.1 VAE（更慢，显存更多）。",
        ),
        choice_labels={
            "tiny": Text("tiny: fast and small", "tiny：又快又小"),
            "full": Text("full: the VAE of Wan2.1", "full：Wan2.1 的 VAE"),
        },
    ),
    SettingSpec(
        name="sparsity",
        choices=("stable", "fast"),
        default="stable",
        label=Text("Sparse attention", "稀疏注意力"),
        info=Text(
            "How much of its surroundings and of the past each place of the picture looks at: "
            "stable looks at a third more than fast.",
            "画面每处参考多少周围与之前的内容：stable 比 fast 多三分之一。",
        ),
        choice_labels={
            "stable": Text("stable: the authors' default", "stable：作者的默认值"),
            "fast": Text("fast: looks at less", "fast：参考得更少"),
        },
    ),
    SettingSpec(
        name="tile",
        low=0,
        high=2048,
        multiple=8,
        default=0,
        label=Text("Tile (px)", "分块边长（像素）"),
        info=Text(
            "Upscale in tiles of this side, in pixels of the input: far less memory, somewhat "
            "slower. 0: the whole frame at once.",
            "按此边长分块放大（以输入画面的像素计）：显存少得多，稍慢。0 表示整帧一次完成。",
        ),
        choice_labels={0: Text("the whole frame", "整帧")},
    ),
    SettingSpec(
        name="tile_overlap",
        low=0,
        high=512,
        default=24,
        label=Text("Tile overlap (px)", "分块重叠（像素）"),
        info=Text(
            "How many pixels of the input neighbouring tiles share; they are blended there.",
            "相邻分块共有多少输入像素；重叠处平滑过渡。",
        ),
        choice_labels={},
    ),
    SettingSpec(
        name="tile_batch",
        low=0,
        high=1024,
        default=1,
        label=Text("Tiles at a time", "每批分块数"),
        info=Text(
            "How many tiles go through the model together: more keep the card busy, each needs its "
            "own part of the memory. While it runs, fewer are taken if memory becomes short. 0: "
            "more than planned too, as long as measured memory allows and it is faster.",
            "同时处理多少个分块：越多显卡利用率越高，每块占用一份显存。运行中显存紧张时会自动减少。"
            "0：只要实测显存允许且更快，也可超过规划的数量。",
        ),
        choice_labels={},
    ),
    SettingSpec(
        name="tile_recheck",
        low=0,
        high=1000,
        default=5,
        label=Text("Check memory every (batches)", "每几批检查一次显存"),
        info=Text(
            "After how many batches of tiles the free memory is measured again; 0: never.",
            "每处理多少批分块后重新测量空闲显存；0 表示不检查。",
        ),
        choice_labels={0: Text("never", "从不")},
    ),
    SettingSpec(
        name="tile_reserve_gib",
        low=0,
        high=64,
        default=2,
        label=Text("Memory kept free (GiB)", "保留显存（GiB）"),
        info=Text(
            "What stays free for others where more tiles than planned may go together (tiles at a "
            "time: 0); of small cards at most a quarter.",
            "允许超过规划的分块数（每批分块数为 0）时，为其他程序保留的显存；"
            "小显存卡上最多保留四分之一。",
        ),
        choice_labels={},
    ),
)
