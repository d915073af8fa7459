"""Runs jobs: keeps the pipeline warm, goes through the phases, reports and cleans up."""

from __future__ import annotations

import base64
import gc
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import torch

from webui.catalogue import find_model
from webui.core.errors import StudioError
from webui.core.model import ModelCard
from webui.core.request import Request, parse_request
from webui.pipelines import load_family
from webui.worker.device import Device, read_versions
from webui.worker.failures import is_out_of_memory, release_frames, to_studio_error
from webui.worker.measure import Meter
from webui.worker.protocol import Channel

LOAD_SETTINGS = (
    "precision",
    "offload",
    "text_encoder",
    "image_encoder",
    "vae_precision",
    "channels_last",
)
"""Settings that are part of the loaded pipeline; the others change between runs for nothing."""
PREVIEW_EVERY_S = 0.5
PROGRESS_EVERY_S = 0.1


class Runner:
    """The job loop's state: the device and the pipeline that is loaded."""

    def __init__(self, device: Device, channel: Channel) -> None:
        self._device = device
        self._channel = channel
        self._versions = read_versions()
        self._key: tuple[Any, ...] | None = None
        self._pipe: Any = None

    def run(self, job: Mapping[str, Any]) -> bool:
        """Runs one job and reports its end, whatever it is.

        Returns:
            False when the device is broken and the process should be replaced.
        """
        job_id = str(job.get("id", ""))
        state = _Job(job_id)
        error: BaseException | None = None
        try:
            outputs = self._run(job, state)
        except Exception as raised:
            error = raised
        self._channel.forget(job_id)
        common = {"id": job_id, "versions": self._versions, "device": self._device.name}
        if error is None:
            measurement = state.measurement()
            self._leave()
            self._channel.emit(
                "result",
                measurement=measurement.to_json() if measurement else None,
                outputs=outputs,
                warm=state.warm,
                **common,
            )
            return True
        limit = job.get("limit_bytes")
        told = to_studio_error(error, state.phase, limit, self._in_use_bytes())
        if not isinstance(error, StudioError):
            traceback.print_exception(error, file=sys.stderr)
        memory = is_out_of_memory(error)
        release_frames(error)
        del error
        healthy = self._device.healthy()
        measurement = state.measurement() if healthy else None
        if healthy:
            self._after_failure(keep=type(told).__name__ == "Cancelled" and not memory)
        self._channel.emit(
            "failed",
            error=told.to_json(),
            measurement=measurement.to_json() if measurement else None,
            **common,
        )
        return healthy

    def unload(self) -> None:
        """Drops the pipeline and gives its memory back."""
        self._key = None
        self._pipe = None
        gc.collect()
        self._device.empty_cache()

    def empty_cache(self) -> None:
        self._device.empty_cache()

    def _run(self, job: Mapping[str, Any], state: _Job) -> list[str]:
        request = parse_request(job["request"], find_model)
        settings = dict(job["settings"])
        card = find_model(request.model)
        if request.image:  # its copy in the run's own folder
            picture = Path(job["output_dir"]) / Path(request.image).name
            request = request.with_changes(image=str(picture))
        family = load_family(card.family)
        check = lambda: self._channel.check_cancel(state.id)  # noqa: E731
        check()
        self._load(family, card, settings, job, state)
        check()
        frames = self._phases(family, card, request, settings, job, state, check)
        if job["weights"]["kind"] == "random":
            return []  # noise: it was run for its memory and its time
        from webui.worker.video import save_outputs

        self._enter(state, "save")
        return save_outputs(frames, request.fps, Path(job["output_dir"]))

    def _load(
        self,
        family: ModuleType,
        card: ModelCard,
        settings: Mapping[str, Any],
        job: Mapping[str, Any],
        state: _Job,
    ) -> None:
        """Makes sure that the right pipeline is loaded; counts the seconds if it was not."""
        weights = job["weights"]
        key = (card.name, weights["kind"], weights.get("folder", ""), *self._load_key(settings))
        state.warm = key == self._key
        if not state.warm:
            self.unload()
        self._device.cap(job.get("limit_bytes"))
        if state.warm:
            return
        self._enter(state, "loading")
        started = time.perf_counter()

        def on_component(done: int, total: int) -> None:
            self._channel.check_cancel(state.id)
            self._channel.emit("step", id=state.id, phase="loading", step=done, steps=total)

        self._pipe = family.load(card, settings, weights, self._device.torch_device, on_component)
        self._key = key
        state.load_seconds = time.perf_counter() - started

    def _load_key(self, settings: Mapping[str, Any]) -> tuple[Any, ...]:
        if self._device.kind == "cpu":  # offloading means nothing there
            absent = settings.get("text_encoder") == "absent"
            return (settings.get("precision"), settings.get("vae_precision"), absent)
        return tuple(settings.get(name) for name in LOAD_SETTINGS)

    def _phases(
        self,
        family: ModuleType,
        card: ModelCard,
        request: Request,
        settings: Mapping[str, Any],
        job: Mapping[str, Any],
        state: _Job,
        check: Callable[[], None],
    ) -> Any:
        """The family's three phases, measured one by one. Returns frames (T H W C, uint8)."""
        pipe, placement = self._pipe, self._pipe.placement
        parts = [part for part in vars(pipe).values() if isinstance(part, torch.nn.Module)]
        state.meter = meter = Meter(self._device, parts)
        empty = self._device.empty_cache
        encode, denoise, decode = family.PHASES

        self._enter(state, encode)
        with meter.phase(encode) as ready:
            placement.enter_phase(encode, after_leaving=empty)
            ready()
            encoded = family.encode(pipe, request, settings, check_cancel=check)
        self._enter(state, denoise)
        on_step = self._step_reporter(family, card, request, bool(job.get("preview")), state)
        with meter.phase(denoise) as ready:
            placement.enter_phase(denoise, after_leaving=empty)
            ready()
            latents = family.denoise(
                pipe, encoded, request, settings, on_step=on_step, check_cancel=check
            )
        family.check_finite(latents)
        del encoded
        self._enter(state, decode)
        on_progress = self._progress_reporter(state)
        with meter.phase(decode) as ready:
            placement.enter_phase(decode, after_leaving=empty)
            ready()
            return family.decode(
                pipe, latents, settings, on_progress=on_progress, check_cancel=check
            )

    def _enter(self, state: _Job, phase: str) -> None:
        state.phase = phase
        self._channel.emit("phase", id=state.id, name=phase)

    def _step_reporter(
        self, family: ModuleType, card: ModelCard, request: Request, preview: bool, state: _Job
    ) -> Callable[[int, int, torch.Tensor], None]:
        shown = time.monotonic()

        def on_step(step: int, steps: int, latents: torch.Tensor) -> None:
            nonlocal shown
            self._channel.emit("step", id=state.id, phase="denoise", step=step, steps=steps)
            if preview and step < steps and time.monotonic() - shown >= PREVIEW_EVERY_S:
                jpeg = base64.b64encode(family.preview_jpeg(latents, card)).decode()
                self._channel.emit("preview", id=state.id, jpeg=jpeg)
                shown = time.monotonic()

        return on_step

    def _progress_reporter(self, state: _Job) -> Callable[[int, int], None]:
        told = 0.0

        def on_progress(done: int, total: int) -> None:
            nonlocal told
            if done == total or time.monotonic() - told >= PROGRESS_EVERY_S:
                told = time.monotonic()
                self._channel.emit("step", id=state.id, phase="decode", step=done, steps=total)

        return on_progress

    def _in_use_bytes(self) -> int:
        if self._device.kind != "cuda":
            return int(psutil.Process().memory_info().rss)
        try:
            return torch.cuda.memory_allocated()
        except RuntimeError:
            return 0

    def _leave(self) -> None:
        """Between jobs only what `offload: none` keeps stays on the card."""
        if self._pipe is not None:
            self._pipe.placement.leave()
        self._device.empty_cache()

    def _after_failure(self, keep: bool) -> None:
        """Leaves a clean worker: after a cancel the pipeline stays warm, else it is dropped."""
        if keep and self._pipe is not None:
            try:
                self._pipe.placement.recover()
                self._leave()
                return
            except Exception:
                traceback.print_exc(file=sys.stderr)
        self.unload()


class _Job:
    """How far the running job is."""

    def __init__(self, job_id: str) -> None:
        self.id = job_id
        self.phase = "loading"
        self.warm = False
        self.load_seconds = 0.0
        self.meter: Meter | None = None

    def measurement(self) -> Any:
        return self.meter.measurement(self.load_seconds) if self.meter else None
