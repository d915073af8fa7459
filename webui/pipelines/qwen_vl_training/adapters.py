"""What is trained: all weights, or low-rank adapters (LoRA) that `peft` puts beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

TARGETS = (
    r".*\.language_model\.layers\.\d+\."
    r"(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
)
"""The projections of the language model; the vision tower stays as it is."""
_ALPHA_PER_RANK = 2
"""The usual scaling; it changes no memory."""


@contextmanager
def trainable(model: Any, lora_rank: int) -> Iterator[tuple[Any, list[nn.Parameter]]]:
    """Inside, a model to call and the parameters that it trains; afterwards it is as before.

    Adapters are kept in the model's own precision (peft would make them fp32): `precision` says
    in what everything is that trains.

    Args:
        model: with frozen parameters.
        lora_rank: 0 trains all of them.
    """
    model.train()
    if not lora_rank:
        model.requires_grad_(True)
        trained: Any = model
    else:
        config = LoraConfig(
            r=lora_rank,
            lora_alpha=_ALPHA_PER_RANK * lora_rank,
            target_modules=TARGETS,
            task_type="CAUSAL_LM",
        )
        trained = get_peft_model(model, config, autocast_adapter_dtype=False)
    try:
        yield trained, [weight for weight in trained.parameters() if weight.requires_grad]
    finally:
        if lora_rank:
            trained.unload()
        model.zero_grad(set_to_none=True)
        model.requires_grad_(False)
        model.eval()


@contextmanager
def checkpointed(model: Any, enabled: bool) -> Iterator[None]:
    """Inside, the library keeps only each layer's input and computes the rest again.

    The library also asks for gradients of the embeddings, which reentrant checkpoints need; these
    are not reentrant, and with frozen weights that would run the whole vision tower backwards.
    """
    if not enabled:
        yield
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.disable_input_require_grads()
    try:
        yield
    finally:
        model.gradient_checkpointing_disable()


@contextmanager
def watched(layers: tuple[nn.Module, ...], on_layer: Any, on_gradient: Any) -> Iterator[None]:
    """Calls `on_layer(index)` before a layer's forward pass, and `on_gradient(index)` before its
    backward pass, when the gradient of its result is there."""
    handles = []
    for index, layer in enumerate(layers):

        def before(_module: nn.Module, _inputs: Any, index: int = index) -> None:
            on_layer(index)

        def after(
            _module: nn.Module, _inputs: Any, output: torch.Tensor, index: int = index
        ) -> None:
            if output.requires_grad:
                output.register_hook(lambda _gradient: on_gradient(index))

        handles.append(layer.register_forward_pre_hook(before))
        handles.append(layer.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
