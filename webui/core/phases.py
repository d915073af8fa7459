"""The phases of runs, of all families: what is estimated and measured one by one."""

from __future__ import annotations

from webui.core.text import Text

PHASES = {
    "encode": Text("Encode", "编码提示词"),
    "image_encode": Text("Encode image", "编码图像"),
    "denoise": Text("Denoise", "去噪"),
    "denoise_high": Text("Denoise (high noise)", "去噪（高噪声）"),
    "denoise_low": Text("Denoise (low noise)", "去噪（低噪声）"),
    "decode": Text("Decode", "解码"),
    "project": Text("Look at the input", "读取输入画面"),
    "upscale": Text("Upscale", "放大"),
    "read": Text("Read the pages", "识别页面"),
    "vision": Text("Look at the pages", "查看页面"),
    "prefill": Text("Read the prompt", "读入提示词"),
    "generate": Text("Write", "写出结果"),
    "forward": Text("Forward pass", "前向传播"),
    "backward": Text("Backward pass", "反向传播"),
    "optimizer": Text("Optimizer", "优化器"),
}
"""What each is called."""
_STAGES = {
    "starting": Text("Starting the worker", "启动工作进程"),
    "loading": Text("Loading the model", "加载模型"),
    "load": Text("Load", "加载"),
    **PHASES,
    "save": Text("Saving the file", "保存文件"),
}


def title_of(stage: str) -> Text:
    """What a phase, or a stage of a job before or after them, is called."""
    return _STAGES.get(stage, Text(stage, stage))
