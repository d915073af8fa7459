"""A profiled job: follows it as every job is followed, and records it on the way."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from webui.core.errors import Cancelled
from webui.core.model import ModelCard
from webui.core.text import Text
from webui.pipelines.placement import watched
from webui.worker.device import Device, read_versions
from webui.worker.failures import is_out_of_memory
from webui.worker.protocol import Channel
from webui.worker.recording import LOADING, Recorder
from webui.worker.reporting import JobReport
from webui.worker.traces import NO_SNAPSHOT, SNAPSHOT, Snapshots, Tracer, kept_apart


def new_report(job: Mapping[str, Any], channel: Channel, device: Device) -> JobReport:
    """Follows a job; one with `profile` is recorded too.

    Args:
        job: `profile` holds `folder` (where the files go), `log_interval`, `trace` and
            `snapshot` (true or false), and of a trace `trace_phase`, `wait`, `warmup`, `active`.
        channel: to the client.
        device: where it runs.
    """
    arguments = (str(job.get("id", "")), channel, device, bool(job.get("preview")))
    options = job.get("profile")
    if not options or not options.get("memory", True):
        return JobReport(*arguments)
    return ProfiledReport(*arguments, job)


class ProfiledReport(JobReport):
    """Tells the recorder what it tells the client."""

    def __init__(
        self, job_id: str, channel: Channel, device: Device, preview: bool, job: Mapping[str, Any]
    ) -> None:
        super().__init__(job_id, channel, device, preview)
        options = job["profile"]
        self._job = job
        self._folder = Path(options["folder"])
        self._steps = job["request"].get("steps")
        self._notes: list[Text] = []
        self._recorder = Recorder(device, int(options.get("log_interval", 1)))
        self._tracer = self._new_tracer(options) if options.get("trace") else None
        self._snapshots: Snapshots | None = None
        if options.get("snapshot"):
            if device.kind == "cuda":
                self._snapshots = Snapshots(self._folder, lambda: self._recorder.phase_peak_bytes)
            else:
                self._notes.append(NO_SNAPSHOT)

    def _new_tracer(self, options: Mapping[str, Any]) -> Tracer:
        return Tracer(
            self._folder,
            cuda=self._device.kind == "cuda",
            phase=str(options.get("trace_phase", "denoise")),
            wait=options.get("wait"),
            warmup=int(options.get("warmup", 1)),
            active=int(options.get("active", 3)),
        )

    @contextmanager
    def recording(self) -> Iterator[None]:
        error: BaseException | None = None
        try:
            with watched(self._recorder):
                yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            # A file that cannot be written must not take the run's own end away.
            try:
                self._finish(error)
            except Exception:
                traceback.print_exc(file=sys.stderr)

    def attach(self, card: ModelCard, placement: Any, modules: Iterable[nn.Module]) -> None:
        super().attach(card, placement, modules)
        assert self._meter is not None
        self._recorder.attach(self._meter.counter)

    def begin(self, phase: str, continues: bool = False) -> None:
        self._phase_ends()
        self._recorder.phase_comes(phase)
        super().begin(phase, continues)
        self._recorder.phase_begins()
        if self._snapshots is not None:
            self._snapshots.phase_begins()
        if self._tracer is not None:
            steps = self._steps if phase.startswith("denoise") else None
            self._tracer.phase_begins(phase, steps)

    def end(self) -> None:
        self._phase_ends()
        super().end()

    def step(self, done: int, total: int) -> None:
        super().step(done, total)
        if self._meter is None:
            self._recorder.component_begins()
            return
        self._recorder.step(done, total, every=self.phase != "generate")
        if self._tracer is not None:
            self._tracer.step(done, total)

    def latent_step(self, done: int, total: int, latents: torch.Tensor) -> None:
        super().latent_step(done, total, latents)
        self._recorder.step(done, total)
        if self._tracer is not None:
            self._tracer.step(done, total)

    def _phase_ends(self) -> None:
        if self._meter is None or self.phase in (LOADING, "save"):
            return
        self._recorder.phase_ends()
        if self._tracer is not None:
            self._tracer.phase_ends()
        if self._snapshots is not None:
            self._snapshots.phase_ends()

    def _finish(self, error: BaseException | None) -> None:
        if self._placement is not None:
            self._placement.watch = None
        if self._tracer is not None:
            self._tracer.finish(whole=error is None)
            self._notes += self._tracer.notes
        if self._snapshots is not None:
            out_of_memory = error is not None and is_out_of_memory(error)
            with kept_apart(self._folder / SNAPSHOT, self._snapshots.notes):
                self._snapshots.finish(out_of_memory)
            self._notes += self._snapshots.notes
        lines = str(error).strip().splitlines() if error is not None else []
        self._recorder.write(
            self._folder,
            {
                "run": self.id,
                "request": self._job["request"],
                "settings": self._job["settings"],
                "weights": str(self._job["weights"].get("kind", "")),
                "versions": read_versions(),
                "notes": [note.to_json() for note in self._notes],
                "ended": "done" if error is None else _ending(error),
                "error": f"{type(error).__name__}: {lines[0][:300]}" if lines else "",
            },
        )


def _ending(error: BaseException) -> str:
    if isinstance(error, Cancelled):
        return "cancelled"
    return "out of memory" if is_out_of_memory(error) else "failed"
