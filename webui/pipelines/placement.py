"""Moves components between host and card: whole, or streamed through the library's hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import torch
from torch import nn

from webui.pipelines.modules import owned_tensors, to_channels_last
from webui.pipelines.pinned import move_to_pinned


class Watch(Protocol):
    """Who is told where components are: the profiler."""

    def placed(self, component: str, module: nn.Module, mode: str) -> None:
        """A freshly loaded component stands where it waits."""

    def moving(self, component: str) -> None:
        """A component is about to be brought to the card, or taken off it."""

    def moved(self, component: str, entered: bool) -> None:
        """It is there, or it is gone."""


_WATCH: ContextVar[Watch | None] = ContextVar("placement_watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Inside, placements that are made tell `watch` of their components, until told otherwise."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


class Placement:
    """Moves components between host and card.

    Swapped components keep their master copy in (pinned) host memory: going to the card copies,
    leaving it only drops the copy.

    Args:
        modes: how each component lives on the card: `always`; `phase`, only in its own phases;
            `leaf` or `block`, streamed; `host`, computes on the processor; `absent`.
        phases: the phases that need a component.
        device: where the run is.
        channels_last: store the VAE's convolution weights channels-last (on a GPU).
    """

    def __init__(
        self,
        modes: Mapping[str, str],
        phases: Mapping[str, tuple[str, ...]],
        device: torch.device,
        channels_last: bool = False,
    ) -> None:
        self.device = device
        self.modes = dict(modes)
        self._phases = phases
        self._channels_last = channels_last and device.type == "cuda"
        self._swapped: dict[str, _Swapped] = {}
        self._streamed: dict[str, nn.Module] = {}
        self.watch = _WATCH.get()
        """Told of every component that comes or goes; None when nobody profiles."""

    def keeps_master(self, component: str) -> bool:
        """Whether the component's weights live in host memory and are copied to the card."""
        return self.modes[component] in ("phase", "leaf", "block")

    def add(self, component: str, module: nn.Module) -> nn.Module:
        """Puts a freshly loaded component where it waits; streaming hooks are set up here."""
        mode = self.modes[component]
        if component == "vae" and self._channels_last:
            to_channels_last(module)
        if mode == "always":
            for tensor in owned_tensors(module):
                tensor.data = _own_storage(tensor.data.to(self.device))
        elif self.keeps_master(component):
            if self.device.type == "cuda":
                move_to_pinned(list(owned_tensors(module)))
            else:
                for tensor in owned_tensors(module):
                    tensor.data = _own_storage(tensor.data.cpu())
        if mode == "phase":
            self._swapped[component] = _Swapped(module, self.device)
        elif mode in ("leaf", "block"):
            self._stream(module, mode)
            self._streamed[component] = module
        if self.watch is not None:
            self.watch.placed(component, module, mode)
        return module

    def _stream(self, module: nn.Module, mode: str) -> None:
        # Seconds to import, which models that are never streamed need not wait for.
        from diffusers.hooks import apply_group_offloading

        with_stream = self.device.type == "cuda"
        apply_group_offloading(
            module,
            onload_device=self.device,
            offload_device=torch.device("cpu"),
            offload_type=f"{mode}_level",
            num_blocks_per_group=1 if mode == "block" else None,
            use_stream=with_stream,
            # Blocks freed by the side stream would wait in the cache: 4.0 instead of 2.6 GiB
            # reserved on Wan 1.3B.
            record_stream=False,
        )

    def enter_phase(self, phase: str, after_leaving: Callable[[], None] | None = None) -> None:
        """Takes the other phases' components off the card and brings this one's.

        Args:
            phase: one of the family's; any other name brings nothing.
            after_leaving: called when the old weights are gone and the new ones not yet there
                (the worker empties the allocator's cache then).
        """
        for component, swapped in self._swapped.items():
            if phase not in self._phases[component]:
                self._move(component, swapped, enters=False)
        if after_leaving:
            after_leaving()
        for component, swapped in self._swapped.items():
            if phase in self._phases[component]:
                self._move(component, swapped, enters=True)

    def _move(self, component: str, swapped: _Swapped, enters: bool) -> None:
        move = swapped.to_device if enters else swapped.to_host
        if self.watch is None or swapped.on_device == enters:
            move()
            return
        self.watch.moving(component)
        move()
        self.watch.moved(component, enters)

    def leave(self) -> None:
        """Takes every swapped component off the card."""
        self.enter_phase("")

    def recover(self) -> None:
        """Brings streamed components back to rest after a forward pass that was cut short.

        The first pass records the order of the layers; what it recorded of a broken pass would
        be wrong, and layers fetched ahead would stay on the card.
        """
        for module in self._streamed.values():
            for part in module.modules():
                registry = getattr(part, "_diffusers_hook", None)
                if registry is None:
                    continue
                lazy = registry.get_hook("lazy_prefetch_group_offloading")
                if lazy is not None:
                    lazy.execution_order.clear()
                hook = registry.get_hook("group_offloading")
                if hook is not None:
                    if hook.group.stream is not None:
                        hook.group.stream.synchronize()
                    hook.group.offload_()


class _Swapped:
    """A component whose parameters point either at the host's master copy or at the card's."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._device = device
        self.on_device = False
        self._masters = [(tensor, tensor.data) for tensor in owned_tensors(module)]

    def to_device(self) -> None:
        if self.on_device:
            return
        # Marked first: if the card runs out half way, to_host must still drop what arrived.
        self.on_device = True
        for tensor, master in self._masters:
            tensor.data = master.to(self._device, non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()

    def to_host(self) -> None:
        if self.on_device:
            for tensor, master in self._masters:
                tensor.data = master
            self.on_device = False


def _own_storage(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in a storage of its own: files are mapped as one storage for all tensors."""
    if tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size():
        return tensor
    return tensor.clone()
