"""Writing files so that a crash or a full disk never leaves half of one."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from webui.core.errors import BadInput, NotEnoughDisk, StudioError
from webui.core.text import Text
from webui.core.units import format_bytes

_FULL = (errno.ENOSPC, errno.EDQUOT)


def free_bytes(folder: Path) -> int:
    """Free space where `folder` is, or where its nearest existing parent is."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def named_path(named: str) -> Path:
    """The whole path that the owner named as input.

    Raises:
        BadInput: it begins with the home folder of a user who is not there, as in `~nobody/a.mp4`.
    """
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError as error:
        raise BadInput(
            "input",
            Text(
                "The path begins with ~, and there is no such home folder.",
                "路径以 ~ 开头，但没有这样的主文件夹。",
            ),
            Text("Write the whole path.", "请写出完整路径。"),
        ) from error


def check_free(folder: Path, needed_bytes: int) -> None:
    """Makes sure that so many bytes can be written under `folder`.

    Raises:
        NotEnoughDisk: names the needed and the free bytes.
    """
    free = free_bytes(folder)
    if free < needed_bytes:
        raise not_enough_disk(folder, needed_bytes, free)


def not_enough_disk(folder: Path, needed_bytes: int, free: int) -> NotEnoughDisk:
    """The error that names both sizes and the place."""
    needed, have = format_bytes(needed_bytes), format_bytes(free)
    return NotEnoughDisk(
        Text(
            f"{needed} of disk space are needed, {have} are free.",
            f"需要 {needed} 磁盘空间，只剩 {have}。",
        ),
        Text(
            f"Free some space on the disk of {folder}, or delete old runs.",
            f"请在 {folder} 所在的磁盘上腾出空间，或删除旧的运行结果。",
        ),
    )


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name when the block ends well.

    Raises:
        NotEnoughDisk: the disk is full.
        StudioError: the file cannot be written.
    """
    part = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def write_error(path: Path, error: OSError) -> StudioError:
    """What users are told when a file cannot be written."""
    if error.errno in _FULL:
        return NotEnoughDisk(
            Text(
                f"The disk is full: {path.name} was not written.", f"磁盘已满：{path.name} 未写入。"
            ),
            Text("Free some space, or delete old runs.", "请腾出空间，或删除旧的运行结果。"),
        )
    reason = error.strerror or str(error)
    return StudioError(
        Text(f"{path.name} cannot be written: {reason}.", f"无法写入 {path.name}：{reason}。"),
        Text(f"Check that {path.parent} may be written to.", f"请确认 {path.parent} 可以写入。"),
    )
