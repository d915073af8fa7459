"""What a step cache keeps while denoising, and which steps it leaves out.

As diffusers does it (hooks/first_block_cache.py, hooks/taylorseer_cache.py); tests compare with
traces of the real loop, and with counted passes.

Shapes: N tokens, D width of the transformer.
"""

from __future__ import annotations

from math import prod

from webui.core.clip import ClipCard
from webui.core.settings import FIRST_BLOCK, TAYLORSEER, Settings
from webui.core.text import Text

FULL_FIRST_STEPS = 3
"""Steps that TaylorSeer always computes before it extrapolates (`disable_cache_before_step`)."""
_ORDERS = 2
"""What TaylorSeer keeps of its layer: the value and its first difference (`max_order` 1)."""
_OF_FIRST_BLOCK = 3
"""Tensors (N D) that the first block's cache keeps: the first block's output, what it added, and
what the other blocks added."""


def cache_of(settings: Settings) -> str:
    """The value of the setting; `none` where a model has no such setting."""
    return str(settings.get("step_cache", "none"))


def relevant_cache(settings: Settings, denoises: bool) -> Settings:
    """The settings of the cache, with a fixed value for what a phase does not depend on."""
    kind = cache_of(settings) if denoises else "none"
    fixed: Settings = {"step_cache": kind}
    if kind != TAYLORSEER:
        fixed["step_cache_interval"] = 1
    if kind != FIRST_BLOCK or settings["step_cache_threshold"]:
        # Above 0 it changes nothing that can be said before the run.
        fixed["step_cache_threshold"] = 1
    return {name: value for name, value in fixed.items() if name in settings}


def kept_bytes(
    card: ClipCard, settings: Settings, latents: int, value_bytes: int, passes: int
) -> list[int]:
    """Bytes of each tensor that is kept from step to step.

    Args:
        card: the model.
        settings: complete ones.
        latents: frames x height x width of the latent.
        value_bytes: of one value of the hidden states.
        passes: of each step, each of which keeps its own: 2 with guidance.
    """
    if cache_of(settings) == TAYLORSEER:
        channels = int(card.configs["transformer"]["out_channels"])
        return [latents * channels * value_bytes] * (_ORDERS * passes)
    if cache_of(settings) != FIRST_BLOCK:
        return []
    tokens, width = tokens_of(card, latents)
    size = tokens * width * value_bytes
    return [size] * (_OF_FIRST_BLOCK * passes + _copies(card, settings))


def _copies(card: ClipCard, settings: Settings) -> int:
    """Of the hidden states, at the peak.

    In pieces a block writes over its input, of which the first one must then make a copy. Where
    each token has a modulation of its own the peak is after the blocks, and the copy gone.
    """
    in_pieces = int(settings.get("ffn_chunks", 1)) > 1
    return int(in_pieces and not card.pipeline.get("expand_timesteps"))


def computed_steps(settings: Settings, steps: int) -> int:
    """Steps that are computed in full: the most of them, where the values decide."""
    if cache_of(settings) != TAYLORSEER:
        return steps
    interval = int(settings["step_cache_interval"])
    return sum(
        step < FULL_FIRST_STEPS or (step - FULL_FIRST_STEPS - 1) % interval == 0
        for step in range(steps)
    )


def least_share(card: ClipCard, settings: Settings, steps: int) -> float:
    """Of the seconds of denoising, those that are spent in any case.

    Where the first block decides, that is one step in full and the first block of the others.
    """
    if cache_of(settings) != FIRST_BLOCK or not int(settings["step_cache_threshold"]):
        return 1.0
    return (1 + (steps - 1) / int(card.configs["transformer"]["num_layers"])) / steps


def cache_notes(settings: Settings) -> tuple[Text, ...]:
    """What the estimate says about a cache."""
    if cache_of(settings) != FIRST_BLOCK:
        return ()
    return (
        Text(
            "The first-block cache decides by the picture which steps it shortens: the seconds are "
            "those of none, so the run takes at most that.",
            "首块缓存根据画面内容决定缩短哪些步：给出的时间按一步也不缩短计算，实际最多用这么久。",
        ),
    )


def tokens_of(card: ClipCard, latents: int) -> tuple[int, int]:
    """Tokens of a latent of so many places, and the width of the transformer (N, D)."""
    config = card.configs["transformer"]
    width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
    return latents // prod(config["patch_size"]), width
