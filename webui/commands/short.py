"""Short commands: a prompt or files in place of a YAML file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from webui.catalogue import load_cards
from webui.core.errors import BadInput
from webui.core.text import Text
from webui.storage.yaml_text import read_yaml

COMMANDS = {
    "generate": (
        "PROMPT",
        "a clip or a picture of each prompt",
        "frames=33, settings.precision=bf16",
    ),
    "upscale": (
        "FILE",
        "videos and pictures, twice or four times as large",
        "scale=4, settings.tile=128",
    ),
    "parse": ("FILE", "the text of documents: pictures, PDFs", "pages=1-3, dpi=200"),
}
"""Name, which is the task's; what it takes, what it makes, and keys that are often set."""


def add_commands(commands: Any) -> list[argparse.ArgumentParser]:
    """The short commands, with the options that only they have.

    Args:
        commands: what `argparse` gives for subcommands.
    """
    added = []
    for name, (takes, makes, keys) in COMMANDS.items():
        command = commands.add_parser(name, help=makes, description=makes)
        command.add_argument("inputs", metavar=takes, nargs="+", help="each is a run")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help=f"a key of the request: {keys}",
        )
        add_target(command)
        added.append(command)
    return added


def add_target(command: argparse.ArgumentParser) -> None:
    """The option of commands that copy what they have made."""
    command.add_argument("--to", type=Path, metavar="FOLDER", help="copies the results there")


def requests_of(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A request for each prompt or file.

    Raises:
        BadInput: a KEY=VALUE is none, or several models are named.
    """
    task = given.command
    own = next(name for name, does in load_cards() if does == task)
    names = [name.partition("=")[0] for name in given.model] or [own]
    if len(names) > 1:
        raise BadInput(
            "model",
            Text("One model at a time.", "一次只能用一个模型。"),
            Text("Name --model once.", "--model 只写一次。"),
        )
    key = "prompt" if task == "generate" else "input"
    asked = {"task": task, "model": names[0], **_sets(given.set, ("task", "model", key))}
    return [{**asked, key: one} for one in given.inputs]


def _sets(pairs: Sequence[str], taken: Sequence[str]) -> dict[str, Any]:
    """Keys and values of a request, as YAML has them; `settings.NAME` is one of its settings.

    Args:
        pairs: each `KEY=VALUE`.
        taken: keys that the command says otherwise.

    Raises:
        BadInput: one of them is no pair, or names such a key.
    """
    asked: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        key, dot, name = path.partition(".")
        whole = key and equals and bool(dot) == bool(name) and "." not in name
        if not whole or (key == "settings") != bool(name):
            raise BadInput(
                "set",
                Text(f"'{pair}' is not KEY=VALUE.", f"“{pair}”不是 KEY=VALUE。"),
                Text(
                    "For example: --set scale=4 --set settings.tile=128",
                    "例如：--set scale=4 --set settings.tile=128",
                ),
            )
        if key in taken:
            raise BadInput(
                "set",
                Text(
                    f"{key} is not set: the command says it.", f"{key} 由命令本身决定，不能设置。"
                ),
                Text("Leave it out; a model is named by --model.", "请去掉；模型用 --model 指定。"),
            )
        value = read_yaml(text, path).data
        asked[key] = {**asked.get(key, {}), name: value} if name else value
    return asked
