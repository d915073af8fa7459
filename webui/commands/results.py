"""Copies of what runs have made, in a folder that the user names."""

from __future__ import annotations

import shutil
from pathlib import Path

from webui.core.errors import BadInput
from webui.core.given_name import kept_name
from webui.core.receipt import Receipt
from webui.core.text import Text
from webui.storage.files import write_error


def check_target(target: Path) -> None:
    """Makes the folder, before anything runs.

    Raises:
        BadInput: it is a file, or cannot be made.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(
            "to",
            Text(
                f"{target} is no folder that can be written to: {reason}.",
                f"{target} 不是可写入的文件夹：{reason}。",
            ),
            Text("Name another one.", "请指定其他文件夹。"),
        ) from error


def copy_results(receipt: Receipt, home: Path, target: Path) -> list[Path]:
    """Copies what a run has made; gives the copies.

    Args:
        receipt: of the run.
        home: the studio's folder.
        target: the folder to copy to, which is there (`check_target`). In it they are called after
            their input, or their run; a name that is taken gets a number.

    Raises:
        StudioError: the folder cannot be written.
    """
    copies = []
    try:
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
