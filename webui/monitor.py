"""Memory of your own process, for notebooks and scripts: now, at the peak, and how to need less.

    from webui.monitor import MemoryMonitor

    monitor = MemoryMonitor()
    with monitor.watch("decode") as span:
        frames = vae.decode(latents)
    print(span)                                     # decode: peak 5.12 GiB ... in 3.1 s
    print(monitor.suggest({"model": "svd-xt"}))     # settings that fit, with the bytes they save

With an NVIDIA card and PyTorch in the process the figures are PyTorch's own and the driver's;
without, they are the process's resident memory. PyTorch is never imported here: it is asked only
where your own code has imported it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.plan import Plan
from webui.core.settings import with_defaults
from webui.core.units import GIB, format_bytes, format_seconds
from webui.estimator.target import Target
from webui.hardware import DeviceReading, detected_card, find_card, read_devices, read_host
from webui.hardware.readings import process_device_bytes
from webui.optimizer import make_plan
from webui.optimizer.candidates import own_defaults
from webui.optimizer.steps_down import StepDown, find_steps_down
from webui.service.planner import named_card
from webui.service.unsupported import unsupported

SAMPLE_S = 0.1
"""How often the driver is asked while something is watched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReading:
    """Memory at one moment."""

    source: str
    """`cuda`: PyTorch's allocator and the driver; `process`: resident memory."""
    allocated_bytes: int
    """What tensors take; without CUDA the resident memory of this process."""
    reserved_bytes: int
    """What PyTorch's allocator holds, its cache included; as allocated without CUDA."""
    used_bytes: int
    """What all programs use of the card (or of the machine)."""
    total_bytes: int
    host_bytes: int
    """Resident memory of this process."""

    @property
    def free_bytes(self) -> int:
        return max(0, self.total_bytes - self.used_bytes)

    @property
    def usage(self) -> float:
        """Used share of the card (or of the machine), 0 to 1."""
        return self.used_bytes / self.total_bytes if self.total_bytes else 0.0

    def __str__(self) -> str:
        return (
            f"{format_bytes(self.allocated_bytes)} allocated, "
            f"{format_bytes(self.reserved_bytes)} reserved, "
            f"{format_bytes(self.used_bytes)} of {format_bytes(self.total_bytes)} used "
            f"({self.usage:.0%})"
        )


@dataclass(slots=True)
class Span:
    """What was watched: complete once the `with` block is left."""

    label: str
    source: str = "process"
    allocated_bytes: int = 0
    """Peak within the block."""
    reserved_bytes: int = 0
    """Peak within the block."""
    device_bytes: int = 0
    """Most that all programs used of the card, sampled; 0 where there is none, or it is not known
    which one it is."""
    seconds: float = 0.0

    def __str__(self) -> str:
        device = f", {format_bytes(self.device_bytes)} on the card" if self.device_bytes else ""
        return (
            f"{self.label}: peak {format_bytes(self.allocated_bytes)} allocated, "
            f"{format_bytes(self.reserved_bytes)} reserved{device} in "
            f"{format_seconds(self.seconds)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What the optimizer would do for a request."""

    plan: Plan
    """The best settings that fit what is free; or the nearest requests that would."""
    suggestions: tuple[StepDown, ...]
    """Changes to what the request leaves open, with the bytes each saves, lossless first."""

    @property
    def message(self) -> str:
        """All of it in sentences."""
        found = self.plan.estimate
        verdict = "fits" if found.fits else "does not fit"
        lines = [
            f"{found.model} on {found.card}: {verdict}, {format_bytes(found.peak_device_bytes)} of "
            f"{format_bytes(found.limit_bytes)} with "
            + ", ".join(f"{name}: {choice.value}" for name, choice in self.plan.choices.items())
        ]
        lines += [f"- {one.sentence.en}" for one in self.suggestions]
        lines += [f"* {offer.text.en}" for offer in self.plan.alternatives]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.message


@dataclass(slots=True)
class MemoryMonitor:
    """Watches this process's memory.

    >>> monitor = MemoryMonitor()
    >>> before = monitor.current()
    >>> before.total_bytes > before.allocated_bytes > 0
    True
    >>> with monitor.watch("a list") as span:
    ...     held = bytearray(64 * 2**20)
    >>> span.seconds > 0 and monitor.peak() >= span.allocated_bytes > 0
    True

    What the optimizer says of a request, computed and not guessed:

    >>> advice = monitor.suggest({"model": "svd-xt", "card": "rtx-3060-12gb"})
    >>> advice.plan.fits
    True
    >>> best = advice.suggestions[0]
    >>> best.lossless and best.saved_bytes > 2**30
    True

    Args:
        device: number of the card, as PyTorch counts; its current one when left out.
    """

    device: int | None = None
    _highest: int = 0
    _open: list[Span] = field(default_factory=list)

    def current(self) -> MemoryReading:
        """Memory now."""
        host_bytes = int(psutil.Process().memory_info().rss)
        cuda = _cuda()
        if cuda is None:
            host = read_host()
            return MemoryReading(
                source="process",
                allocated_bytes=host_bytes,
                reserved_bytes=host_bytes,
                used_bytes=host.memory_bytes - host.available_bytes,
                total_bytes=host.memory_bytes,
                host_bytes=host_bytes,
            )
        free, total = cuda.mem_get_info(self.device)
        return MemoryReading(
            source="cuda",
            allocated_bytes=int(cuda.memory_allocated(self.device)),
            reserved_bytes=int(cuda.memory_reserved(self.device)),
            used_bytes=int(total - free),
            total_bytes=int(total),
            host_bytes=host_bytes,
        )

    def peak(self) -> int:
        """Most bytes that tensors took (that were resident, without CUDA) since the last reset."""
        self._fold()
        return self._highest

    def reset_peak(self) -> None:
        """The peak counts from here; blocks that are being watched keep theirs."""
        self._fold()
        self._highest = 0
        self._fold()

    @contextmanager
    def watch(self, label: str = "") -> Iterator[Span]:
        """Measures a block of code: peaks of its own, and seconds. Blocks may stand in each other.

        The peak counters of PyTorch are reset on the way; `peak` still tells the highest of all.
        """
        span = Span(label, "process" if _cuda() is None else "cuda")
        self._fold()
        self._open.append(span)
        stop = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(span, stop), daemon=True)
        sampler.start()
        began = time.perf_counter()
        try:
            yield span
        finally:
            cuda = _cuda()
            if cuda is not None and cuda.is_initialized():
                with suppress(RuntimeError):  # the block's own error is the one to be seen
                    cuda.synchronize(self.device)
            span.seconds = time.perf_counter() - began
            stop.set()
            sampler.join()
            self._fold()
            self._open.remove(span)

    def print_memory(self, label: str = "") -> MemoryReading:
        """Prints memory now, in one line, and gives it back."""
        reading = self.current()
        print(f"{label}: {reading}" if label else str(reading))
        return reading

    def suggest(self, request: Mapping[str, Any]) -> Advice:
        """What would make a request need less: the best plan for what is free now, and changes to
        what the request leaves open as it stands.

        Args:
            request: keys and `settings` as in a request file; settings that it does not name have
                the defaults of `estimate`.

        Raises:
            BadInput: a wrong key, value or card.
        """
        asked = parse_request(request, find_model)
        model = find_model(asked.model, asked.task)
        here = detected_card()
        card = named_card(asked, here)
        refusal = unsupported(asked, card)
        if refusal is not None:
            raise refusal
        limit_bytes = card.vram_bytes if asked.vram_gib is None else int(asked.vram_gib * GIB)
        if card.name == here.name and card.kind == "cuda":
            limit_bytes = min(limit_bytes, card.vram_bytes - self._others_bytes())
        target = Target(card=card, limit_bytes=limit_bytes, host=find_card("cpu"))
        own = own_defaults(model, asked, target)
        settings = with_defaults(asked.settings, model.settings, own)
        return Advice(
            plan=make_plan(model, asked, target),
            suggestions=find_steps_down(model, asked, settings, target),
        )

    def _others_bytes(self) -> int:
        """What other programs hold of the card; 0 where it is not known which it is."""
        device = self._reading()
        if device is None:
            return 0
        own = process_device_bytes(os.getpid())
        cuda = _cuda()
        if own is None:
            own = int(cuda.memory_reserved(self.device)) if cuda is not None else 0
        return max(0, device.used_bytes - own)

    def _reading(self) -> DeviceReading | None:
        """The driver's reading of the card; None where it is not known which one that is.

        PyTorch counts what CUDA_VISIBLE_DEVICES leaves, the fastest first, and the driver counts
        all cards by their place: only the UUID is the same for both.
        """
        devices = read_devices()
        cuda = _cuda()
        if cuda is None:  # nothing but the driver counts here
            return next(iter(devices[self.device or 0 :]), None)
        if not cuda.is_initialized():  # asking for the UUID would start it
            return devices[0] if len(devices) == 1 else None
        number = cuda.current_device() if self.device is None else self.device
        uuid = getattr(cuda.get_device_properties(number), "uuid", None)
        return next((one for one in devices if uuid and one.uuid == f"GPU-{uuid}"), None)

    def _fold(self) -> None:
        """Adds the peaks since the last time to whatever counts them, and starts anew."""
        cuda = _cuda()
        if cuda is not None and not cuda.is_initialized():
            allocated = reserved = 0
        elif cuda is not None:
            allocated = int(cuda.max_memory_allocated(self.device))
            reserved = int(cuda.max_memory_reserved(self.device))
            cuda.reset_peak_memory_stats(self.device)
        else:
            allocated = reserved = _take_resident_peak()
        self._highest = max(self._highest, allocated)
        for span in self._open:
            span.allocated_bytes = max(span.allocated_bytes, allocated)
            span.reserved_bytes = max(span.reserved_bytes, reserved)

    def _sample(self, span: Span, stop: threading.Event) -> None:
        """Asks the driver again and again, on a thread of its own."""
        while True:
            device = self._reading()
            if device is not None:
                span.device_bytes = max(span.device_bytes, device.used_bytes)
            elif _cuda() is None:
                return
            if stop.wait(SAMPLE_S):
                return


def print_memory(label: str = "") -> MemoryReading:
    """Prints memory now, in one line, and gives it back."""
    return MemoryMonitor().print_memory(label)


def _cuda() -> Any:
    """`torch.cuda` where the process has imported torch and a card is in use; else None."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_available() else None


def _take_resident_peak() -> int:
    """The process's highest resident memory since the last call, where the system keeps one."""
    now = int(psutil.Process().memory_info().rss)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
        # Linux: 5 resets it (man 5 proc, clear_refs).
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, StopIteration):
        return now
    return max(peak, now)
