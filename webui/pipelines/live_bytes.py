"""Counts the bytes of live tensors: the measurement on a processor, the base of every trace.

A dispatch mode sees each tensor that an operation makes. Its storage is counted once, rounded
up as PyTorch's allocators do, until the storage dies.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from webui.pipelines.modules import owned_tensors

ROUND_BYTES = 512
"""Block granularity of the CUDA caching allocator (c10/cuda/CUDACachingAllocator.cpp)."""


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors among an operation's arguments or results, in order.

    PyTorch's `tree_leaves` knows more containers than operations have, and took a sixth of a
    trace's time."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_in(part)


def round_bytes(count_bytes: int) -> int:
    return -(-count_bytes // ROUND_BYTES) * ROUND_BYTES


class CapReached(torch.OutOfMemoryError):
    """Live tensors passed the cap: what an allocator with a limit does on a GPU."""

    def __init__(self, wanted_bytes: int, in_use_bytes: int) -> None:
        super().__init__(
            f"Out of memory under the processor's cap. Tried to allocate {wanted_bytes} bytes, "
            f"with {in_use_bytes} bytes in use."
        )
        self.wanted_bytes = wanted_bytes
        self.in_use_bytes = in_use_bytes


class LiveBytes(TorchDispatchMode):
    """Live and peak bytes of tensors on `device_types` made inside the `with` block.

    Tensors that exist before are counted once they are passed to `track`.

    Args:
        device_types: of the tensors that count.
        limit_bytes: where live bytes pass this, the operation that made them so raises
            `CapReached`; None for no limit.
    """

    supports_higher_order_operators = True
    """Flex attention is one: it runs, and what it gives is counted."""

    def __init__(
        self, device_types: tuple[str, ...] = ("cpu",), limit_bytes: int | None = None
    ) -> None:
        super().__init__()
        self.device_types = device_types
        self.limit_bytes = limit_bytes
        self.current_bytes = 0
        self.peak_bytes = 0
        self._live: dict[int, tuple[int, int, weakref.ref[Any]]] = {}
        self._next_id = 0

    def reset_peak(self) -> None:
        self.peak_bytes = self.current_bytes

    def track(self, tensor: Any) -> None:
        """Counts the tensor's storage from now until it dies; a known storage is left alone."""
        if not isinstance(tensor, torch.Tensor) or tensor.device.type not in self.device_types:
            return
        storage = tensor.untyped_storage()
        size = round_bytes(storage.nbytes())
        key = storage._cdata
        if size == 0 or key in self._live:
            return
        number = self._next_id
        self._next_id += 1

        def on_death(_: Any, key: int = key) -> None:
            self._forget(key)

        self._live[key] = (number, size, weakref.ref(storage, on_death))
        self.current_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.current_bytes)
        self.on_alloc(number, storage.nbytes())
        if self.limit_bytes is not None and self.current_bytes > self.limit_bytes:
            raise CapReached(size, self.current_bytes - size)

    def track_module(self, module: torch.nn.Module) -> None:
        """Counts what a module owns; tied tensors once."""
        for tensor in owned_tensors(module):
            self.track(tensor)

    def _forget(self, key: int) -> None:
        entry = self._live.pop(key, None)
        if entry is not None:
            self.current_bytes -= entry[1]
            self.on_free(entry[0])

    def execute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs one operation; recorders may put another result in its place."""
        return func(*args, **kwargs)

    def on_alloc(self, number: int, size_bytes: int) -> None:
        """For recorders: storage `number` came to life, `size_bytes` before rounding."""

    def on_free(self, number: int) -> None:
        """For recorders: storage `number` died."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = self.execute(func, args, kwargs or {})
        if isinstance(result, torch.Tensor):
            self.track(result)
        else:
            for tensor in tensors_in(result):
                self.track(tensor)
        return result
