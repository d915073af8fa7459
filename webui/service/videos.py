"""Videos in the service: looked at before they are planned, kept in the run's folder, resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from webui.core.errors import BadInput, NotAllowed, NotFound
from webui.core.job import JobState
from webui.core.request import Request
from webui.core.text import Text
from webui.core.upscale import (
    MAX_FRAMES,
    MAX_SIDE_PX,
    MIN_SIDE_PX,
    UpscaleRequest,
    check_output_size,
)
from webui.service.apart import ask_apart
from webui.service.limits import VisitorTurns, check_size
from webui.service.runs import RunLocks, Runs
from webui.service.segment_work import RESULT
from webui.storage import JobRecord, Limits, Outputs
from webui.storage.files import named_path
from webui.video.compare import CHOSEN_AFTER, CHOSEN_BEFORE
from webui.video.footage import AFTER, BEFORE
from webui.video.project import FOLDER

_ENDED_EARLY = (JobState.INTERRUPTED, JobState.CANCELLED, JobState.FAILED)


PICTURES = {
    "newest": AFTER,
    "newest-before": BEFORE,
    "chosen": CHOSEN_AFTER,
    "chosen-before": CHOSEN_BEFORE,
}
"""Frames of a run that can be looked at, by the names that addresses have for them."""


class Videos:
    """What the pages, the API and the command line may do with videos to upscale.

    Args:
        runs: who may see which run.
        outputs: their folders.
        requeue: queues a recorded run again, within the limits of a visitor.
    """

    def __init__(
        self, runs: Runs, outputs: Outputs, requeue: Callable[[JobRecord, Limits | None], None]
    ) -> None:
        self._runs, self._outputs, self._requeue = runs, outputs, requeue
        self._turns = VisitorTurns()
        self._comparing = RunLocks()

    def facts(self, path: Path) -> dict[str, Any]:
        """What a video or a picture is: `frames`, `height`, `width`, `fps`, ... (`webui.video`).

        Opens the file, in a process of its own: only for paths that the owner named, or that were
        uploaded.

        Raises:
            BadInput: it is no video.
        """
        return ask_apart(
            ["webui.video", str(path)],
            Text(
                "The file cannot be used: its frames cannot be counted.",
                "无法使用这个文件：无法统计帧数。",
            ),
            Text(
                "It may be damaged. Save a video anew as MP4, a picture as PNG.",
                "文件可能已损坏。请将视频重新保存为 MP4，图片重新保存为 PNG。",
            ),
        )

    def look(self, path: Path, owner: bool, visitor: str) -> dict[str, Any]:
        """What somebody's upload is: `facts`, a few visitors' at a time.

        Raises:
            BadInput: it is no video.
            NotAllowed: too many visitors ask.
        """
        with self._turns.turn(owner, visitor):
            return self.facts(path)

    def counted(self, request: Request, limits: Limits | None = None, visitor: str = "") -> Request:
        """The request with the frames and the size of its input; visitors wait for their turn.

        Args:
            request: of any task; those of others are given back as they are.
            limits: of a visitor; None for the owner.
            visitor: who asks.

        Raises:
            BadInput: the input cannot be used, or is larger than a visitor may have upscaled.
            NotAllowed: too many visitors ask.
        """
        if not isinstance(request, UpscaleRequest) or not request.input:
            return request
        path = named_path(request.input)
        found = self.look(path, limits is None, visitor)
        size = {key: int(found[key]) for key in ("frames", "height", "width")}
        _check_counted(**size)
        known = request.with_changes(input=str(path), **size)
        check_output_size(known)
        if limits is not None:
            check_size(known, limits)
        return known

    def pair(self, run_id: str, visitor: str) -> tuple[Path, Path] | None:
        """The newest frame of a visitor's run before and after, as JPEGs; None before the first.

        Raises:
            NotFound: the visitor has no such run.
        """
        folder = self._outputs.folder(self._runs.record(run_id, visitor).folder)
        before, after = (folder / FOLDER / name for name in (BEFORE, AFTER))
        there = all(path.is_file() and not path.is_symlink() for path in (before, after))
        return (before, after) if there else None

    def compared(self, run_id: str, visitor: str, number: int, owner: bool = False) -> int:
        """Makes a frame of a visitor's run ready to be looked at, as it was and as it became.

        Args:
            run_id: a run that has made a video.
            visitor: whose run it is.
            number: of the frame, from 0.
            owner: whether the owner asks, who waits for no visitors.

        Returns:
            The number of the frame, which is the last one where there are fewer.

        Raises:
            NotFound: the visitor has no such run, or it has made nothing.
            BadInput: the input or the result cannot be read any more.
            NotAllowed: too many visitors ask.
        """
        folder = self._outputs.folder(self._runs.record(run_id, visitor).folder)
        result = self._outputs.file(folder.name, RESULT)
        # A run has one pair of pictures.
        with self._turns.turn(owner, visitor), self._comparing.of(run_id):
            answer = ask_apart(
                ["webui.video", str(folder / FOLDER), "--frame", str(number),
                 "--result", str(result)],
                Text("This frame cannot be shown.", "无法显示这一帧。"),
                Text("Choose another one.", "请选择另一帧。"),
            )  # fmt: skip
        return int(answer["frame"])

    def picture(self, run_id: str, visitor: str, name: str) -> Path:
        """One of `PICTURES` of a visitor's run.

        Raises:
            NotFound: the visitor has no such run, or there is no such picture.
        """
        folder = self._outputs.folder(self._runs.record(run_id, visitor).folder)
        path = folder / FOLDER / PICTURES.get(name, "")
        if name not in PICTURES or path.is_symlink() or not path.is_file():
            raise NotFound(Text("There is no such picture.", "没有这张图片。"))
        return path

    def resume(self, run_id: str, visitor: str, limits: Limits | None = None) -> None:
        """Goes on with a run that ended before its last frame; segments that are done stay.

        Args:
            run_id: the run.
            visitor: whose it is.
            limits: of a visitor; None for the owner.

        Raises:
            NotFound: the visitor has no such run.
            NotAllowed: it upscales nothing, did not end early, goes on already, or the queue has no
                place for a visitor.
        """
        record = self._runs.left_record(run_id, visitor)
        if record.request.get("task") != "upscale" or record.state not in _ENDED_EARLY:
            raise NotAllowed(
                Text("There is nothing to go on with.", "没有可以继续的内容。"),
                Text(
                    "Only an upscaling or a document that ended early can be resumed.",
                    "只能继续提前结束的放大或文档任务。",
                ),
            )
        self._requeue(record, limits)


def _check_counted(frames: int, height: int, width: int) -> None:
    """Refuses what a request cannot say, or the run could not be read from the ledger again.

    Raises:
        BadInput: too many frames, or a side out of range.
    """
    if frames > MAX_FRAMES:
        raise BadInput(
            "input",
            Text(
                f"The video has {frames} frames; {MAX_FRAMES} are the most.",
                f"视频有 {frames} 帧，最多 {MAX_FRAMES} 帧。",
            ),
            Text("Cut it into shorter ones.", "请剪成较短的几段。"),
        )
    if min(height, width) < MIN_SIDE_PX or max(height, width) > MAX_SIDE_PX:
        raise BadInput(
            "input",
            Text(
                f"The input is {width} x {height} px; each side may have {MIN_SIDE_PX} to "
                f"{MAX_SIDE_PX}.",
                f"输入为 {width} x {height} 像素，每边须在 {MIN_SIDE_PX} 到 {MAX_SIDE_PX} 之间。",
            ),
            Text("Crop it or change its size first.", "请先裁剪或调整尺寸。"),
        )
