"""Records what a run allocates, frees and computes, on the meta device, as on a CUDA card.

What the meta device does otherwise than CUDA is put right here, by rules and not by tables: the
attention kernels (`meta_kernels`), what single operations need for themselves (`scratch`), and the
operations' cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from webui.estimator.tape import ALLOCATE, CALL, COSTS, LOAD, RELEASE, SCRATCH
from webui.pipelines.live_bytes import LiveBytes, tensors_in
from webui.tracing.quantized import parts_of_operation, product_flops
from webui.tracing.remembered import Remembered, asked_of
from webui.tracing.scratch import PICKS, channels_last, is_channels_last, is_mask, scratch_bytes

MARK = -1
"""A place in a recording, beside the kinds of events that a tape has."""


_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_backward.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention_backward.default,
}


_PRODUCTS = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.default,
    torch.ops.aten.linear.default,
    torch.ops.aten._scaled_mm.default,
}
"""Operations of cuBLAS, which has a workspace."""


@dataclass(slots=True)
class Event:
    """One step of a recording; `slot` names the storage, sizes are before rounding."""

    kind: int
    slot: int
    size_bytes: int = 0
    mark: str = ""
    """Of a MARK its name; of others what is noted of the weight that they are about."""
    costs: dict[str, float] = field(default_factory=dict)
    """At a MARK: the cost of the recording up to here."""
    product: bool = False
    """It makes the result of a matrix product."""


@dataclass(slots=True)
class Recording:
    """The events of one run and its total cost."""

    events: list[Event] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))


class Recorder(LiveBytes):
    """A `LiveBytes` on the meta device that keeps every event.

    Reading a number from a meta tensor gives `number`, reading a truth gives `truth`: checks such
    as `mask.all()` in the libraries go through, and whoever records says which way.
    """

    number = 0.0
    """What a value that the run compares is."""
    truth = False
    """What a check in the run comes to."""
    remembered = Remembered()
    """Of all recordings: what an operation makes and costs is the same in each."""
    true_values = 0
    """How many values of a mask are true, where a run picks those."""
    mark_of: Callable[[Any], str] = staticmethod(lambda _: "")
    """What is noted of a weight that comes to the device."""

    def __init__(self) -> None:
        super().__init__(device_types=("meta",))
        self.recording = Recording()
        self._loads = 0
        self._not_counted: set[int] = set()
        self._asked: Any = None
        """Of the operation that runs: what `remembered` knows it by."""

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

    def load_weights(self, weights: Iterable[torch.Tensor]) -> list[int]:
        """Weights come to the device on the copy stream; returns their slots."""
        slots = []
        for weight in weights:
            self._loads -= 1
            event = Event(LOAD, self._loads, weight.nbytes, mark=self.mark_of(weight))
            self.recording.events.append(event)
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
            if args[0].dtype is torch.bool:
                return self.truth
            return self.number if args[0].dtype.is_floating_point else 0
        in_parts = parts_of_operation(func, args)
        if in_parts is not None:
            with self:
                return in_parts(*args, **(kwargs or {}))
        before = len(self.recording.events)
        self._asked = None
        result = super().__torch_dispatch__(func, types, args, kwargs)
        size = scratch_bytes(func, args, result, self.true_values)
        if size:
            # The scratch is there while the operation runs, that is beside its result.
            self.recording.events.insert(before + 1, Event(SCRATCH, -1, size))
        if func in _PRODUCTS and len(self.recording.events) > before:
            made = self.recording.events[before]
            made.product = made.kind == ALLOCATE
        self._add_cost(func, args, kwargs or {}, result)
        return result

    def execute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As on CUDA, where the meta device does otherwise or cannot.

        A convolution's result is channels-last when its image or weight is
        (aten/native/ConvUtils.h, cudnn_conv_suggest_memory_format); values picked by a mask are
        as many as `true_values`, and what was scattered by one as many as were there to scatter;
        what goes to the host leaves the recording.
        """
        if func in PICKS and any(is_mask(index) for index in args[1]):
            args = (args[0], self._places(args[1]), *args[2:])
        elif func is torch.ops.aten.masked_scatter_backward.default:
            return args[0].new_empty(args[2])
        elif _goes_to_host(func, args, kwargs):
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        self._asked = asked_of(func, args, kwargs)
        result = self.remembered.run(self._asked, func, args, kwargs)
        if func is torch.ops.aten.convolution.default and (
            is_channels_last(args[0]) or is_channels_last(args[1])
        ):
            return torch.empty_like(result, memory_format=channels_last(result))
        return result

    def _places(self, indices: Iterable[Any]) -> list[Any]:
        """Masks among the indices as the places of their true values."""
        places: list[Any] = []
        for index in indices:
            count = index.ndim if is_mask(index) else 1
            known = torch.empty(self.true_values, dtype=torch.int64, device="meta")
            places += [known] * count if is_mask(index) else [index]
        return places

    def _add_cost(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        known = self.remembered.costs
        if self._asked in known:
            cost = known[self._asked]
        else:
            cost = _cost(func, args, kwargs, result)
            if self._asked is not None:
                known[self._asked] = cost
        if cost is not None:
            self.recording.costs["kernels"] += 1
            self.recording.costs[cost[0]] += cost[1]


def _cost(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> tuple[str, float] | None:
    """The kind of an operation's cost and how much, or None for what no kernel does."""
    if func.is_view:
        return None
    made = list(tensors_in(result))
    if made and not any(tensor.is_meta for tensor in made):
        return None
    # Of a table of embeddings only the rows are read that come out.
    read = args[1:] if func is torch.ops.aten.embedding.default else args
    tensors = [*tensors_in((read, kwargs)), *made]
    if not any(tensor.is_meta for tensor in tensors):
        return None
    flops = product_flops(func, args)
    if flops is not None:
        return "matmul", flops
    count = flop_registry.get(func.overloadpacket)
    if count is None:
        return "bytes", sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    kind = "attention" if func in _ATTENTION else "matmul"
    if func is torch.ops.aten.convolution.default:
        kind = "conv"
    return kind, count(*args, **kwargs, out_val=result)


def _goes_to_host(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    to = kwargs.get("device")
    if func is not torch.ops.aten._to_copy.default or to is None or not args[0].is_meta:
        return False
    return torch.device(to).type == "cpu"
