"""What a card or a platform cannot do, of the settings that a request fixes."""

from __future__ import annotations

from webui.core.card import Card
from webui.core.errors import BadInput
from webui.core.request import Request
from webui.core.text import Text

_NEEDS_BF16 = ("bf16", "fp8")
"""Precisions that compute in bf16; fp8 is only how the weights are stored."""
_NEEDS_COMPUTE = {"flash": (8, 0), "sage": (8, 0), "xformers": (0, 0)}
"""Kernels for GPUs only, and from which compute capability on (the packages' own descriptions);
whether they are installed the worker tells, when it has tried them."""
_FIRST_INT8 = (7, 5)
"""Oldest compute capability with 8-bit products in bitsandbytes (its docs, installation.mdx); those
in 4 bits run on every card of the list."""


def unsupported(request: Request, card: Card) -> BadInput | None:
    """What a fixed setting asks of a card or platform that has it not; None where all is well."""
    for name in ("precision", "vae_precision"):
        value = request.settings.get(name)
        if value in _NEEDS_BF16 and card.kind == "cuda" and not card.bf16:
            why = "" if value == "bf16" else f" ({value} computes in bf16)"
            why_zh = "" if value == "bf16" else f"（{value} 以 bf16 计算）"
            return BadInput(
                f"settings.{name}",
                Text(
                    f"{card.title} has no bf16, so {name} cannot be {value}{why}.",
                    f"{card.title} 不支持 bf16，{name} 不能是 {value}{why_zh}。",
                ),
                Text(
                    f"Use fp16, or leave {name} out and it is chosen.",
                    f"请用 fp16，或不写 {name}，由系统选择。",
                ),
            )
    attention = request.settings.get("attention")
    too_old = (card.compute_capability or (0, 0)) < _NEEDS_COMPUTE.get(str(attention), (0, 0))
    if attention in _NEEDS_COMPUTE and (card.kind == "cpu" or too_old):
        return BadInput(
            "settings.attention",
            Text(
                f"attention: {attention} has no kernels for {card.title}.",
                f"attention: {attention} 没有适用于 {card.title} 的内核。",
            ),
            Text("Use sdpa, or leave attention out.", "请用 sdpa，或不写 attention。"),
        )
    in_int8 = card.kind == "cuda" and request.settings.get("quantization") == "int8"
    if in_int8 and (card.compute_capability or _FIRST_INT8) < _FIRST_INT8:
        return BadInput(
            "settings.quantization",
            Text(
                f"{card.title} has no 8-bit products, so quantization cannot be int8.",
                f"{card.title} 没有 8 位乘法，quantization 不能是 int8。",
            ),
            Text("Use nf4 or none.", "请用 nf4 或 none。"),
        )
    if card.kind == "cpu" and int(request.settings.get("gpus", 1)) > 1:
        return BadInput(
            "settings.gpus",
            Text(
                f"{request.settings['gpus']} GPUs were asked for, and it would run on the "
                "processor.",
                f"要求 {request.settings['gpus']} 张 GPU，但将在处理器上运行。",
            ),
            Text(
                "Leave gpus out, or name a graphics card to plan for.",
                "请不写 gpus，或指定要规划的显卡。",
            ),
        )
    expandable = card.kind == "cuda" and request.settings.get("allocator") == "expandable"
    if expandable and request.platform == "windows":
        return BadInput(
            "settings.allocator",
            Text(
                "Windows has no expandable segments.",
                "Windows 没有 expandable segments。",
            ),
            Text("Use default, or leave allocator out.", "请用 default，或不写 allocator。"),
        )
    return None


def refuse_unsupported(request: Request, card: Card) -> None:
    """Raises what `unsupported` finds.

    Raises:
        BadInput: a fixed setting cannot be had there.
    """
    refusal = unsupported(request, card)
    if refusal is not None:
        raise refusal
