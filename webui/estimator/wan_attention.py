"""What other kernels for attention take than PyTorch's own, and what is not known of them."""

from __future__ import annotations

from webui.core.settings import Settings
from webui.core.text import Text

SDPA = "sdpa"
SAGE = "sage"
_SAGE_BYTES = 4
"""For each token and channel: queries and keys in one byte, and values once more in two
(thu-ml/SageAttention, sageattention/core.py, which makes them anew for every call)."""


def attention_of(settings: Settings) -> str:
    """The value of the setting; `sdpa` where a model has no such setting."""
    return str(settings.get("attention", SDPA))


def relevant_attention(settings: Settings, denoises: bool) -> Settings:
    """The setting, with a fixed value for what a phase's memory does not depend on.

    flash-attn and xformers make what SDPA's flash kernel makes: the result, and a sum for each row.
    """
    if "attention" not in settings:
        return {}
    return {"attention": SAGE if denoises and attention_of(settings) == SAGE else SDPA}


def copies_bytes(settings: Settings, tokens: int, width: int) -> list[int]:
    """Bytes of the copies that attention works on, as if they were there all the time.

    Args:
        settings: complete ones.
        tokens: of the hidden states.
        width: their channels.
    """
    return [tokens * width * _SAGE_BYTES] if attention_of(settings) == SAGE else []


def attention_notes(settings: Settings) -> tuple[Text, ...]:
    """What the estimate says about kernels that were never measured."""
    name = attention_of(settings)
    if name == SDPA:
        return ()
    if name == SAGE:
        return (
            Text(
                "Attention by sageattention was never measured: its 8-bit copies are counted as an "
                "upper bound, and the time is that of SDPA.",
                "sageattention 的注意力尚未实测：8 位副本按上限计入，时间按 SDPA 计算。",
            ),
        )
    return (
        Text(
            f"Attention by {name} was never measured: memory and time are those of SDPA.",
            f"{name} 的注意力尚未实测：显存和时间均按 SDPA 计算。",
        ),
    )
