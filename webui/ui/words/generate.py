"""Sentences of the generation tab."""

from __future__ import annotations

from webui.core.text import Text

TAB = Text("Generate", "生成")
PROMPT = Text("Prompt", "提示词")
PROMPT_PLACEHOLDER = Text(
    "Say what the clip should show. Ctrl+Enter starts.", "写出视频的内容。按 Ctrl+Enter 开始。"
)
PICTURES = {
    "image": Text("Picture to start from", "起始图片"),
    "last_image": Text("Picture to end with", "结尾图片"),
}
MAY_BE_EMPTY = Text("{label} (may be left empty)", "{label}（可以不选）")
NEGATIVE = Text("Negative prompt", "负面提示词")
EXAMPLES = Text("Try", "试试")
GENERATE = Text("Generate", "生成")
MODEL = Text("Model", "模型")
CARD = Text("Card", "显卡")
CARD_INFO = Text("Runs on this machine; plan for any card.", "在本机运行；可为任意显卡规划。")
THIS_MACHINE = Text("this machine: {card}", "本机：{card}")
THIS_PROCESSOR = Text("this machine's processor: {card}", "本机处理器：{card}")
VRAM = Text("Memory limit (GiB)", "显存上限（GiB）")
VRAM_INFO = Text("0 = all of the card", "0 = 整张显卡")
SIZE = Text("Resolution", "分辨率")
CUSTOM_SIZE = Text("free entry ...", "自行输入……")
WIDTH = Text("Width (px)", "宽（像素）")
HEIGHT = Text("Height (px)", "高（像素）")
SIZE_SNAPPED = Text(
    "The model takes multiples of {multiple} px: {width} x {height}.",
    "模型要求 {multiple} 像素的倍数：{width} x {height}。",
)
FRAMES = Text("Frames", "帧数")
FRAMES_ARE = Text("{seconds} s at {fps} frames a second", "{seconds} 秒，每秒 {fps} 帧")
MOST_FRAMES = Text(", the most that {title} makes", "，为 {title} 的上限")
ONE_FRAME = Text("1 frame makes a picture (PNG)", "1 帧即生成图片（PNG）")
STEPS = Text("Steps", "步数")
GUIDANCE = Text("Guidance", "引导强度")
GUIDANCE_OFF = Text(
    "Guidance 1 leaves the negative prompt out and halves the time.",
    "引导强度为 1 时不用负面提示词，时间减半。",
)
SEED = Text("Seed (-1 draws one)", "种子（-1 为随机）")
CLIPS = Text("Clips", "视频段数")
CLIPS_INFO = Text(
    "Made together, the first with this seed, the next with the one after it, and so on.",
    "一起生成：第一段用此种子，之后各段依次用后面的种子。",
)
SAMPLING = Text("Sampling", "采样")
FLOW_SHIFT = Text("Flow shift", "Flow shift")
SOLVER = Text("Solver", "求解器")
SOLVERS = {"unipc": Text("UniPC", "UniPC"), "dpm++": Text("DPM++", "DPM++")}
FPS = Text("Frames a second", "每秒帧数")
MEMORY_SETTINGS = Text("Memory settings", "显存设置")
AUTO = Text("auto", "自动")
CHOSEN = Text("auto: {value}", "自动：{value}")
FIXED = Text("set by you", "由你设定")
WHAT_IS_IT = Text("what is this?", "这是什么？")
RESULT_EMPTY = Text("Your clip appears here.", "生成的视频会出现在这里。")
RECENT = Text("Recent runs", "最近的运行")

WEIGHTS_HERE = Text("Weights: {source}", "权重：{source}")
WEIGHTS_MISSING = Text(
    "The weights are not on this machine ({size} to download). Planning works without them.",
    "本机没有权重（需下载 {size}）。没有权重也可以规划。",
)
DOWNLOAD = Text("Download {size}", "下载 {size}")
DOWNLOADING = Text("Downloading: {done} of {total}", "正在下载：{done} / {total}")
STOP_DOWNLOAD = Text("Stop", "停止")
ABOUT_MODEL = Text("What it can do", "它能做什么")
OWNER_DOWNLOADS = Text(
    "Only the owner of this machine can download models.", "只有本机的所有者可以下载模型。"
)
ASK_OWNER = Text("Ask them, or pick another model.", "请联系所有者，或换一个模型。")
MODEL_GONE = Text(
    "The model of this run is not offered any more.", "这次运行所用的模型已不再提供。"
)
