"""Runs jobs: keeps the pipeline warm, reports each job's end and cleans up after it."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import torch

from webui.catalogue import find_model
from webui.core.clip import PICTURES, ClipRequest
from webui.core.documents import DocumentRequest
from webui.core.errors import Cancelled, MissingDependency, RunFailed, StudioError
from webui.core.model import ModelCard
from webui.core.parse import parse_request
from webui.core.receipt import Measurement
from webui.core.request import Request
from webui.core.text import Text
from webui.core.units import MIB
from webui.core.upscale import UpscaleRequest
from webui.pipelines import load_family
from webui.worker.device import Device, read_versions
from webui.worker.failures import (
    is_out_of_memory,
    release_frames,
    shortage_of,
    to_studio_error,
)
from webui.worker.footage import BlankFootage
from webui.worker.pages import BlankPages, JobPages
from webui.worker.profiling import new_report
from webui.worker.protocol import Channel
from webui.worker.reporting import JobReport

LOAD_SETTINGS = (
    "precision",
    "quantization",
    "gguf_type",
    "offload",
    "text_encoder",
    "image_encoder",
    "vae_precision",
    "channels_last",
    "attention",
    "decoder",
)
"""Settings that are part of the loaded pipeline; the others change between runs for nothing."""
LEFT_BYTES = 16 * MIB
"""More than this on the device after a failure, everything dropped, is a leak: the process ends."""


class Runner:
    """The job loop's state: the device and the pipeline that is loaded."""

    def __init__(self, device: Device, channel: Channel) -> None:
        self._device = device
        self._channel = channel
        self._versions = read_versions()
        self._key: tuple[Any, ...] | None = None
        self._pipe: Any = None
        self._found_bytes = 0

    def run(self, job: Mapping[str, Any]) -> bool:
        """Runs one job and reports its end, whatever it is.

        Returns:
            False when the device is broken and the process should be replaced.
        """
        job_id = str(job.get("id", ""))
        if job.get("fresh"):  # a profile shows how the model is loaded
            self.unload()
        report = new_report(job, self._channel, self._device)
        error: BaseException | None = None
        try:
            with report.recording():
                outputs = self._run(job, report)
        except Exception as raised:
            error = raised
        finally:
            gc.unfreeze()  # what the report has set aside can go with the model
        self._channel.forget(job_id)
        common = {"id": job_id, "versions": self._versions, "device": self._device.name,
                  "waits": report.waits}  # fmt: skip
        if error is None:
            measurement = report.measurement()
            self._leave(clear=bool(job.get("clear_cache", True)))
            self._channel.emit(
                "result",
                measurement=self._with_held(measurement, job),
                outputs=outputs,
                warm=report.warm,
                **common,
            )
            return True
        limit = job.get("limit_bytes")
        shortage = shortage_of(error, report.phase, self._device)
        in_use = shortage.in_use_bytes if shortage else self._in_use_bytes()
        told = to_studio_error(error, report.phase, limit, in_use)
        if not isinstance(error, StudioError):
            traceback.print_exception(error, file=sys.stderr)
        memory = is_out_of_memory(error)
        release_frames(error)
        del error
        healthy = self._device.healthy()
        measurement = report.measurement() if healthy else None
        if healthy:
            self._after_failure(keep=isinstance(told, Cancelled) and not memory)
        # What stays on the device would be missing for the next job: a new process has all of it.
        clean = healthy and not (memory and self._device.held_bytes() > LEFT_BYTES)
        self._channel.emit(
            "failed",
            error=told.to_json(),
            measurement=self._with_held(measurement, job),
            shortage=shortage.to_json() if shortage else None,
            ends=not clean,
            **common,
        )
        return clean

    def unload(self) -> None:
        """Drops the pipeline and gives its memory back."""
        self._key = None
        self._pipe = None
        gc.collect()
        self._device.empty_cache()

    def empty_cache(self) -> int:
        """Gives back what the allocator holds and nothing uses; returns how much that was."""
        held = self._device.reserved_bytes()
        self._device.empty_cache()
        return held - self._device.reserved_bytes()

    def _run(self, job: Mapping[str, Any], report: JobReport) -> list[str]:
        folder = Path(job["output_dir"])
        request = _with_pictures(parse_request(job["request"], find_model), folder)
        settings = dict(job["settings"])
        card = find_model(request.model, request.task)
        report.check()
        family = self._load(card, settings, job, report)
        report.check()
        parts = [part for part in vars(self._pipe).values() if isinstance(part, torch.nn.Module)]
        report.attach(card, self._pipe.placement, parts)
        random = job["weights"]["kind"] == "random"
        if isinstance(request, UpscaleRequest) and request.input:
            random = False  # a real video through random weights: all but what it looks like
        pieces: Any = None
        if isinstance(request, DocumentRequest):
            pieces = BlankPages(request) if random else JobPages(job, request, folder, report)
        elif isinstance(request, UpscaleRequest):
            pieces = BlankFootage(request) if random else _film(job, folder, report)
        if pieces is not None:
            try:
                family.run(self._pipe, request, settings, report, pieces)
            finally:
                report.end()
                pieces.close()
            return []  # the service puts the pieces' files together
        try:
            made = family.run(self._pipe, request, settings, report)
        finally:
            report.end()
        if random:
            return []  # noise: it was run for its memory and its time
        assert isinstance(request, ClipRequest)  # what else there is runs on random weights only
        from webui.worker.video import save_outputs

        report.enter("save")
        return save_outputs(made, request.fps, folder)

    def _load(
        self,
        card: ModelCard,
        settings: Mapping[str, Any],
        job: Mapping[str, Any],
        report: JobReport,
    ) -> ModuleType:
        """Makes sure that the right pipeline is loaded; counts the seconds if it was not."""
        weights = job["weights"]
        key = (
            card.name,
            card.task,
            weights["kind"],
            weights.get("folder", ""),
            *self._load_key(settings),
        )
        report.warm = key == self._key
        if not report.warm:
            self.unload()
        self._device.cap(job.get("limit_bytes"), int(job.get("context_bytes", 0)))
        self._found_bytes = self.held_bytes(job)
        if not report.warm:
            report.enter("loading")
        family = _family_of(card.family)  # seconds, the first time; no weights are read in them
        if report.warm:
            return family
        started = time.perf_counter()

        def on_component(done: int, total: int) -> None:
            report.check()
            report.step(done, total)

        self._pipe = family.load(card, settings, weights, self._device.torch_device, on_component)
        self._key = key
        report.load_seconds = time.perf_counter() - started
        return family

    def _load_key(self, settings: Mapping[str, Any]) -> tuple[Any, ...]:
        if self._device.kind == "cpu":  # offloading means nothing there
            encoder = settings.get("text_encoder")
            absent = encoder if encoder in ("absent", "cached") else ""
            names = ("precision", "quantization", "vae_precision", "attention", "decoder")
            return (*(settings.get(name) for name in names), absent)
        return tuple(settings.get(name) for name in LOAD_SETTINGS)

    def held_bytes(self, asked: Mapping[str, Any]) -> int:
        """What tensors take now; on a processor, where counting takes time, only when asked for."""
        counted = self._device.kind == "cuda" or asked.get("count_held")
        return self._device.held_bytes() if counted else 0

    def _with_held(
        self, measurement: Measurement | None, job: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The measurement, with what the job found on the device and what it left there."""
        if measurement is None:
            return None
        left = self.held_bytes(job)
        return replace(measurement, found_bytes=self._found_bytes, left_bytes=left).to_json()

    def _in_use_bytes(self) -> int:
        if self._device.kind != "cuda":
            return int(psutil.Process().memory_info().rss)
        try:
            return torch.cuda.memory_allocated()
        except RuntimeError:
            return 0

    def _leave(self, clear: bool = True) -> None:
        """Between jobs only what `offload: none` keeps stays on the card.

        Args:
            clear: give the allocator's cache back too; without, the next job's first phase does it
                before it is measured.
        """
        if self._pipe is not None:
            self._pipe.placement.leave()
        if clear:
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


def _family_of(name: str) -> ModuleType:
    """A model family.

    Raises:
        MissingDependency: a package that it needs is not installed.
        RunFailed: one of them is not whole; what it says may hold paths, and visitors see this.
    """
    again = Text("Install the studio's packages anew.", "请重新安装工作室的依赖包。")
    try:
        return load_family(name)
    except ModuleNotFoundError as error:
        raise MissingDependency(
            Text(f"The package {error.name} is missing.", f"缺少软件包 {error.name}。"), again
        ) from error
    except Exception as error:
        traceback.print_exception(error, file=sys.stderr)
        told = type(error).__name__
        raise RunFailed(
            Text(
                f"The model's libraries cannot be loaded ({told}).", f"无法载入模型的库（{told}）。"
            ),
            again,
        ) from error


def _film(job: Mapping[str, Any], folder: Path, report: JobReport) -> Any:
    from webui.worker.film import JobFootage  # brings the codecs, which no other job needs

    return JobFootage(job, folder, report)


def _with_pictures(request: Request, folder: Path) -> Request:
    """Pictures are read from their copies in the run's own folder."""
    if not isinstance(request, ClipRequest):
        return request
    named = {key: Path(getattr(request, key)).name for key in PICTURES if getattr(request, key)}
    return request.with_changes(**{key: str(folder / name) for key, name in named.items()})
