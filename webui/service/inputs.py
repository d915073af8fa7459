"""What a run needs of its user: a prompt, pictures; checked, read, and kept in the run's folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from webui.core.clip import PICTURES, ClipCard, ClipRequest, require_clip_inputs
from webui.core.documents import DocumentRequest
from webui.core.errors import BadInput, NotEnoughDisk
from webui.core.given_name import keep_name
from webui.core.model import ModelCard
from webui.core.plan import Plan
from webui.core.request import Request
from webui.core.text import Text
from webui.core.units import MIB, format_bytes
from webui.core.upscale import UpscaleRequest
from webui.estimator.upscaling import workers_of
from webui.storage import Outputs, read_picture, store_picture
from webui.storage.files import check_free, write_error
from webui.storage.pictures import INPUT_PREFIX

if TYPE_CHECKING:
    from PIL.Image import Image

BYTES_PER_PIXEL_FRAME = 0.5
"""Room for a clip: far above what the encoder makes of it."""
VIDEO_BITS = {"high": 0.25, "medium": 0.12, "small": 0.06}
"""Room for an upscaled video, by its quality: of each pixel of each frame."""
RAW_FRAMES, RAW_BYTES = 16, 3
"""Frames that are kept as plain pixels until the segments beside them are made."""
BYTES_PER_PAGE = MIB
"""Room for a page's picture and text, twice: in the run's folder and in its ZIP."""
SPARE_BYTES = 16 * MIB


def require_inputs(request: Request, model: ModelCard) -> None:
    """A run needs what an estimate does not.

    Raises:
        BadInput: what is missing, or a task that only estimates and `verify` know.
    """
    if isinstance(request, ClipRequest) and isinstance(model, ClipCard):
        require_clip_inputs(request, model)
        return
    if isinstance(request, UpscaleRequest):
        if request.input:
            return
        raise BadInput(
            "input",
            Text("There is nothing to upscale.", "没有要放大的内容。"),
            Text(
                "Name a video or a picture as input.",
                "请在 input 中指定视频或图片。",
            ),
        )
    if isinstance(request, DocumentRequest):
        if request.input:
            return
        raise BadInput(
            "input",
            Text("There is no document to read.", "没有要识别的文档。"),
            Text(
                "Name a picture, a PDF, a ZIP file or a folder as input.",
                "请在 input 中指定图片、PDF、ZIP 文件或文件夹。",
            ),
        )
    raise BadInput(
        "model",
        Text(
            f"{model.title} can be planned, estimated and verified, not run.",
            f"{model.title} 可以规划、估算和验证，但不能运行。",
        ),
        Text(
            "Use plan, estimate or verify; or a model that makes clips.",
            "请用 plan、estimate 或 verify；或换一个生成视频的模型。",
        ),
    )


def read_inputs(request: Request) -> dict[str, Image]:
    """The pictures that the request names, by key, in the clip's shape.

    Raises:
        BadInput: one cannot be read.
    """
    if not isinstance(request, ClipRequest):
        return {}
    return {
        key: read_picture(Path(getattr(request, key)), request.width, request.height, key)
        for key in PICTURES
        if getattr(request, key)
    }


def store_inputs(request: Request, pictures: Mapping[str, Image], folder: Path) -> Request:
    """Keeps pictures and documents in the run's folder; the request then names them there.

    Raises:
        NotEnoughDisk: the disk is full.
    """
    if isinstance(request, DocumentRequest | UpscaleRequest):
        return _store_file(request, folder)
    names = {key: store_picture(picture, folder, key) for key, picture in pictures.items()}
    return request.with_changes(**names)


def _store_file(
    request: DocumentRequest | UpscaleRequest, folder: Path
) -> DocumentRequest | UpscaleRequest:
    """Keeps the input in the run's folder; a folder of pages stays where it is.

    A link where the disk allows one: a film is not written a second time.

    Raises:
        NotEnoughDisk: the disk is full.
    """
    if not request.input:
        return request
    path = Path(request.input).resolve()
    if path.is_dir():
        return request
    kind = "document" if isinstance(request, DocumentRequest) else "video"
    name = f"{INPUT_PREFIX}{kind}{path.suffix.lower()}"
    try:
        try:
            os.link(path, folder / name)
        except OSError:  # another disk, or one without links
            check_free(folder, path.stat().st_size)
            shutil.copyfile(path, folder / name)
        keep_name(folder, path.name)
    except OSError as error:
        raise write_error(folder / name, error) from error
    return request.with_changes(input=name)


def check_disk(
    outputs: Outputs, request: Request, plan: Plan, left: tuple[int, int] | None = None
) -> None:
    """Makes sure that the disk has room for what a run makes, and for what waits there meanwhile.

    Args:
        outputs: where it is made.
        request: of the run.
        plan: of it.
        left: segments that are not made yet, and their frames, where a run goes on; None for all.

    Raises:
        NotEnoughDisk: names the needed and the free bytes.
    """
    waiting_bytes = plan.estimate.disk_bytes
    frames = None
    if left is not None and isinstance(request, UpscaleRequest):
        segments, frames = left
        # Each worker has the frames of one segment there.
        workers = workers_of(request, plan.estimate.settings)
        waiting_bytes = waiting_bytes * min(segments, workers) // workers
    try:
        outputs.check_space(output_bytes(request, frames) + waiting_bytes)
    except NotEnoughDisk as error:
        if not waiting_bytes or not isinstance(request, UpscaleRequest):
            raise
        waiting = format_bytes(waiting_bytes)
        frames = min(request.frames, request.segment_frames)
        raise NotEnoughDisk(
            error.message,
            Text(
                f"{waiting} of it are frames whose tiles are yet to be joined: use shorter "
                f"segments than {frames} frames, or free some space.",
                f"其中 {waiting} 用于暂存尚未拼合的分块画面：请用少于 {frames} "
                "帧的分段，或腾出磁盘空间。",
            ),
        ) from None


def output_bytes(request: Request, frames_left: int | None = None) -> int:
    """Room that the outputs need on the disk.

    Args:
        request: of the run.
        frames_left: of a video whose other frames are on the disk already; None for all.
    """
    if isinstance(request, DocumentRequest):
        return request.repeats * BYTES_PER_PAGE + SPARE_BYTES
    if isinstance(request, UpscaleRequest):
        height, width = request.output_size
        # The segments, and then all that is put together of them.
        coded_frames = request.frames + (request.frames if frames_left is None else frames_left)
        coded = coded_frames * VIDEO_BITS[request.quality] / 8
        raw = RAW_BYTES * (RAW_FRAMES if request.segments > 1 else 1)  # one: a picture's PNG
        return int(height * width * (coded + raw)) + SPARE_BYTES
    if not isinstance(request, ClipRequest):
        return SPARE_BYTES
    pixels = request.width * request.height * request.frames * request.batch
    return int(pixels * BYTES_PER_PIXEL_FRAME) + SPARE_BYTES
