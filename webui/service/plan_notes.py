"""What the planner says beside a plan: about this computer's memory, and which card it took."""

from __future__ import annotations

from webui.core.card import Card
from webui.core.host import host_memory_bytes
from webui.core.plan import Estimate
from webui.core.request import DETECTED, Request
from webui.core.text import Text
from webui.core.units import format_bytes


def stand_in_note(request: Request, card: Card, here: Card) -> tuple[Text, ...]:
    """Which card stands for one that `vram_gib` alone does not name."""
    if request.card != DETECTED or card.name == here.name:
        return ()
    return (
        Text(
            f"vram_gib names no card: a {card.title} stands for its speed. Name a card to change "
            "that.",
            f"vram_gib 没有指明显卡：以 {card.title} 的速度估算。指定 card 可以更改。",
        ),
    )


def host_note(found: Estimate, card: Card, here: Card) -> tuple[Text, ...]:
    """A warning where this computer's own memory is too small for what waits there."""
    if card.name != here.name:
        return ()
    total_bytes = host_memory_bytes()
    if found.host_bytes <= total_bytes:
        return ()
    needed, total = format_bytes(found.host_bytes), format_bytes(total_bytes)
    return (
        Text(
            f"This computer has {total} of memory, and about {needed} are needed: it may swap or "
            "the run may be ended. Weights in lower precision, or quantised, need less.",
            f"本机内存为 {total}，而大约需要 {needed}：可能会频繁换页，任务也可能被终止。"
            "使用更低精度或量化的权重需要更少内存。",
        ),
    )
