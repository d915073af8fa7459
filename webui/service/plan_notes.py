"""What the planner says beside a plan: about this computer's memory, which card it took, and what
the figures are of."""

from __future__ import annotations

from webui.core.card import Card
from webui.core.host import host_memory_bytes
from webui.core.language import TextRequest
from webui.core.model import ModelCard
from webui.core.pages import PageRequest
from webui.core.plan import Estimate
from webui.core.request import DETECTED, Request
from webui.core.text import Text
from webui.core.units import GIB, format_bytes
from webui.estimator.estimate import weights_bytes
from webui.estimator.families import components_of

ENCODER = "text_encoder"
"""The setting that says where a prompt is encoded."""
_USUAL_HOST_BYTES = 32 * GIB
"""What many computers with a graphics card have, and few have more."""


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


def encoder_note(model: ModelCard, found: Estimate, request: Request) -> tuple[Text, ...]:
    """What an estimate leaves out where nobody asked for it: a run has a prompt to encode."""
    if found.settings.get(ENCODER) != "absent" or ENCODER in request.settings:
        return ()
    sizes = weights_bytes(model, {**found.settings, ENCODER: "gpu"})
    encoders = [name for name, part in components_of(model).items() if part.place == ENCODER]
    size = format_bytes(sum(sizes[name] for name in encoders))
    return (
        Text(
            "The text encoder is left out, as estimate's default is; with text_encoder: gpu its "
            f"weights take {size}.",
            f"estimate 默认不含文本编码器；使用 text_encoder: gpu 时其权重占用 {size}。",
        ),
    )


def length_note(request: Request) -> tuple[Text, ...]:
    """How long the answers are that a time is of."""
    if not isinstance(request, PageRequest | TextRequest):
        return ()
    return (
        Text(
            f"The time assumes the longest answer, {request.new_tokens} tokens (new_tokens); "
            "shorter ones take less.",
            f"时间按最长的回答 {request.new_tokens} 个词元（new_tokens）计算；较短的回答更快。",
        ),
    )


def host_note(found: Estimate, card: Card, here: Card) -> tuple[Text, ...]:
    """A warning where the computer's own memory is too small for what waits there, or may be."""
    is_here = card.name == here.name
    if not is_here and card.kind != "cuda":
        return ()
    there_bytes = host_memory_bytes() if is_here else _USUAL_HOST_BYTES
    if found.host_bytes <= there_bytes:
        return ()
    needed, there = format_bytes(found.host_bytes), format_bytes(there_bytes)
    if not is_here:
        return (
            Text(
                f"The computer needs about {needed} of its own memory too, more than the {there} "
                "that many have.",
                f"电脑本身还需要约 {needed} 内存，超过许多电脑的 {there}。",
            ),
        )
    return (
        Text(
            f"This computer has {there} of memory, and about {needed} are needed: it may swap or "
            "the run may be ended. Weights in lower precision, or quantised, need less.",
            f"本机内存为 {there}，而大约需要 {needed}：可能会频繁换页，任务也可能被终止。"
            "使用更低精度或量化的权重需要更少内存。",
        ),
    )
