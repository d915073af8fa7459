"""Runs jobs: keeps the pipeline warm, reports each job's end and cleans up after it."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import torch

from webui.catalogue import find_model
from webui.core.clip import PICTURES, ClipRequest
from webui.core.documents import DocumentRequest
from webui.core.errors import Cancelled, StudioError
from webui.core.model import ModelCard
from webui.core.parse import parse_request
from webui.core.request import Request
from webui.pipelines import load_family
from webui.worker.device import Device, read_versions
from webui.worker.failures import is_out_of_memory, release_frames, to_studio_error
from webui.worker.pages import BlankPages, JobPages
from webui.worker.protocol import Channel
from webui.worker.reporting import JobReport

LOAD_SETTINGS = (
    "precision",
    "quantization",
    "offload",
    "text_encoder",
    "image_encoder",
    "vae_precision",
    "channels_last",
    "attention",
)
"""Settings that are part of the loaded pipeline; the others change between runs for nothing."""


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
        report = JobReport(job_id, self._channel, self._device, bool(job.get("preview")))
        error: BaseException | None = None
        try:
            outputs = self._run(job, report)
        except Exception as raised:
            error = raised
        self._channel.forget(job_id)
        common = {"id": job_id, "versions": self._versions, "device": self._device.name}
        if error is None:
            measurement = report.measurement()
            self._leave()
            self._channel.emit(
                "result",
                measurement=measurement.to_json() if measurement else None,
                outputs=outputs,
                warm=report.warm,
                **common,
            )
            return True
        limit = job.get("limit_bytes")
        told = to_studio_error(error, report.phase, limit, self._in_use_bytes())
        if not isinstance(error, StudioError):
            traceback.print_exception(error, file=sys.stderr)
        memory = is_out_of_memory(error)
        release_frames(error)
        del error
        healthy = self._device.healthy()
        measurement = report.measurement() if healthy else None
        if healthy:
            self._after_failure(keep=isinstance(told, Cancelled) and not memory)
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

    def _run(self, job: Mapping[str, Any], report: JobReport) -> list[str]:
        folder = Path(job["output_dir"])
        request = _with_pictures(parse_request(job["request"], find_model), folder)
        settings = dict(job["settings"])
        card = find_model(request.model, request.task)
        family = load_family(card.family)
        report.check()
        self._load(family, card, settings, job, report)
        report.check()
        parts = [part for part in vars(self._pipe).values() if isinstance(part, torch.nn.Module)]
        report.attach(card, self._pipe.placement, parts)
        random = job["weights"]["kind"] == "random"
        if isinstance(request, DocumentRequest):
            pages = BlankPages(request) if random else JobPages(job, request, folder, report)
            try:
                family.run(self._pipe, request, settings, report, pages)
            finally:
                report.end()
                pages.close()
            return []  # the service puts the pages' files together
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
        family: ModuleType,
        card: ModelCard,
        settings: Mapping[str, Any],
        job: Mapping[str, Any],
        report: JobReport,
    ) -> None:
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
        if report.warm:
            return
        report.enter("loading")
        started = time.perf_counter()

        def on_component(done: int, total: int) -> None:
            report.check()
            report.step(done, total)

        self._pipe = family.load(card, settings, weights, self._device.torch_device, on_component)
        self._key = key
        report.load_seconds = time.perf_counter() - started

    def _load_key(self, settings: Mapping[str, Any]) -> tuple[Any, ...]:
        if self._device.kind == "cpu":  # offloading means nothing there
            encoder = settings.get("text_encoder")
            absent = encoder if encoder in ("absent", "cached") else ""
            names = ("precision", "quantization", "vae_precision", "attention")
            return (*(settings.get(name) for name in names), absent)
        return tuple(settings.get(name) for name in LOAD_SETTINGS)

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


def _with_pictures(request: Request, folder: Path) -> Request:
    """Pictures are read from their copies in the run's own folder."""
    if not isinstance(request, ClipRequest):
        return request
    named = {key: Path(getattr(request, key)).name for key in PICTURES if getattr(request, key)}
    return request.with_changes(**{key: str(folder / name) for key, name in named.items()})
