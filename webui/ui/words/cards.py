"""Sentences of the tab about cards."""

from __future__ import annotations

from webui.core.text import Text

TAB = Text("Cards", "显卡")
TRIED = Text("What was tried on a GPU", "在 GPU 上试过的")
ABOUT = Text(
    "{plans} plans that ran at full size, with random weights, under a hard limit on the card's "
    "memory (CUDA context included). The limit stands for a card's memory, not for its speed: the "
    "times are those of {devices}.",
    "{plans} 个方案都以真实尺寸、随机权重、在严格的显存上限（含 CUDA 上下文）内运行过。"
    "上限代表的是显卡的显存，不是它的速度：用时来自 {devices}。",
)
HEADS = (
    Text("Memory", "显存"),
    Text("Work", "工作量"),
    Text("Settings", "设置"),
    Text("Estimated then", "当时的预计"),
    Text("Measured", "实测"),
    Text("Time", "用时"),
    Text("Date", "日期"),
)
CAPS_ONE = Text("1 plan, {caps} GiB", "1 个方案，{caps} GiB")
CAPS = Text("{count} plans, {caps} GiB", "{count} 个方案，{caps} GiB")
SPREAD = Text("{low} to {high}", "{low} 至 {high}")
A_STEP = Text("{time} a step", "{time}/步")
KNOWN = Text("Cards that can be planned for", "可以规划的显卡")
KNOWN_COUNT = Text("{count} cards", "{count} 种显卡")
KNOWN_HEADS = (
    Text("Card", "显卡"),
    Text("Memory", "显存"),
    Text("Name in requests", "请求中的名称"),
    Text("Bandwidth", "显存带宽"),
    Text("16 bit", "16 位算力"),
    Text("Has bf16", "支持 bf16"),
    Text("Architecture measured", "架构已实测"),
)
