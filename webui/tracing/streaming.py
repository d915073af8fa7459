"""Group offloading on the meta device: the library's own hooks, with recorded transfers.

diffusers decides which weights come and go when (hooks/group_offloading.py, prefetching
included); only the copy itself is replaced, because there is nothing to copy on meta.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading, group_offloading
from torch import nn

from webui.tracing.recorder import Recorder


class _NoStream:
    def synchronize(self) -> None:
        """Nothing runs on meta, so there is nothing to wait for."""


class _MetaBackend:
    """Stands in for a device with streams."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    Stream = _NoStream


@contextmanager
def recorded_streaming(
    module: nn.Module, level: str, recorder: Recorder, on_host: tuple[str, ...] = ()
) -> Iterator[None]:
    """Inside, the module's weights come and go in `recorder` as with a copy stream on CUDA.

    Args:
        module: on meta; its weights must not be tracked as resident.
        level: `leaf` or `block`.
        recorder: gets the transfers.
        on_host: arguments whose values the run reads, so that they cannot go to meta.
    """
    on_card: dict[int, list[int]] = {}

    def onload(group: Any) -> None:
        if id(group) not in on_card:
            on_card[id(group)] = recorder.load_weights(_tensors(group))

    def offload(group: Any) -> None:
        recorder.drop_weights(on_card.pop(id(group), ()))

    patched: dict[tuple[Any, str], Any] = {
        (group_offloading, "TorchDeviceBackend"): _MetaBackend,
        (group_offloading.ModuleGroup, "onload_"): onload,
        (group_offloading.ModuleGroup, "offload_"): offload,
        (group_offloading.ModuleGroup, "_init_cpu_param_dict"): lambda group: {},
    }
    originals = {where: getattr(*where) for where in patched}
    try:
        for (owner, name), value in patched.items():
            setattr(owner, name, value)
        apply_group_offloading(
            module,
            onload_device=torch.device("meta"),
            # Another name for meta: a hook that finds weights on the offload device fetches them.
            offload_device=torch.device("meta", 1),
            offload_type=f"{level}_level",
            num_blocks_per_group=1 if level == "block" else None,
            use_stream=True,
            exclude_kwargs=list(on_host),
        )
        yield
    finally:
        for (owner, name), value in originals.items():
            setattr(owner, name, value)


def _tensors(group: Any) -> list[torch.Tensor]:
    """The tensors of a group, each once."""
    tensors: dict[int, torch.Tensor] = {}
    for module in group.modules:
        for tensor in (*module.parameters(), *module.buffers()):
            tensors[id(tensor)] = tensor
    for tensor in (*group.parameters, *group.buffers):
        tensors[id(tensor)] = tensor
    return list(tensors.values())
