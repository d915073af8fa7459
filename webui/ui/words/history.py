"""Sentences of the history tab."""

from __future__ import annotations

from webui.core.text import Text

TAB = Text("History", "历史")
EMPTY = Text(
    "Nothing here yet. Every run is kept here with what was estimated and what was measured.",
    "这里还是空的。每次运行都会连同预计值与实测值保存在这里。",
)
MORE = Text("Show more", "显示更多")
RECEIPT = Text("Receipt", "回执")
CLOSE = Text("Close", "关闭")
RUN_OF = Text("Run {id}", "运行 {id}")
