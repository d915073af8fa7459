"""What a run needs of its user: a prompt, pictures; checked, read, and kept in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from webui.core.clip import PICTURES, ClipCard, ClipRequest, require_clip_inputs
from webui.core.errors import BadInput
from webui.core.model import ModelCard
from webui.core.request import Request
from webui.core.text import Text
from webui.core.units import MIB
from webui.storage import read_picture, store_picture

if TYPE_CHECKING:
    from PIL.Image import Image

BYTES_PER_PIXEL_FRAME = 0.5
"""Room for a clip: far above what the encoder makes of it."""
SPARE_BYTES = 16 * MIB


def require_inputs(request: Request, model: ModelCard) -> None:
    """A run needs what an estimate does not.

    Raises:
        BadInput: what is missing, or a task that only estimates and `verify` know.
    """
    if isinstance(request, ClipRequest) and isinstance(model, ClipCard):
        require_clip_inputs(request, model)
        return
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
    """Keeps the pictures in the run's folder; the request then names them there.

    Raises:
        NotEnoughDisk: the disk is full.
    """
    names = {key: store_picture(picture, folder, key) for key, picture in pictures.items()}
    return request.with_changes(**names)


def output_bytes(request: Request) -> int:
    """Room that the outputs need on the disk."""
    if not isinstance(request, ClipRequest):
        return SPARE_BYTES
    pixels = request.width * request.height * request.frames
    return int(pixels * BYTES_PER_PIXEL_FRAME) + SPARE_BYTES
