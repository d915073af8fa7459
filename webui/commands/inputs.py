"""What commands start from: the requests of a file, and a studio as the options say."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from webui.catalogue import load_models, use_models
from webui.commands.short import COMMANDS
from webui.core.errors import BadInput
from webui.core.text import Text
from webui.service import Access, Studio
from webui.storage import MemoryPolicy, load_config
from webui.storage.yaml_text import MAX_BYTES, decode_yaml, load_yaml, read_yaml


def read_requests(path: str) -> list[Any]:
    """One mapping or a list of them, from a YAML file; `-` is standard input.

    Raises:
        BadInput: the file cannot be read, or is not YAML.
    """
    try:
        if path == "-":
            text = decode_yaml(sys.stdin.buffer.read(MAX_BYTES + 1), path)
        else:
            text = load_yaml(Path(path), path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(
            "", Text(f"{path} cannot be read: {reason}.", f"无法读取 {path}：{reason}。")
        ) from error
    data = read_yaml(text, path).data
    requests = data if isinstance(data, list) else [data]
    if not requests or requests == [None]:
        raise BadInput(
            "",
            Text(f"{path} holds no request.", f"{path} 中没有请求。"),
            Text("For example: model: demo", "例如：model: demo"),
        )
    return requests


def open_studio(given: argparse.Namespace) -> Studio:
    """The studio of a command.

    Raises:
        BadInput: a model's folder or the configuration is wrong.
        StudioError: the ledger cannot be read.
    """
    use_models(given.home / "models")
    folders = {}
    for pair in given.model:
        name, equals, folder = pair.partition("=")
        if not equals and given.command in COMMANDS:  # only which one
            continue
        if not equals or name not in load_models() or not Path(folder).expanduser().is_dir():
            raise BadInput(
                "model",
                Text(f"'{pair}' is not NAME=FOLDER.", f"“{pair}”不是 NAME=FOLDER。"),
                Text(
                    f"NAME is one of {', '.join(load_models())}; the folder must exist.",
                    f"NAME 是 {'、'.join(load_models())} 之一；文件夹必须存在。",
                ),
            )
        folders[name] = Path(folder).expanduser().resolve()
    config = load_config(given.home, model_names=load_models()).with_models(folders)
    if given.command == "verify":  # it tries the settings that the file names, and no others
        config = replace(config, memory=MemoryPolicy(force_fp16_threshold=0))
    return Studio(
        given.home,
        access=Access(loopback=True),
        config=config,
        random_weights=given.command in ("verify", "soak")
        or getattr(given, "random_weights", False),
        forced=getattr(given, "trials", None) == "border",
        # What `verify` tells is whether plans hold: they are not mended unless that is asked for.
        retries=getattr(given, "retries", None) if given.command != "soak" else 0,
        count_held=given.command == "soak",
        resume=False,
    )
