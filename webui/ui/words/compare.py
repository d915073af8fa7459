"""Sentences of the comparison tab."""

from __future__ import annotations

from webui.core.text import Text

TAB = Text("Compare", "比较")
BASE = Text("What to run", "基准请求")
FORM = Text("what the Generate tab holds now", "“生成”页当前的内容")
SETTING = Text("What differs", "对比的设置")
VALUES = Text("Its values (2 to 4)", "取值（2 到 4 个）")
VALUES_INFO = Text(
    "One run for each, all with the same seed. The first is what the others are held against.",
    "每个取值运行一次，种子相同。其余结果与第一个对照。",
)
RUN = Text("Run and compare", "运行并比较")
PAST = Text("Finished runs (2 to 4)", "已完成的运行（2 到 4 个）")
SIDE_BY_SIDE = Text("Put side by side", "并排比较")
EMPTY = Text(
    "Choose what differs, or runs of the past: results, times, memory and differences appear here.",
    "选择对比的设置，或选择过去的运行：画面、时间、显存和差异会并排显示在这里。",
)
PLAY = Text("Play together / pause", "同步播放 / 暂停")
SAME = Text("the same settings", "设置相同")
REFERENCE = Text("what the others are held against", "其他结果与它对照")
PAGES = Text("Pages", "页面")
TIME = Text("Time", "时间")
PEAK = Text("Peak", "峰值")
DIFFERENCE = Text("Difference", "差异")
AS_SAVED = Text(
    "Compared as they were saved: clips are compressed, so equal frames may differ a little. The "
    "higher the nearer; an SSIM of 1 means equal.",
    "按保存的文件比较：视频经过压缩，相同的画面也可能略有差别。数值越高越接近，SSIM 为 1 即相同。",
)
BY_FRAME = Text("Frame by frame", "逐帧")
FRAME = Text("Frame", "帧")
CHOOSE_RUNS = Text("Choose 2 to 4 runs.", "请选择 2 到 4 次运行。")
CHOOSE_VALUES = Text("Choose 2 to 4 values.", "请选择 2 到 4 个取值。")
CHOOSE_SETTING = Text("Choose what differs first.", "请先选择对比的设置。")
