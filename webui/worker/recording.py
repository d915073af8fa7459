"""Records a profiled run: what each component and each block takes, event by event.

Nothing here waits for the device: the caching allocator counts on the host, when memory is asked
for, so the times of events are the host's too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from webui.core.text import Text
from webui.pipelines.live_bytes import round_bytes
from webui.pipelines.modules import owned_tensors
from webui.worker.device import Device
from webui.worker.measure import Counter, CpuCounter, Reading, new_counter

SCHEMA = "vram-studio/memory-events"
VERSION = 1
FILE = "memory_events.json"
MAX_EVENTS = 20_000
"""Kept in the file; beyond, only the many are dropped, and peaks go on being followed."""
_MANY = ("forward", "block", "step")
"""Events that grow with the steps; phases and what comes and goes are few, and sums need them."""
LOADING = "loading"
_ABOUT = {
    "cuda": Text(
        "Bytes that PyTorch's caching allocator counts; times are the host's.",
        "PyTorch 缓存分配器统计的字节数；时间以主机为准。",
    ),
    "cpu": Text(
        "Bytes of live tensors in host memory, in place of a card's allocator: nothing is reserved "
        "there, so there is no fragmentation.",
        "以主机内存中存活张量的字节数代替显卡分配器的统计：没有预留显存，因此没有碎片率。",
    ),
}


@dataclass(slots=True)
class _Component:
    """One component's base memory."""

    name: str
    mode: str
    """As `Placement` names it: always, phase, leaf, block, host."""
    module: nn.Module
    parameters: int
    storage_bytes: int
    block_bytes: int
    """The storages as an allocator hands them out, each in whole blocks of 512 bytes."""
    dtypes: dict[str, int]
    """Bytes by number format."""
    arrival: int = 0
    """Components that were loaded as one arrive together."""
    increment_bytes: int | None = None
    """Growth of allocated bytes when it came to the device; None while it never did."""

    def to_json(self) -> dict[str, Any]:
        names = ("name", "mode", "parameters", "storage_bytes", "block_bytes", "dtypes",
                 "arrival", "increment_bytes")  # fmt: skip
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True)
class _Frame:
    """A forward pass under way."""

    module: nn.Module
    stage: str
    kind: str
    before_bytes: int
    started_s: float
    peak_bytes: int = 0


@dataclass(slots=True)
class _Peak:
    allocated_bytes: int = 0
    reserved_bytes: int = 0
    t_s: float = 0.0
    phase: str = ""
    stage: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class _State:
    """Where the run is."""

    phase: str = LOADING
    step: int = 0
    active: bool = True
    """Whether this step is recorded (`log_interval`)."""
    arrival: int = 0
    seen: set[str] = field(default_factory=set)


class Recorder:
    """Collects the events of one run; a `Watch` of its placement.

    Args:
        device: where it runs.
        log_interval: record the inside of every so many steps; phases, peaks and components
            always.
    """

    def __init__(self, device: Device, log_interval: int = 1) -> None:
        self._device = device
        self._interval = max(1, log_interval)
        self._started = time.perf_counter()
        self._created = datetime.now(UTC).isoformat(timespec="seconds")
        # Loading has no cap of its own, and what the device has now is the job's before this one.
        self._counter: Counter = new_counter(device, limit_bytes=None)
        self._components: list[_Component] = []
        self._events: list[dict[str, Any]] = []
        self._dropped = 0
        self._frames: list[_Frame] = []
        self._handles: list[Any] = []
        self._peak = _Peak()
        self._state = _State()
        self._loading = True
        self._phase_peak = 0
        self._counter.start()
        self._look = self._counter.fold()
        self._mark = self._look.allocated_bytes
        self._event("start")

    @property
    def phase_peak_bytes(self) -> int:
        """The peak of the running phase so far."""
        return self._phase_peak

    # Loading, and what comes and goes (webui.pipelines.placement.Watch)

    def component_begins(self) -> None:
        """The next component is about to be loaded."""
        self._state.arrival += 1
        self._mark = self._fold().allocated_bytes

    def placed(self, component: str, module: nn.Module, mode: str) -> None:
        """A component stands where it waits."""
        if isinstance(self._counter, CpuCounter):
            self._counter.track(module)
        now = self._fold().allocated_bytes
        found = _describe(component, module, mode)
        found.arrival = self._state.arrival
        if mode == "always":
            found.increment_bytes = now - self._mark
        self._mark = now
        self._components.append(found)
        self._event("component", component, increment_bytes=found.increment_bytes, mode=mode)

    def moving(self, component: str) -> None:
        """A component is about to be brought or taken away."""
        self._mark = self._fold().allocated_bytes

    def moved(self, component: str, entered: bool) -> None:
        """It is there, or gone."""
        change = self._fold().allocated_bytes - self._mark
        for known in self._components:
            if entered and known.name == component and known.increment_bytes is None:
                known.increment_bytes = change
        self._event("enter" if entered else "leave", component, change_bytes=change)

    # The run

    def attach(self, counter: Counter) -> None:
        """The pipeline is loaded; from here on the meter's own counter is read."""
        self._event("loaded")
        self._counter.stop()
        self._counter, self._loading = counter, False
        known: set[int] = set()
        for component in self._components:
            for stage, kind, module in stages(component.name, component.module):
                if id(module) not in known:
                    known.add(id(module))
                    self._hook(stage, kind, module)

    def phase_comes(self, name: str) -> None:
        """A phase is next: what its weights need now comes and goes for it."""
        self._frames.clear()
        self._state.phase, self._state.step, self._state.active = name, 0, True
        if name in self._state.seen:  # a pass of training that comes again
            self._state.active = False
        self._state.seen.add(name)
        self._phase_peak = 0

    def phase_begins(self) -> None:
        """Its weights are in place: this is what is there before its forward passes."""
        self._event("phase", self._state.phase)

    def phase_ends(self) -> None:
        """The work of the running phase is done; nothing was given back yet."""
        self._frames.clear()
        self._state.active = True
        self._fold()  # the event tells the peak
        self._event("phase_end", self._state.phase, peak_bytes=self._phase_peak)

    def step(self, done: int, total: int, every: bool = False) -> None:
        """So many steps of the phase are done.

        Args:
            done: steps that are over.
            total: all of them.
            every: record all steps, whatever `log_interval` says.
        """
        if self._state.active:
            self._event("step", self._state.phase)
        self._state.step = done
        self._state.active = every or done % self._interval == 0 or done == total - 1

    def write(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Ends the recording and writes `memory_events.json`; the hooks are gone afterwards."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        try:
            self._event("end")
        finally:
            if self._loading:  # later the counter is the meter's, which stops it
                self._counter.stop()
        data = {
            "schema": SCHEMA,
            "version": VERSION,
            **about,
            "created": self._created,
            "source": self._device.kind,
            "device": self._device.name,
            "about": _ABOUT[self._device.kind].to_json(),
            "log_interval": self._interval,
            "components": [part.to_json() for part in self._components],
            "peak": self._peak.to_json(),
            "dropped_events": self._dropped,
            "events": self._events,
        }
        self._components.clear()
        part = folder / f".{FILE}.part"
        try:
            part.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
            part.replace(folder / FILE)
        finally:
            part.unlink(missing_ok=True)

    def _hook(self, stage: str, kind: str, module: nn.Module) -> None:
        def before(*_: Any) -> None:
            if self._state.active:
                before_bytes = self._fold().allocated_bytes
                self._frames.append(_Frame(module, stage, kind, before_bytes, self._now()))

        def after(*_: Any) -> None:
            if any(frame.module is module for frame in self._frames):
                self._leave(module)

        self._handles.append(module.register_forward_pre_hook(before))
        # Also of a pass that raised, or the frames inside would be taken for the next one's.
        self._handles.append(module.register_forward_hook(after, always_call=True))

    def _leave(self, module: nn.Module) -> None:
        self._fold()
        while True:
            frame = self._frames.pop()
            if frame.module is module:
                break
        self._note(
            frame.kind,
            frame.stage,
            before_bytes=frame.before_bytes,
            peak_bytes=frame.peak_bytes,
            seconds=round(self._now() - frame.started_s, 6),
        )

    def _fold(self) -> Reading:
        """Looks, and gives the peak since the last look to all passes under way, and to the run."""
        self._look = self._counter.fold()
        peak = self._look.peak_bytes
        if self._loading and self._device.kind == "cpu":
            # Copies that reading files makes are in host memory on a machine with a card too:
            # they say nothing of a device.
            peak = self._look.allocated_bytes
        for frame in self._frames:
            frame.peak_bytes = max(frame.peak_bytes, peak)
        self._phase_peak = max(self._phase_peak, peak)
        if peak > self._peak.allocated_bytes:
            self._peak = _Peak(
                peak,
                self._look.reserved_bytes,
                round(self._now(), 6),
                self._state.phase,
                self._frames[-1].stage if self._frames else self._state.phase,
            )
        return self._look

    def _event(self, kind: str, name: str = "", **values: Any) -> None:
        self._fold()
        self._note(kind, name, **values)

    def _note(self, kind: str, name: str, **values: Any) -> None:
        """Writes an event down as it was at the newest look."""
        if kind in _MANY and len(self._events) >= MAX_EVENTS:
            self._dropped += 1
            return
        self._events.append(
            {
                "t_s": round(self._now(), 6),
                "kind": kind,
                "name": name,
                "phase": self._state.phase,
                "step": self._state.step,
                "allocated_bytes": self._look.allocated_bytes,
                "reserved_bytes": self._look.reserved_bytes,
                **values,
            }
        )

    def _now(self) -> float:
        return time.perf_counter() - self._started


def stages(component: str, module: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """What is watched of a component: itself, its large parts, and its blocks.

    Blocks are the members of its outermost lists (`transformer.blocks.0`, ...).

    Yields:
        name, kind (`forward` or `block`), module.
    """
    yield component, "forward", module
    for name, child in module.named_children():
        if not isinstance(child, nn.ModuleList) and any(True for _ in child.children()):
            yield f"{component}.{name}", "forward", child
    yield from _blocks(component, module)


def _blocks(prefix: str, module: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            for index, block in enumerate(child):
                yield f"{prefix}.{name}.{index}", "block", block
        else:
            yield from _blocks(f"{prefix}.{name}", child)


def _describe(component: str, module: nn.Module, mode: str) -> _Component:
    storages: dict[int, int] = {}
    dtypes: dict[str, int] = {}
    for tensor in owned_tensors(module):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
        name = str(tensor.dtype).removeprefix("torch.")
        dtypes[name] = dtypes.get(name, 0) + tensor.nbytes
    return _Component(
        name=component,
        mode=mode,
        module=module,
        parameters=sum(_values(parameter) for parameter in module.parameters()),
        storage_bytes=sum(storages.values()),
        block_bytes=sum(map(round_bytes, storages.values())),
        dtypes=dtypes,
    )


def _values(parameter: torch.Tensor) -> int:
    """How many values a parameter stands for: packed ones keep their true shape beside them."""
    state = getattr(parameter, "quant_state", None)
    shape = getattr(state, "shape", None)
    return int(torch.Size(shape).numel()) if shape is not None else parameter.numel()
