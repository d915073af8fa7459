"""Records what a run allocates, frees and computes, on the meta device, as on a CUDA card.

What the meta device does otherwise than CUDA is put right here, by rules and not by tables: the
attention kernels (`meta_kernels`), what single operations need for themselves (`scratch`), and the
operations' cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from webui.estimator.tape import ALLOCATE, CALL, COSTS, LOAD, RELEASE, SCRATCH
from webui.pipelines.live_bytes import LiveBytes
from webui.tracing.scratch import channels_last, is_channels_last, scratch_bytes

MARK = -1
"""A place in a recording, beside the kinds of events that a tape has."""


_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_backward.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention_backward.default,
}


@dataclass(slots=True)
class Event:
    """One step of a recording; `slot` names the storage, sizes are before rounding."""

    kind: int
    slot: int
    size_bytes: int = 0
    mark: str = ""
    costs: dict[str, float] = field(default_factory=dict)
    """At a MARK: the cost of the recording up to here."""


@dataclass(slots=True)
class Recording:
    """The events of one run and its total cost."""

    events: list[Event] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))


class Recorder(LiveBytes):
    """A `LiveBytes` on the meta device that keeps every event.

    Reading a scalar from a meta tensor gives 0 (False), so that checks such as `mask.all()` in
    the libraries go through.
    """

    def __init__(self) -> None:
        super().__init__(device_types=("meta",))
        self.recording = Recording()
        self._loads = 0
        self._not_counted: set[int] = set()

    def on_alloc(self, number: int, size_bytes: int) -> None:
        self.recording.events.append(Event(ALLOCATE, number, size_bytes))

    def on_free(self, number: int) -> None:
        self.recording.events.append(Event(RELEASE, number))

    def leave_out(self, module: torch.nn.Module) -> None:
        """A module whose weights come and go: they are counted as loads, not as tensors."""
        for tensor in (*module.parameters(), *module.buffers()):
            self._not_counted.add(tensor.untyped_storage()._cdata)

    def track(self, tensor: Any) -> None:
        on_meta = isinstance(tensor, torch.Tensor) and tensor.device.type == "meta"
        if on_meta and tensor.untyped_storage()._cdata not in self._not_counted:
            super().track(tensor)

    def mark(self, name: str, slot: int = -1) -> None:
        """Notes a place in the recording, and the storage that it is about."""
        recording = self.recording
        recording.events.append(Event(MARK, slot, mark=name, costs=dict(recording.costs)))

    def call(self, count: int) -> None:
        """Notes that another recording belongs here, and how much it is about."""
        self.recording.events.append(Event(CALL, -1, count))

    def slot_of(self, tensor: torch.Tensor) -> int:
        """The slot of a tensor's storage."""
        return self._live[tensor.untyped_storage()._cdata][0]

    def load_weights(self, sizes_bytes: Iterable[int]) -> list[int]:
        """Weights come to the device on the copy stream; returns their slots."""
        slots = []
        for size_bytes in sizes_bytes:
            self._loads -= 1
            self.recording.events.append(Event(LOAD, self._loads, size_bytes))
            slots.append(self._loads)
        return slots

    def drop_weights(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self.recording.events.append(Event(RELEASE, slot))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].device.type == "meta":
            return False if args[0].dtype is torch.bool else 0
        before = len(self.recording.events)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        size = scratch_bytes(func, args, result)
        if size:
            # The scratch is there while the operation runs, that is beside its result.
            self.recording.events.insert(before + 1, Event(SCRATCH, -1, size))
        self._add_cost(func, args, kwargs or {}, result)
        return result

    def execute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As on CUDA, where the meta device gives another layout or no answer.

        A convolution's result is channels-last when its image or weight is
        (aten/native/ConvUtils.h, cudnn_conv_suggest_memory_format). What was scattered by a mask
        is as many values as were there to scatter; the meta device cannot count a mask.
        """
        if func is torch.ops.aten.masked_scatter_backward.default:
            return args[0].new_empty(args[2])
        result = func(*args, **kwargs)
        if func is torch.ops.aten.convolution.default and (
            is_channels_last(args[0]) or is_channels_last(args[1])
        ):
            return torch.empty_like(result, memory_format=channels_last(result))
        return result

    def _add_cost(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        if isinstance(result, torch.Tensor) and result.device.type != "meta":
            return
        if func.is_view:
            return
        tensors = [one for one in tree_leaves((args, kwargs, result)) if torch.is_tensor(one)]
        if all(tensor.device.type != "meta" for tensor in tensors):
            return
        self.recording.costs["kernels"] += 1
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            kind = "attention" if func in _ATTENTION else "matmul"
            if func is torch.ops.aten.convolution.default:
                kind = "conv"
            self.recording.costs[kind] += count(*args, **kwargs, out_val=result)
        else:
            self.recording.costs["bytes"] += sum(
                tensor.numel() * tensor.element_size() for tensor in tensors
            )
