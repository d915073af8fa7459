"""Short commands: a prompt or files in place of a YAML file."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from webui.catalogue import load_cards
from webui.core.errors import BadInput
from webui.core.given_name import kept_name
from webui.core.receipt import Receipt
from webui.core.text import Text
from webui.storage.files import write_error
from webui.storage.yaml_text import read_yaml

COMMANDS = {
    "generate": ("PROMPT", "a clip or a picture of each prompt"),
    "upscale": ("FILE", "videos and pictures, twice or four times as large"),
    "parse": ("FILE", "the text of documents: pictures, PDFs"),
}
"""Name, which is the task's; what it takes, and what it makes."""


def add_commands(commands: Any) -> list[argparse.ArgumentParser]:
    """The short commands, with the options that only they have.

    Args:
        commands: what `argparse` gives for subcommands.
    """
    added = []
    for name, (takes, makes) in COMMANDS.items():
        command = commands.add_parser(name, help=makes)
        command.add_argument("inputs", metavar=takes, nargs="+")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="a key of the request: scale=4, settings.tile=128, card=rtx-4060",
        )
        command.add_argument("--to", type=Path, metavar="FOLDER", help="copies the results there")
        added.append(command)
    return added


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
    asked = {"task": task, "model": names[0], **_sets(given.set)}
    key = "prompt" if task == "generate" else "input"
    return [{**asked, key: one} for one in given.inputs]


def copy_results(receipt: Receipt, home: Path, target: Path) -> list[Path]:
    """Copies what a run has made; gives the copies.

    Args:
        receipt: of the run.
        home: the studio's folder.
        target: the folder to copy to. There they are called after their input, or their run; a
            name that is taken gets a number.

    Raises:
        StudioError: the folder cannot be written.
    """
    copies = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in receipt.outputs:
            made = home / name
            stem = Path(kept_name(made.parent)).stem or made.parent.name
            copies.append(_free(target, stem, made))
            shutil.copyfile(made, copies[-1])
    except OSError as error:
        raise write_error(target, error) from error
    return copies


def _free(folder: Path, stem: str, made: Path) -> Path:
    """A name for a result that is not taken."""
    number, path = 1, folder / f"{stem}-{made.name}"
    while path.exists():
        number += 1
        path = folder / f"{stem}-{made.stem}-{number}{made.suffix}"
    return path


def _sets(pairs: list[str]) -> dict[str, Any]:
    """Keys and values of a request, as YAML has them; `settings.NAME` is one of its settings.

    Raises:
        BadInput: one of them is no pair.
    """
    asked: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        key, _, name = path.partition(".")
        if not key or not equals:
            raise BadInput(
                "set",
                Text(f"'{pair}' is not KEY=VALUE.", f"“{pair}”不是 KEY=VALUE。"),
                Text(
                    "For example: --set scale=4 --set settings.tile=128",
                    "例如：--set scale=4 --set settings.tile=128",
                ),
            )
        value = read_yaml(text, path).data
        asked[key] = {**asked.get(key, {}), name: value} if name else value
    return asked
