"""Pictures from the browser and the API: only files that gradio itself has received."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from webui.catalogue import find_model
from webui.core.errors import BadInput
from webui.core.request import Request
from webui.core.text import Text

_FILE_DATA = "gradio.FileData"


def with_picture(request: Request, path: str) -> Request:
    """The request with its picture.

    Raises:
        BadInput: the model starts from none.
    """
    model = find_model(request.model)
    if not model.needs_image:
        raise BadInput(
            "image",
            Text(f"{model.title} takes no image.", f"{model.title} 不接受 image。"),
            Text("Remove it, or pick another model.", "请删去它，或换一个模型。"),
        )
    return request.with_changes(image=path)


def with_shown_picture(request: Request, value: Any) -> Request:
    """The request with the picture that the page's control holds, where the model takes one.

    Raises:
        BadInput: see `received_file`.
    """
    if not find_model(request.model).needs_image:
        return request
    return request.with_changes(image=received_file(value))


def received_file(value: Any) -> str:
    """The path of an uploaded file, or nothing where none was given.

    Args:
        value: what gradio's client sends for a file (`handle_file`), or None.

    Raises:
        BadInput: a text, or the path of something that was not uploaded here: no text of a
            visitor becomes a path.
    """
    if value in (None, ""):
        return ""
    if isinstance(value, Mapping):
        named, meta = value.get("path"), value.get("meta")
        is_file = isinstance(meta, Mapping) and meta.get("_type") == _FILE_DATA
        if is_file and isinstance(named, str) and "\x00" not in named:
            folder, path = Path(get_upload_folder()).resolve(), Path(named).resolve()
            if path.is_relative_to(folder) and path.is_file():
                return str(path)
    raise BadInput(
        "image",
        Text("image is an uploaded file, not a text.", "image 应当是上传的文件，而不是文字。"),
        Text(
            "With gradio_client: image=handle_file('picture.png').",
            "使用 gradio_client 时：image=handle_file('picture.png')。",
        ),
    )
