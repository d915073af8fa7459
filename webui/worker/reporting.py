"""Follows one job: measures its phases, moves the weights between them, tells the client."""

from __future__ import annotations

import base64
import gc
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from webui.core.clip import ClipCard
from webui.core.errors import StudioError
from webui.core.model import ModelCard
from webui.core.receipt import Measurement
from webui.core.text import Text
from webui.pipelines.preview import preview_jpeg
from webui.worker.device import Device
from webui.worker.measure import Meter
from webui.worker.protocol import Channel

PREVIEW_EVERY_S = 0.5
PROGRESS_EVERY_S = 0.1


class JobReport:
    """How far one job is, as a family's `run` tells it (`webui.pipelines.running.Report`).

    Args:
        job_id: of the client.
        channel: takes the events, and knows whether the job is cancelled.
        device: where it runs.
        preview: send previews of latents.
    """

    def __init__(self, job_id: str, channel: Channel, device: Device, preview: bool) -> None:
        self.id = job_id
        self.phase = "loading"
        self.warm = False
        self.load_seconds = 0.0
        self.waits: dict[str, float] = {}
        """Seconds that the model waited, by what for: `reading`, `writing`."""
        self._channel = channel
        self._device = device
        self._preview = preview
        self._card: ModelCard | None = None
        self._placement: Any = None
        self._meter: Meter | None = None
        self._told = self._shown = 0.0

    def recording(self) -> AbstractContextManager[None]:
        """Around loading and running: for those who write down more than figures."""
        return nullcontext()

    def attach(self, card: ModelCard, placement: Any, modules: Iterable[nn.Module]) -> None:
        """The pipeline is loaded: from here on phases are measured."""
        self._card, self._placement = card, placement
        self._meter = Meter(self._device, modules)
        self._shown = time.monotonic()
        _set_aside()

    def enter(self, phase: str) -> None:
        """A phase without the model: loading, saving. What is told of the memory is still that of
        the phase before."""
        self._channel.emit("phase", id=self.id, name=phase, memory=self._memory())
        self.phase = phase

    def begin(self, phase: str, continues: bool = False) -> None:
        assert self._meter is not None
        if phase != self.phase:
            self.enter(phase)
        self._meter.begin(phase)
        if not continues:
            self._placement.enter_phase(phase, after_leaving=self._device.empty_cache)
            self._meter.ready()

    def warmed_up(self) -> None:
        assert self._meter is not None
        self._meter.forget_seconds()
        _set_aside()  # what the first pass left: compiled code, an optimizer's state

    def end(self) -> None:
        """The last phase is over."""
        if self._meter is not None:
            self._meter.end()

    def check(self) -> None:
        self._channel.check_cancel(self.id)

    def claim(self) -> list[int]:
        """The numbers of more pieces for this job; none where none are left."""
        return self._channel.claim(self.id)

    def step(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self._told >= PROGRESS_EVERY_S:
            self._told = time.monotonic()
            self._emit_step(done, total)

    def page(self, number: int, error: StudioError | None) -> None:
        """A page is read and kept, or has failed for itself."""
        told = error.to_json() if error else None
        self._channel.emit("page", id=self.id, number=number, error=told)

    def frames(self, count: int) -> None:
        """So many more frames are made."""
        if count:
            self._channel.emit("frames", id=self.id, count=count)

    def piece(self) -> None:
        """A segment is made."""
        self._channel.emit("piece", id=self.id)

    def waited(self, what: str, seconds: float) -> None:
        """The model waited for frames to come, or to be taken."""
        self.waits[what] = self.waits.get(what, 0.0) + seconds

    def tell(self, text: Text) -> None:
        """Something that the run has changed by itself, for the user."""
        self._channel.emit("told", id=self.id, text=text.to_json())

    def picture(self, jpeg: bytes) -> None:
        """The newest picture of the result."""
        late = time.monotonic() - self._shown >= PREVIEW_EVERY_S
        if self._preview and late:
            self._shown = time.monotonic()
            self._channel.emit("preview", id=self.id, jpeg=base64.b64encode(jpeg).decode())

    def latent_step(self, done: int, total: int, latents: torch.Tensor) -> None:
        self._emit_step(done, total)
        late = time.monotonic() - self._shown >= PREVIEW_EVERY_S
        if self._preview and done < total and late and isinstance(self._card, ClipCard):
            jpeg = base64.b64encode(preview_jpeg(latents, self._card)).decode()
            self._channel.emit("preview", id=self.id, jpeg=jpeg)
            self._shown = time.monotonic()

    def _emit_step(self, done: int, total: int) -> None:
        self._channel.emit(
            "step", id=self.id, phase=self.phase, step=done, steps=total, memory=self._memory()
        )

    def _memory(self) -> dict[str, int]:
        return self._meter.now() if self._meter is not None else {}

    def measurement(self) -> Measurement | None:
        """The figures so far; None before the first phase."""
        return self._meter.measurement(self.load_seconds) if self._meter else None


def _set_aside() -> None:
    """What is there now is left out when garbage is looked for, until the run ends (`Runner.run`):
    at every phase that took 0.3 s, with half a million objects of the libraries. On an H200 a third
    of the time of FlashVSR's small frames, 2026-11-28."""
    gc.collect()
    gc.freeze()
