"""Sentences that several tabs share: phases, states, the memory panel, results."""

from __future__ import annotations

from webui.core.text import Text

TAGLINE = Text(
    "Know the memory and the time before you run.",
    "运行之前，先知道要用多少显存、多少时间。",
)
OTHER_LANGUAGE = Text("中文", "English")
SWITCH_LANGUAGE = Text("切换到中文", "Switch to English")

STATES = {
    "queued": Text("Waiting", "排队中"),
    "running": Text("Running", "运行中"),
    "done": Text("Done", "已完成"),
    "failed": Text("Failed", "失败"),
    "cancelled": Text("Cancelled", "已取消"),
    "interrupted": Text("Interrupted", "已中断"),
}

# Memory panel
MEMORY = Text("Memory and time", "显存与时间")
FITS = Text("Fits", "放得下")
DOES_NOT_FIT = Text("Does not fit", "放不下")
OF = Text("{used} of {limit}", "{used} / {limit}")
PEAK_ON_CARD = Text("peak on the card, CUDA included", "显卡峰值占用，含 CUDA 上下文")
PEAK_ON_HOST = Text("live tensor bytes in host memory", "主机内存中的活动张量字节数")
SECONDS = Text("{figure} s", "{figure} 秒")
ABOUT_SECONDS = Text("about {time}", "约 {time}")
BETWEEN_SECONDS = Text("{low} to {high}", "{low} 至 {high}")
PLUS_LOADING = Text("+ {time} to load the model the first time", "首次加载模型另需 {time}")
RESIDENT = Text("resident", "常驻")
ACTIVATION = Text("activation", "激活")
RESERVED_BEYOND = Text("reserved beyond", "额外预留")
CONTEXT = Text("CUDA context", "CUDA 上下文")
MARGIN = Text("margin", "余量")
LIMIT_IS = Text("limit {size}", "上限 {size}")
MEASURED = Text("measured", "实测")
ESTIMATED = Text("estimated", "预计")
HOST_MEMORY = Text("Host memory", "主机内存")
OF_HOST_MEMORY = Text("{size} of host memory", "主机内存 {size}")
WHY = Text("Why these settings", "为什么这样设置")
ASSUMPTIONS = Text("About these figures", "关于这些数字")
OFFERS = Text("What would fit", "怎样才放得下")
LIMITS = Text("How far this card goes", "这张卡最多能做到")
ASK_LIMITS = Text("Find out", "查一查")
APPLY = Text("Apply", "采用")
SHOW_DETAILS = Text("Show memory details", "显示显存详情")
BAR = Text(
    "{phase}: {total}, of which resident {resident}, activation {activation}",
    "{phase}：{total}，其中常驻 {resident}、激活 {activation}",
)

# Results and runs
SEED = Text("seed", "种子")
PAGES = Text("pages {pages}", "第 {pages} 页")
STEPS = Text("{count} steps", "{count} 步")
FRAMES = Text("{count} frames, {seconds} s", "{count} 帧，{seconds} 秒")
PICTURE = Text("picture", "图片")
CLIPS = Text("{count} clips", "{count} 段视频")
TOOK = Text("{time}, estimated {estimate}", "用时 {time}，预计 {estimate}")
TOOK_IN_PART = {
    "frames": Text(
        "{made} of {whole} frames in {time}, estimated for all {estimate}",
        "{whole} 帧中的 {made} 帧用时 {time}，全部预计 {estimate}",
    ),
    "pages": Text(
        "{made} of {whole} pages in {time}, estimated for all {estimate}",
        "{whole} 页中的 {made} 页用时 {time}，全部预计 {estimate}",
    ),
}
DOWNLOAD = Text("Download", "下载")
DOWNLOAD_ONE = Text("Download {number}", "下载第 {number} 个")
USE_AGAIN = Text("Use these settings again", "再次使用这些设置")
DELETE = Text("Delete", "删除")
CONFIRM_DELETE = Text(
    "Delete this run and its files for good?", "确定要永久删除这次运行及其文件吗？"
)
OPEN = Text("Open", "打开")
COUNTED_FRAMES = Text("{count} frames", "{count} 帧")
SCALED = Text("{scale} times as large", "放大 {scale} 倍")
RESUME = Text("Go on where it ended", "从中断处继续")
KEPT = Text(
    "It ended early. What was finished is kept: go on, and only the rest is done.",
    "任务提前结束。已完成的部分都保留着，继续时只处理其余部分。",
)
UPSCALED = Text("Upscaled video", "放大后的视频")
NO_SOUND_VIDEO = Text("Generated clip", "生成的视频")
GENERATED_PICTURE = Text("Generated picture", "生成的图片")
CANCEL = Text("Cancel", "取消")
AHEAD_ONE = Text("1 job ahead", "前面还有 1 个任务")
AHEAD = Text("{count} jobs ahead", "前面还有 {count} 个任务")
NEXT = Text("next in line", "下一个就是")
TIME_LEFT = Text("{time} left", "剩余 {time}")
STEP_OF = Text("step {step} of {steps}", "第 {step} / {steps} 步")
PIECE_OF_FRAMES = Text("{made} of {pieces} frames", "已完成 {made} / {pieces} 帧")
PIECE_OF_PAGES = Text("{made} of {pieces} pages", "已完成 {made} / {pieces} 页")
FRAME_RATE = Text("{rate} frames a second", "每秒 {rate} 帧")
DOCUMENT = Text("Document", "文档")
READ_DOCUMENT = Text("Open the pages", "打开页面")
PREVIEW = Text("Preview of the latents", "潜变量预览")
ATTEMPT = Text("attempt {number} of {most}", "第 {number} / {most} 次尝试")
ATTEMPTS = Text("Ran out of memory before", "此前内存不足")
NO_PROMPT = Text("(no prompt)", "（无提示词）")

# Refusals
NOBODY = Text("Nobody is signed in.", "尚未登录。")
LOAD_AGAIN = Text("Load the page again.", "请重新加载页面。")
STALE_OFFER = Text("That offer is not valid any more.", "该建议已失效。")
JOB_ENDED = Text("The job ended: {state}.", "任务已结束：{state}。")
