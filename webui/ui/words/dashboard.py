"""Sentences of the dashboard tab."""

from __future__ import annotations

from webui.core.text import Text

TAB = Text("Dashboard", "监控")

# Devices
NO_GPU = Text(
    "This machine has no NVIDIA GPU that answers: models run on the processor, in this memory.",
    "本机没有可用的 NVIDIA GPU：模型在处理器上运行，使用这里的内存。",
)
NOT_KEPT = Text(
    "Readings are not kept: memory.enable_monitoring is off.",
    "未保留历史读数：memory.enable_monitoring 已关闭。",
)
GPU = Text("GPU {index}", "GPU {index} 号")
HOST = Text("This machine", "本机")
HOST_MEMORY = Text("host memory", "主机内存")
BUSY = Text("busy {share}", "利用率 {share}")
PROCESSOR_BUSY = Text("processors busy {share}", "处理器利用率 {share}")
FREE = Text("{size} free", "空闲 {size}")
POWER = Text("{watts} of {limit} W", "{watts} / {limit} 瓦")
POWER_ALONE = Text("{watts} W", "{watts} 瓦")
DISK = Text("disk: {free} of {total} free", "磁盘：{total} 中空闲 {free}")
PROCESSES = Text("Programs on this card", "此显卡上的进程")
NO_PROCESSES = Text("No program holds memory of this card.", "没有进程占用此显卡。")
OUR_WORKER = Text("this studio's worker", "本程序的工作进程")
UNNAMED = Text("process {pid}", "进程 {pid}")
MEMORY_LINE = Text("memory", "内存")
BUSY_LINE = Text("busy", "利用率")
THRESHOLD = Text("warning from {share}", "{share} 起警告")
AGO = Text("{time} ago", "{time}前")
NOW = Text("now", "现在")
POINT = Text("{when}: {used} ({share}), busy {busy}", "{when}：{used}（{share}），利用率 {busy}")
PLOT = Text(
    "Memory over the last {span}: now {used}, at most {most}",
    "最近 {span}的显存：现在 {used}，最高 {most}",
)
SPANS = {
    "5m": Text("5 minutes", "5 分钟"),
    "1h": Text("1 hour", "1 小时"),
    "8h": Text("8 hours", "8 小时"),
}
SPAN = Text("Time span", "时间范围")

# Warnings
FULL_GPU = Text(
    "GPU {device} is {share} full: {used} of {total}.",
    "GPU {device} 号已用 {used} / {total}（{share}）。",
)
FULL_HOST = Text(
    "The host's memory is {share} full: {used} of {total}.",
    "主机内存已用 {used} / {total}（{share}）。",
)
FULL_PLAN = Text(
    "The job is planned to take {share} of its limit: {used} of {total}.",
    "任务预计占用 {used} / {total} 上限（{share}）。",
)
WARNING_HINT = Text(
    "The warning comes from {share} on. What would save memory stands beside the job.",
    "从 {share} 起警告。节省显存的方法列在任务旁边。",
)

# The job
JOB_NOW = Text("The running job", "正在运行的任务")
JOB_LAST = Text("The newest job", "最新的任务")
NO_JOB = Text(
    "No job yet. What runs, and what ran last, is shown here.",
    "还没有任务。正在运行和最近运行的任务会显示在这里。",
)
TIMELINE = Text("Phases over time", "各阶段的时间")
LOADED_IN = Text("loading took {time}", "加载用时 {time}")
PHASE_HEAD = Text("Phase", "阶段")
JOB_HEADS = (
    Text("Time", "用时"),
    Text("Allocated", "已分配"),
    Text("Reserved", "已预留"),
    Text("Unused of it", "其中未用"),
)
PLANNED_AND_MEASURED = Text(
    "Each: planned → measured, and the error.", "每格：预计 → 实测，以及误差。"
)
SO_FAR = Text("{figure} so far", "目前 {figure}")
ALLOCATOR = Text("Allocated against reserved", "已分配与已预留")
LIVE = Text("Live tensors", "活动张量")
ALLOCATED_LINE = Text("allocated", "已分配")
RESERVED_LINE = Text("reserved", "已预留")
ALLOCATOR_PLOT = Text(
    "Since the job began, {time}: allocated {allocated}, reserved {reserved}",
    "任务开始 {time} 以来：已分配 {allocated}，已预留 {reserved}",
)
ALLOCATOR_POINT = Text(
    "{time}: allocated {allocated}, reserved {reserved}",
    "{time}：已分配 {allocated}，已预留 {reserved}",
)
LIVE_BYTES = Text(
    "A processor has no allocator that reserves: these are the bytes of live tensors.",
    "处理器没有会预留内存的分配器：这里是活动张量的字节数。",
)

# Advice
ADVICE = Text("What would save memory", "怎样节省显存")
STEP = Text("saves {saved}, {time}", "节省 {saved}，{time}")
SLOWER = Text("{time} longer", "慢 {time}")
FASTER = Text("{time} shorter", "快 {time}")
SAME_TIME = Text("as fast", "用时不变")
LOSSLESS = Text("The result stays the same", "结果不变")
WITH_COST = Text("The result changes a little", "结果略有变化")
NOTHING_TO_SAVE = Text(
    "These settings are the leanest that keep the result.",
    "在不影响结果的前提下，这些设置已最省显存。",
)
NEARBY = Text("What would fit", "怎样才放得下")

# Buttons
EMPTY_CACHE = Text("Empty the cache", "清空缓存")
UNLOAD = Text("Unload the model", "卸载模型")
END_WORKER = Text("End the worker", "结束工作进程")
CONFIRM_END = Text(
    "End the worker process? A running job fails.", "确定要结束工作进程吗？正在运行的任务会失败。"
)

# Receipts
RECEIPTS = Text("Estimated against measured", "预计与实测")
SOURCE = Text("Runs", "运行")
SOURCES = {
    "own": Text("yours", "你的运行"),
    "verified": Text("shipped with the studio", "随工作室提供"),
}
QUANTITY = Text("Figure", "数值")
QUANTITIES = {
    "allocated": Text("allocated memory", "已分配显存"),
    "reserved": Text("reserved memory", "已预留显存"),
    "seconds": Text("time", "用时"),
}
MODEL = Text("Model", "模型")
EVERY_MODEL = Text("all", "全部")
NO_RECEIPTS = Text(
    "No measured run yet. Each run leaves its receipt here.",
    "还没有实测的运行。每次运行都会在这里留下回执。",
)
NO_FIGURES = Text(
    "None of these runs measured this: a processor reserves nothing.",
    "这些运行没有测量该数值：处理器没有预留内存。",
)
SCATTER = Text(
    "{count} phases, measured against estimated; on the line both are equal.",
    "{count} 个阶段的实测与预计；线上的点两者相等。",
)
ESTIMATED_AXIS = Text("estimated →", "预计 →")
MEASURED_AXIS = Text("measured ↑", "实测 ↑")
DOT = Text(
    "{model}, {phase}: estimated {estimated}, measured {measured} ({error})",
    "{model}，{phase}：预计 {estimated}，实测 {measured}（{error}）",
)
ERROR_HEADS = (
    Text("Model", "模型"),
    Text("Phase", "阶段"),
    Text("Runs", "运行次数"),
    Text("Mean error", "平均误差"),
    Text("Worst error", "最大误差"),
)
NEWEST = Text("The newest, one by one", "最近的运行，逐条列出")
ROW_HEADS = (
    Text("Run", "运行"),
    Text("Model", "模型"),
    Text("Phase", "阶段"),
    Text("Estimated", "预计"),
    Text("Measured", "实测"),
    Text("Error", "误差"),
    Text("Device", "设备"),
)
SAVE_CSV = Text("Download as CSV", "下载 CSV")
CARDS = Text("The table of cards that were tried", "已试过的显卡表")
