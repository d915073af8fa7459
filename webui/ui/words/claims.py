"""Sentences of the tab about the guides' claims."""

from __future__ import annotations

from webui.core.text import Text

TAB = Text("Claims", "说法核对")
TITLE = Text("What guides say, checked", "核对各指南的说法")
ABOUT = Text(
    "{count} statements of five guides about memory, speed and cards, in our own words, beside "
    "what this version estimates and what was measured at full size, with random weights, on "
    "{devices}. A verdict rests on the measurement, and where there is none on the estimate. An "
    "amount holds within 10 %, and roughly within 25 %.",
    "五份指南中关于显存、速度和显卡的 {count} 条说法（用我们自己的话转述），"
    "对照本版本的预计，以及在 {devices} 上以真实尺寸、随机权重得到的实测。"
    "结论以实测为准，没有实测时以预计为准。数量相差 10% 以内为成立，25% 以内为大致成立。",
)
CHECKING = Text("Comparing with estimates and recorded runs …", "正在与预计值和运行记录对照……")
ESTIMATED = Text("estimated", "预计")
MEASURED = Text("measured", "实测")
RECEIPT = Text("receipt", "回执")
