"""Pictures from the browser and the API: only files that gradio itself has received."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from webui.catalogue import find_model
from webui.core.clip import ClipCard
from webui.core.errors import BadInput
from webui.core.request import Request
from webui.core.text import Text

_FILE_DATA = "gradio.FileData"


def with_pictures(request: Request, values: Mapping[str, Any]) -> Request:
    """The request with the pictures that were uploaded for it.

    Args:
        request: what is to run.
        values: by the request's key, what gradio's client sends for a file, or None; keys that
            the model does not take are left alone.

    Raises:
        BadInput: see `received_file`.
    """
    model = find_model(request.model, request.task)
    if not isinstance(model, ClipCard):
        return request
    paths = {key: received_file(values.get(key), key) for key in model.pictures}
    return request.with_changes(**paths)


def received_files(values: Any, key: str) -> list[tuple[str, Path]]:
    """Uploaded files, each once: what their owner calls them, and where they are.

    Args:
        values: what gradio's client sends for several files, or None.
        key: the request's key, for messages.

    Raises:
        BadInput: see `received_file`.
    """
    if values in (None, ""):
        return []
    given = values if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    found: dict[Path, str] = {}
    for value in given:
        if path := received_file(value, key):
            name = value.get("orig_name") if isinstance(value, Mapping) else None
            found[Path(path)] = name if isinstance(name, str) and name else Path(path).name
    return [(name, path) for path, name in found.items()]


def kept_places(values: Any) -> list[str]:
    """What a browser may keep of uploaded files: where they are in gradio's folder.

    Args:
        values: what gradio's client sends for one file or several, or None.
    """
    folder = Path(get_upload_folder()).resolve()
    with suppress(BadInput):
        return [path.relative_to(folder).as_posix() for _, path in received_files(values, "input")]
    return []


def files_at(places: Any) -> list[str]:
    """Paths of the uploads that a browser has kept, those that are still there.

    Args:
        places: what `kept_places` gave; nothing of it is taken on trust.
    """
    folder = Path(get_upload_folder()).resolve()
    found = []
    for place in places if isinstance(places, list) else []:
        if isinstance(place, str) and "\x00" not in place:
            path = (folder / place).resolve()
            if path.is_relative_to(folder) and path.is_file():
                found.append(str(path))
    return found


def received_file(value: Any, key: str = "image") -> str:
    """The path of an uploaded file, or nothing where none was given.

    Args:
        value: what gradio's client sends for a file (`handle_file`), or None.
        key: the request's key, for messages.

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
        key,
        Text(f"{key} is an uploaded file, not a text.", f"{key} 应当是上传的文件，而不是文字。"),
        Text(
            f"With gradio_client: {key}=handle_file('the file').",
            f"使用 gradio_client 时：{key}=handle_file('文件')。",
        ),
    )
