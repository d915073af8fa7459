"""Sentences of the profiler's tab."""

from __future__ import annotations

from webui.core.text import Text

TAB = Text("Profiler", "性能分析")
ABOUT = Text(
    "Each row of the matrix runs through the normal flow and is recorded: base memory by "
    "component, activation memory by stage, peak, fragmentation. A row that fails is a result, "
    "and the others go on.",
    "矩阵的每一行都按正常流程运行并记录：各组件的基础显存、各阶段的激活显存、峰值与碎片率。"
    "某一行失败也是一种结果，其余各行照常进行。",
)
OWNER_ONLY = Text(
    "Profiling belongs to the owner of this machine: it holds the card for minutes and writes "
    "large files.",
    "性能分析只对本机所有者开放：它会占用显卡数分钟并写入大文件。",
)
MATRIX = Text("Matrix (YAML)", "配置矩阵（YAML）")
RUN = Text("Run the matrix", "运行矩阵")
DEMO = Text("Example: demo, no GPU", "示例：演示模型，无需 GPU")
GUIDE = Text("Example: the Wan2.1 guide", "示例：Wan2.1 指南")
ROW_OF = Text("Row {number} of {count}: {row}", "第 {number} / {count} 行：{row}")
STOPPING = Text("Stopping ...", "正在停止……")
ENDED = Text("Done: {count} rows.", "已完成：{count} 行。")
STARTING = Text("Warming up and reading the device ...", "正在预热并读取设备信息……")
PAST = Text("Earlier profiles", "以往的性能分析")
NONE_YET = Text("No profile yet: run the example above.", "还没有性能分析：请运行上面的示例。")
AROUND = Text(
    "{created} · {card} · other programs on the card: {processes}",
    "{created} · {card} · 显卡上的其他进程：{processes}",
)
NOBODY_ELSE = Text("none", "无")
STATES = {
    "done": Text("done", "完成"),
    "failed": Text("failed", "失败"),
    "refused": Text("not run", "未运行"),
    "cancelled": Text("cancelled", "已取消"),
}
HEADS = (
    Text("Row", "行"),
    Text("State", "状态"),
    Text("Base by component", "各组件基础显存"),
    Text("Activation by stage", "各阶段激活显存"),
    Text("Peak", "峰值"),
    Text("Estimated", "预计"),
    Text("Fragmentation (swing)", "碎片率（波动）"),
    Text("Time", "用时"),
)
DETAILS = Text("Details", "详情")
CLOSE = Text("Close", "关闭")
COMPARE = Text("Compare with {row}", "与 {row} 比较")
FILES = Text("Files", "文件")
BASE = Text(
    "Base memory: growth when a component arrives on the device",
    "基础显存：组件到达设备时的增量",
)
BASE_HEADS = (
    Text("Component", "组件"),
    Text("Placed", "放置方式"),
    Text("Parameters", "参数量"),
    Text("Growth", "增量"),
    Text("Its storages", "存储大小"),
    Text("Off by", "偏差"),
)
PHASES = Text("Phases", "阶段")
PHASE_HEADS = (
    Text("Phase", "阶段"),
    Text("Before the forward pass", "前向传播之前"),
    Text("Peak", "峰值"),
    Text("After", "之后"),
)
STAGES = Text("Activation memory by stage", "各阶段激活显存")
STAGE_HEADS = (
    Text("Phase", "阶段"),
    Text("Stage", "部位"),
    Text("Calls", "调用次数"),
    Text("Activation", "激活"),
    Text("Peak", "峰值"),
)
HOLDERS = Text(
    "Who holds the peak of {file}: {size}",
    "{file} 的峰值由谁占用：{size}",
)
HOLDER_HEADS = (
    Text("Bytes", "字节"),
    Text("Storages", "存储数"),
    Text("Code line", "代码行"),
    Text("Operation", "算子"),
)
NO_LINES = Text(
    "Code lines need a trace or a snapshot: logging: {trace: true, snapshot: true}.",
    "要看到代码行，需要跟踪或快照：logging: {trace: true, snapshot: true}。",
)
SWITCHES = Text("Components that came and went", "组件的换入与换出")
SWITCH_HEADS = (
    Text("At", "时刻"),
    Text("Phase", "阶段"),
    Text("Component", "组件"),
    Text("Change", "变化"),
    Text("Allocated then", "当时已分配"),
)
MODEL_SWITCHES = Text("Allocated across changes of the model", "切换模型前后的已分配显存")
MODEL_SWITCH_HEADS = (
    Text("Rows", "行"),
    Text("Models", "模型"),
    Text("Before unloading", "卸载前"),
    Text("After unloading", "卸载后"),
    Text("After loading the next", "加载下一模型后"),
)
CONFIRM_DELETE = Text(
    "Delete this profile with its traces and reports? The runs of its rows stay.",
    "删除该性能分析及其跟踪文件和报告？各行的运行记录会保留。",
)
ARCHITECTURE = Text("Architecture", "模型架构")
ARCHITECTURE_HEADS = (
    Text("Component", "组件"),
    Text("Parameters", "参数量"),
    Text("Bytes", "字节"),
    Text("Dimensions", "维度"),
)
COMPARE_HEADS = (Text("Figure", "指标"), Text("Of", "对象"), Text("Change", "变化"))
KINDS = {
    "base": Text("base", "基础"),
    "phase": Text("phase", "阶段"),
    "activation": Text("activation", "激活"),
    "peak": Text("peak", "峰值"),
    "reserved": Text("reserved", "预留"),
}
NO_FRAGMENTATION = Text("none on a processor", "不适用（处理器）")
