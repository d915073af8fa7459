"""The large files of a profiled run, made only when asked for: a trace, a memory snapshot."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from webui.core.text import Text

TRACE = "trace.json.gz"
"""Opens in Perfetto (ui.perfetto.dev) and chrome://tracing as it is."""
SNAPSHOT = "snapshot.pickle"
"""Opens in PyTorch's memory viewer, pytorch.org/memory_viz."""
MAX_SNAPSHOT_ENTRIES = 40_000
"""Newest allocations and releases that a snapshot keeps: five steps of Wan2.1 1.3B."""
STEPPED = ("denoise", "denoise_high", "denoise_low", "decode", "generate")
"""Phases whose steps are told; the others are traced as a whole."""


class Tracer:
    """A trace of one phase by `torch.profiler`, over the last steps that its schedule asks for.

    Args:
        folder: takes the file.
        cuda: trace the GPU as well.
        phase: the phase to trace.
        wait: steps to leave out; None for as many as leave room: the last steps are traced, which
            are the warmest, and in a decoder hold the most.
        warmup: steps that are traced and thrown away.
        active: steps that are kept: they decide the size of the file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cuda: bool,
        phase: str,
        wait: int | None = None,
        warmup: int = 1,
        active: int = 3,
    ) -> None:
        self._folder = folder
        self._cuda = cuda
        self._phase = phase
        self._schedule = (wait, warmup, active)
        self._running: Any = None
        self._in_phase = False
        self._done = False
        self.notes: list[Text] = []
        """What went wrong; the run itself goes on."""

    def phase_begins(self, name: str, steps: int | None) -> None:
        """A phase begins.

        Args:
            name: its name.
            steps: how many it has, where that is known.
        """
        if self._done or name != self._phase:
            return
        self._in_phase = True
        if name not in STEPPED or steps == 1:
            self._start(None)

    def step(self, done: int, total: int) -> None:
        """So many steps of the phase are done."""
        if self._running is not None:
            with self._apart():
                self._running.step()
        elif self._in_phase and not self._done and done < total:
            self._start(total - done)

    def phase_ends(self) -> None:
        """The phase is over, or broke."""
        self._in_phase = False
        running, self._running = self._running, None
        if running is not None:
            self._done = True
            with self._apart():
                running.stop()

    def finish(self, whole: bool = True) -> None:
        """The run is over.

        Args:
            whole: it came to its end, so that the phase should have been there.
        """
        self.phase_ends()
        if whole and not self._done:
            self.notes.append(
                Text(
                    f"There is no trace: the run has no phase '{self._phase}'.",
                    f"没有跟踪文件：运行中没有“{self._phase}”阶段。",
                )
            )

    def _start(self, steps: int | None) -> None:
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if self._cuda:
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        schedule = None
        if steps is not None:
            wait, warmup, active = fitted(steps, *self._schedule)
            schedule = torch.profiler.schedule(wait=wait, warmup=warmup, active=active, repeat=1)
        running = torch.profiler.profile(
            activities=kinds,
            schedule=schedule,
            on_trace_ready=self._save,
            record_shapes=True,
            profile_memory=True,
            with_stack=True,
        )
        with self._apart():
            running.start()
            self._running = running

    def _save(self, profile: Any) -> None:
        # Caught here already: torch's profiler would be left half way between two states.
        with self._apart():
            profile.export_chrome_trace(str(self._folder / TRACE))

    @contextmanager
    def _apart(self) -> Iterator[None]:
        with kept_apart(self._folder / TRACE, self.notes):
            try:
                yield
            except Exception:
                self._done = True
                raise


def fitted(steps: int, wait: int | None, warmup: int, active: int) -> tuple[int, int, int]:
    """The schedule within the steps that there are: something is always traced.

    Args:
        steps: still to come.
        wait: steps to leave out, or None for all that are not needed.
        warmup: steps that are thrown away.
        active: steps that are kept.

    Returns:
        wait, warmup, active.
    """
    active = max(1, min(active, steps))
    warmup = max(0, min(warmup, steps - active))
    room = steps - active - warmup
    return (room if wait is None else min(wait, room)), warmup, active


class Snapshots:
    """CUDA's memory snapshot of the phase that took the most.

    The history starts anew with each phase, so that the file shows one phase and is bounded.

    Args:
        folder: takes the file.
        phase_peak_bytes: the peak of the running phase.
    """

    def __init__(self, folder: Path, phase_peak_bytes: Callable[[], int]) -> None:
        self._folder = folder
        self._peak_bytes = phase_peak_bytes
        self._written_at = -1
        self.notes: list[Text] = []
        """What went wrong; the run itself goes on."""
        self._record()

    def phase_begins(self) -> None:
        self._record()

    def phase_ends(self) -> None:
        peak = self._peak_bytes()
        if peak > self._written_at:
            self._written_at = peak
            self._dump()

    def finish(self, out_of_memory: bool) -> None:
        """Stops; a run that ran out of memory leaves the picture of that moment."""
        try:
            if out_of_memory:
                self._dump()
        finally:  # or all later jobs of this worker would be recorded
            torch.cuda.memory._record_memory_history(enabled=None)

    def _record(self) -> None:
        with kept_apart(self._folder / SNAPSHOT, self.notes):
            torch.cuda.memory._record_memory_history(
                enabled="all",
                context="all",
                stacks="python",
                max_entries=MAX_SNAPSHOT_ENTRIES,
                clear_history=True,
            )

    def _dump(self) -> None:
        with kept_apart(self._folder / SNAPSHOT, self.notes):
            torch.cuda.memory._dump_snapshot(str(self._folder / SNAPSHOT))


@contextmanager
def kept_apart(file: Path, notes: list[Text]) -> Iterator[None]:
    """A file that cannot be made becomes a note, once, and half of one is removed: the run is
    worth more than its trace.

    Args:
        file: what the block makes.
        notes: takes the sentence.
    """
    try:
        yield
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        note = Text(f"{file.name} was not written: {reason}.", f"{file.name} 未写入：{reason}。")
        if note not in notes:
            notes.append(note)
        with suppress(OSError):
            file.unlink(missing_ok=True)


NO_SNAPSHOT = Text(
    "There is no memory snapshot: only CUDA's allocator makes one, and this run was on the "
    "processor. The trace has the memory events.",
    "没有显存快照：只有 CUDA 分配器能生成，而本次运行在处理器上。内存事件见跟踪文件。",
)
