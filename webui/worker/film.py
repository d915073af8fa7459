"""The frames of one job: segments of a video for the run to make larger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from webui.core.host import usable_threads
from webui.core.text import Text
from webui.video.footage import AFTER, Footage
from webui.video.project import FOLDER, Project
from webui.video.reading import Pixels
from webui.video.segments import Segment
from webui.worker.reporting import JobReport

_TELL_EVERY = 4
"""Frames between two events about them."""


class JobFootage(Footage):
    """The segments that a job names, of the project in its run's folder.

    Args:
        job: its `segments` are indexes; where it `claims`, it asks for more when it comes to the
            end of these. `cores` says how many of the processor it may use.
        folder: the run's; holds the project.
        report: hears of each frame.
    """

    def __init__(self, job: Mapping[str, Any], folder: Path, report: JobReport) -> None:
        project = Project.load(folder / FOLDER)
        self.cores = int(job.get("cores") or usable_threads())
        super().__init__(project, self._taken(job), bits=project.facts.bits, threads=self.cores)
        self._report = report
        self._untold = self._repeated_told = 0
        self._picture_of = 0.0

    def _taken(self, job: Mapping[str, Any]) -> Iterator[Segment]:
        numbers = list(job["segments"])
        while numbers:
            yield from (self.project.segments[number] for number in numbers)
            numbers = self._report.claim() if job.get("claims") else []

    @property
    def folder(self) -> Path:
        """On the disk of the run's own files."""
        return self.project.folder

    def write(self, segment: Segment, index: int, frame: Pixels) -> None:
        super().write(segment, index, frame)
        if segment.read_start + index >= segment.start:
            self._untold += 1
        if self._untold >= _TELL_EVERY:
            self._tell()

    def finish(self, segment: Segment) -> None:
        super().finish(segment)
        self._tell()
        self._tell_repeated()
        self._report.piece()

    def _tell_repeated(self) -> None:
        """Tells of damaged frames, where there are more than was told."""
        count = self.repeated
        if count > self._repeated_told:
            self._repeated_told = count
            self._report.tell(
                Text(
                    f"Frames that could not be decoded: {count}. The one before stands for each.",
                    f"有 {count} 帧无法解码，均以前一帧代替。",
                )
            )

    def _tell(self) -> None:
        """Tells of the frames that are new, with the newest picture where there is another one."""
        self._report.frames(self._untold)
        self._untold = 0
        try:
            made = (self.project.folder / AFTER).stat().st_mtime
        except FileNotFoundError:
            return
        if made > self._picture_of:
            self._picture_of = made
            self._report.picture((self.project.folder / AFTER).read_bytes())
