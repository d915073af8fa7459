"""Reuse of work between denoising steps, through the library's hooks: the setting `step_cache`.

Of the library's caches these are the ones that do on Wan what they say. Its attention broadcast
keeps one count for both halves of guidance, so that one half is given the other's attention, and
plain TaylorSeer matches no module of Wan (hooks/pyramid_attention_broadcast.py,
hooks/taylorseer_cache.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig, TaylorSeerCacheConfig
from diffusers.hooks import HookRegistry
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from torch.utils.hooks import RemovableHandle

from webui.core.settings import FIRST_BLOCK, TAYLORSEER
from webui.pipelines.running import before_first
from webui.pipelines.wan.components import component_dtype
from webui.pipelines.wan.pieces import PieceBlock, set_kept_inputs


@contextmanager
def step_cache(pipe: Any, settings: Mapping[str, Any]) -> Iterator[None]:
    """Inside, the transformers work as the setting `step_cache` says; what they keep goes after.

    Of two transformers the first gives back what it keeps before the second begins. Whoever
    measures the second one's phase must have registered for that before: hooks that come later
    are called first.

    Args:
        pipe: placed, or on meta.
        settings: complete ones, or none of a cache.
    """
    config = config_of(settings)
    if config is None:
        yield
        return
    transformers = [part for part in (pipe.transformer, pipe.transformer_2) if part is not None]
    links: dict[Any, RemovableHandle] = {}

    def end(transformer: Any) -> None:
        if transformer.is_cache_enabled:
            links.pop(transformer).remove()
            transformer.disable_cache()
            set_kept_inputs(transformer, 0)
            if pipe.placement is not None:
                # A pass that leaves layers out is cut short: what was fetched for them is there.
                pipe.placement.recover()

    try:
        for transformer in transformers:
            _begin(transformer, config)
            links[transformer] = _keep_linked(transformer)
        with before_first(pipe.transformer_2, lambda: end(pipe.transformer)):
            yield
    finally:
        for transformer in transformers:
            end(transformer)


def config_of(settings: Mapping[str, Any]) -> Any:
    """The library's configuration for complete settings; None without a cache."""
    kind = settings.get("step_cache", "none")
    if kind == FIRST_BLOCK:
        return FirstBlockCacheConfig(threshold=int(settings["step_cache_threshold"]) / 100)
    if kind == TAYLORSEER:
        # The lite variant extrapolates the last layer only, a latent instead of two tensors of the
        # full width for each block. In the model's own number format nothing is lost where all
        # steps are computed.
        return TaylorSeerCacheConfig(
            cache_interval=int(settings["step_cache_interval"]),
            taylor_factors_dtype=component_dtype("transformer", settings),
            use_lite_mode=True,
        )
    return None


def _begin(transformer: Any, config: Any) -> None:
    if isinstance(config, FirstBlockCacheConfig):
        _register_blocks()
        # It compares the first block's output with its input, and the last one's with the
        # first one's output: neither may be written over.
        set_kept_inputs(transformer, 2)
    transformer.enable_cache(config)


def _register_blocks() -> None:
    """Tells the library what a block of ours takes and returns: what its own does."""
    TransformerBlockRegistry.register(
        PieceBlock,
        TransformerBlockMetadata(
            return_hidden_states_index=0, return_encoder_hidden_states_index=None
        ),
    )


def _keep_linked(transformer: torch.nn.Module) -> RemovableHandle:
    """Keeps the cache's hooks in place when the first pass takes others away.

    Streaming removes what recorded the layers' order after the first pass, and the library then
    joins the hook outside of it to the one inside, past its own function
    (`HookRegistry.remove_hook`): the cache would silently do nothing, or half of it.
    """
    functions = [
        (reference, reference.forward)
        for module in transformer.modules()
        for reference in _references(module)
        if reference.original_forward is not None
    ]

    def link(*_: Any) -> None:
        for reference, function in functions:
            if reference.forward is not function:
                reference.original_forward, reference.forward = reference.forward, function

    return transformer.register_forward_hook(link)


def _references(module: torch.nn.Module) -> list[Any]:
    registry: HookRegistry | None = getattr(module, "_diffusers_hook", None)
    return [] if registry is None else registry._fn_refs
