"""Checkpoint folders: what is missing, damaged, or of another model, as one clear error."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from webui.core.errors import BadInput, MissingWeights, StudioError
from webui.core.model import ModelCard
from webui.core.text import Text


def reading(what: str, read: Callable[[], Any]) -> Any:
    """Turns what the libraries raise on bad files into one clear error."""
    try:
        return read()
    except (StudioError, MemoryError, torch.OutOfMemoryError):
        raise
    except (
        SafetensorError,
        pickle.UnpicklingError,
        EOFError,
        OSError,
        KeyError,
        ValueError,
        TypeError,
        RuntimeError,
        StrictDataclassError,
    ) as error:
        lines = str(error).strip().splitlines()
        raise damaged(f"{what}: {(lines or [type(error).__name__])[0][:200]}") from error


def check_config(
    folder: Path,
    component: str,
    card: ModelCard,
    shape_keys: tuple[str, ...],
    own: Path | None = None,
) -> None:
    """Checks that a component's `config.json` is that of the card.

    Args:
        folder: of the model.
        component: its name.
        card: what is expected.
        shape_keys: the keys that tell models apart.
        own: the component's folder, if it is not that of its name.

    Raises:
        MissingWeights: there is no such file.
        BadInput: it is damaged, or of another model.
    """
    path = (own or folder / component) / "config.json"
    if not path.is_file():
        raise missing_file(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(f"{component}/config.json: {error}") from error
    expected = card.configs[component]
    for key in shape_keys:
        if key in found and key in expected and found[key] != expected[key]:
            raise BadInput(
                "model",
                Text(
                    f"'{folder.name}' holds another model than {card.title}: {component} has "
                    f"{key} {found[key]} instead of {expected[key]}.",
                    f"“{folder.name}”中不是 {card.title}：{component} 的 {key} 是 "
                    f"{found[key]}，应为 {expected[key]}。",
                ),
                Text("Choose the model that the folder holds.", "请选择与文件夹对应的模型。"),
            )


def existing_folder(folder: Path | str) -> Path:
    """The folder that was named.

    Raises:
        MissingWeights: it is not there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingWeights(
            Text(f"There is no folder '{folder.name}'.", f"没有文件夹“{folder.name}”。"),
            Text("Download the model, or give its folder.", "请下载模型，或指定模型所在的文件夹。"),
            "model",
        )
    return folder


def find_files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not found:
        raise missing_file(folder / pattern)
    return found


def missing_file(path: Path) -> MissingWeights:
    shown = "/".join(path.parts[-2:])
    return MissingWeights(
        Text(f"'{shown}' is missing.", f"缺少“{shown}”。"),
        Text(
            "The download is not complete, or the folder is another one: download it again.",
            "下载不完整，或文件夹不对：请重新下载。",
        ),
        "model",
    )


def damaged(what: str) -> BadInput:
    return BadInput(
        "model",
        Text(
            f"The weights cannot be read ({what}).",
            f"无法读取权重（{what}）。",
        ),
        Text("Download the files again.", "请重新下载这些文件。"),
    )
