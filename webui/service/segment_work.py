"""The segments of a video as pieces of work, and the video when they are made."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

from webui.core.errors import RunFailed, StudioError, WorkerLost
from webui.core.text import Text
from webui.core.upscale import UpscaleRequest
from webui.service.apart import ask_apart
from webui.storage.files import write_error
from webui.storage.outputs import THUMBNAIL, write_thumbnail
from webui.video.facts import Facts
from webui.video.footage import AFTER
from webui.video.parts import Parts
from webui.video.project import FOLDER, Project
from webui.video.timeline import Timeline

RESULT = "upscaled.mp4"
"""A single frame is `upscaled.png`."""
JOIN_S = 3600.0
"""How long putting a film together may take."""


class SegmentPieces:
    """Segments (`webui.service.pieces.Pieces`).

    Args:
        request: of the run.
        folder: the run's; holds the input.
        workers: that will share the segments; a project that has begun keeps its segments.
        closing: set when the studio ends.

    Raises:
        BadInput: the input cannot be used.
        MissingDependency: there is no encoder.
        StudioError: the folder cannot be written.
    """

    key, event, unit = "segments", "frames", "frames"
    claims = True

    def __init__(
        self,
        request: UpscaleRequest,
        folder: Path,
        workers: int,
        closing: Event | None = None,
    ) -> None:
        self._folder, self._closing = folder, closing
        self._cut_short = (0, 0)
        self._project = _project(request, folder, workers)
        self._parts = Parts(self._project)
        self._given_up: dict[int, WorkerLost] = {}
        self._complete = self._parts.done() == set(self.numbers)

    @property
    def notes(self) -> Sequence[Text]:
        warning = self._project.facts.warning
        return (warning,) if warning else ()

    @property
    def numbers(self) -> Sequence[int]:
        return [segment.index for segment in self._project.segments]

    @property
    def units(self) -> int:
        return self._project.frames

    def units_of(self, number: int) -> int:
        segment = self._project.segments[number]
        return segment.stop - segment.start

    def done(self) -> set[int]:
        return self._parts.done() | set(self._given_up)

    def most(self, waiting: int, workers: int, settings: Mapping[str, Any]) -> int:
        """One after the other: unequal cards end together."""
        return 1

    def give_up(self, number: int, lost: WorkerLost) -> None:
        self._given_up[number] = lost

    def put_together(self) -> list[str]:
        """The frames from the first on that are made, as one file with their sound."""
        if not self._parts.done() and not self._parts.partial():
            return []
        target = self._folder / RESULT
        made = target.with_suffix(".png") if self._project.is_picture else target
        if self._complete and made.is_file():  # by an earlier run
            return [made.name]
        answer = ask_apart(
            ["webui.video", str(self._project.folder), "--assemble", str(target)],
            Text("The segments could not be joined.", "无法合并片段。"),
            Text("They are kept: resume the run.", "片段仍然保留，可继续任务。"),
            within_s=JOIN_S,
            closing=self._closing,
        )
        self._cut_short = (int(answer["frames"]), int(answer["of"]))
        newest = self._project.folder / AFTER
        if newest.is_file():
            with suppress(StudioError):
                write_thumbnail(newest, self._folder / THUMBNAIL)
        if answer["frames"] == answer["of"]:
            self._clear()
        return [str(answer["output"])]

    def failed(self) -> StudioError | None:
        """A segment that was given up, or one that was found damaged when all were joined."""
        there, whole = self._cut_short
        if not self._given_up and there < whole:
            return RunFailed(
                Text(
                    f"{there} of {whole} frames are there: a part was damaged.",
                    f"{whole} 帧中只有 {there} 帧：有片段损坏。",
                ),
                Text("Resume the run to make it again.", "请继续任务以重新生成。"),
            )
        return next(iter(self._given_up.values()), None)

    def _clear(self) -> None:
        """The parts are in the result; what shows the run stays."""
        for path in self._project.folder.iterdir():
            if path.suffix in (".mp4", ".npy", ".png", ".txt"):
                path.unlink(missing_ok=True)


def segments_left(folder: Path) -> tuple[int, int] | None:
    """Of a run that has begun: its segments that are not made yet, and their frames.

    Args:
        folder: the run's.

    Returns:
        None where nothing has begun.
    """
    try:
        project = Project.load(folder / FOLDER)
        done = Parts(project).done()
    except (OSError, ValueError, KeyError):
        return None
    left = [segment for segment in project.segments if segment.index not in done]
    return len(left), sum(segment.stop - segment.start for segment in left)


def _project(request: UpscaleRequest, folder: Path, workers: int) -> Project:
    place = folder / FOLDER
    given = Path(request.input)
    source = given if given.is_absolute() else folder / given.name
    try:
        with suppress(OSError, ValueError, KeyError):
            return Project.load(place)
        place.mkdir(exist_ok=True)
        timeline = place / "input.npz"
        facts = ask_apart(
            ["webui.video", str(source), "--timeline", str(timeline)],
            Text("The video cannot be read.", "无法读取视频。"),
            Text("Save it anew as MP4.", "请重新保存为 MP4。"),
        )
        return Project.start(
            place,
            source,
            Facts.from_json(facts),
            Timeline.load(timeline),
            scale=request.scale,
            quality=request.quality,
            segment_frames=request.segment_frames,
            overlap=request.overlap,
            gpus=workers,
        )
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        raise write_error(place, error) from error
