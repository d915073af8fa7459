"""Sentences of the tab that upscales."""

from __future__ import annotations

from webui.core.text import Text

TAB = Text("Upscale", "放大")
INPUT = Text("Videos and pictures", "视频和图片")
RUN = Text("Upscale", "开始放大")
NO_INPUT = Text("There is nothing to upscale yet.", "还没有要放大的内容。")
CHOOSE_ONE = Text("Choose a video or a picture first.", "请先选择一个视频或一张图片。")

# What the input is
QUEUED = Text(
    "{done} of {count} files are queued; the others are still chosen.",
    "{count} 个文件中已有 {done} 个加入队列，其余仍在选择框中。",
)
SEVERAL = Text(
    "{count} files, a run for each. The plan, its time too, is for the one with the largest "
    "frames: {name}.",
    "共 {count} 个文件，各自运行一次。方案（包括时间）只针对其中画面最大的 {name}。",
)
NOT_YET = Text(
    "Without an input, the sizes below are planned for.", "尚无输入时，按下面填写的尺寸规划。"
)
NO_PLAN = Text("There is no plan for an input that cannot be used.", "输入无法使用，因此没有方案。")
FACTS = Text("{frames} frames of {width} x {height} px", "{frames} 帧，{width} x {height} 像素")
ONE_PICTURE = Text("a picture of {width} x {height} px", "图片，{width} x {height} 像素")
TRANSPARENT = Text("with transparency, which stays", "带透明通道，将保留")
RATE = Text("{rate} frames a second", "每秒 {rate} 帧")
VARIABLE_RATE = Text("about {rate} frames a second, not even", "每秒约 {rate} 帧（帧率可变）")
LENGTH = Text("{time} long", "时长 {time}")
WITH_SOUND = Text("with sound, which is kept", "含声音（将保留）")
NO_SOUND = Text("no sound", "无声音")
TEN_BITS = Text("10 bits a colour", "每色 10 位")
RESULT_SIZE = Text("The result has {width} x {height} px.", "结果为 {width} x {height} 像素。")
IN_SEGMENTS = Text(
    "Done in {count} segments: each that is finished is kept when a run ends early.",
    "分 {count} 段处理：提前结束时，已完成的段会保留。",
)

# The form
SCALE = Text("Scale", "放大倍数")
TIMES = Text("{scale} times", "{scale} 倍")
FRAMES = Text("Input frames", "输入的帧数")
WIDTH = Text("Input width (px)", "输入的宽（像素）")
HEIGHT = Text("Input height (px)", "输入的高（像素）")
COLOUR = Text("Colour fix", "颜色校正")
COLOUR_INFO = Text(
    "Brings the colours of the result back to those of the input.",
    "使结果的颜色回到输入画面的颜色。",
)
COLOURS = {
    "adain": Text("adain: by each frame's statistics", "adain：按每帧的统计量"),
    "wavelet": Text("wavelet: by what is coarse", "wavelet：按低频部分"),
    "none": Text("none: as the model made them", "none：保持模型的输出"),
}
QUALITY = Text("Quality of the file", "文件质量")
QUALITIES = {
    "high": Text("high: the largest file", "high：文件最大"),
    "medium": Text("medium", "medium：中等"),
    "small": Text("small: the smallest file", "small：文件最小"),
}
ADVANCED = Text("Segments", "分段")
SEGMENT_FRAMES = Text("Frames of a segment", "每段帧数")
SEGMENT_INFO = Text(
    "What a GPU takes at a time, and what is kept when a run ends early.",
    "每张 GPU 一次处理的帧数；提前结束时按段保留。",
)
OVERLAP = Text("Warm-up frames", "预热帧数")
OVERLAP_INFO = Text(
    "Frames before each segment that are done again, so that its first frames know the past; "
    "the borders are blended.",
    "每段之前重复处理的帧，使段首画面了解之前的内容；边界平滑过渡。",
)

# Jobs and results
EMPTY = Text("The upscaled video appears here.", "放大后的视频会出现在这里。")
COMPARED = Text("Before and after", "放大前后对比")
NEWEST_FRAME = Text("The newest frame, before and after", "最新一帧，放大前后")
FRAME = Text("Frame to compare", "要对比的帧")
COMPARED_FRAME = Text("Frame {number}, before and after", "第 {number} 帧，放大前后")
RECENT = Text("Recently upscaled", "最近放大的视频")
OFFER_NEEDS_INPUT = Text("{offer} Give it a smaller input.", "{offer}请换用更小的输入。")

# Who did what
WORK = Text("What each GPU did", "各 GPU 的工作")
GPU = Text("GPU {number}", "{number} 号 GPU")
WORK_HEADS = (
    Text("GPU", "显卡"),
    Text("Segments", "段"),
    Text("Frames", "帧"),
    Text("Frames a second", "每秒帧数"),
    Text("Work", "处理"),
    Text("Loading", "加载"),
)
DONE_AGAIN = Text("Done again", "重做")
LOST_ONCE = Text(
    "its process was lost; {frames} frames were made again", "进程丢失，重做了 {frames} 帧"
)
LOST_OFTEN = Text(
    "its process was lost {count} times; {frames} frames were made again",
    "进程丢失 {count} 次，重做了 {frames} 帧",
)
