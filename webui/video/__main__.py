"""`python -m webui.video INPUT`: what a video is; `--assemble`: joins its parts; `--frame`: shows
one before and after. JSON.

A process of its own, because it opens files of strangers: whatever a decoder does, the studio goes
on. It may use little memory and little time.
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from webui.core.errors import NotEnoughDisk, RunFailed, StudioError
from webui.core.text import Text
from webui.core.units import GIB
from webui.video.assembly import assemble
from webui.video.compare import compare
from webui.video.facts import examine
from webui.video.project import Project

LOOKING_BYTES, JOINING_BYTES = 8 * GIB, 24 * GIB
"""Of addresses, which libraries reserve more of than they use: encoders for each thread."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m webui.video")
    parser.add_argument("input", type=Path)
    parser.add_argument("--timeline", type=Path, help="where to keep the times of its frames")
    parser.add_argument("--assemble", type=Path, metavar="TARGET", help="the input is a project")
    parser.add_argument("--frame", type=int, help="the input is a project; needs --result")
    parser.add_argument("--result", type=Path, help="what was made of it")
    given = parser.parse_args(arguments)
    _limit_memory(JOINING_BYTES if given.assemble else LOOKING_BYTES)
    try:
        if given.assemble:
            answer = _join(given)
        elif given.result:
            answer = {"frame": compare(Project.load(given.input), given.result, given.frame or 0)}
        else:
            answer = _facts(given)
    except StudioError as error:
        return _failed(error)
    except OSError as error:
        return _failed(_disk_error(error))
    print(json.dumps(answer))
    return 0


def _facts(given: argparse.Namespace) -> dict[str, Any]:
    facts, timeline = examine(given.input)
    if given.timeline:
        timeline.save(given.timeline)
    return facts.to_json()


def _join(given: argparse.Namespace) -> dict[str, Any]:
    return assemble(Project.load(given.input), given.assemble).to_json()


def _failed(error: StudioError) -> int:
    print(json.dumps({"error": error.to_json()}))
    return 1


def _disk_error(error: OSError) -> StudioError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotEnoughDisk(
            Text("The disk is full: the video was not written.", "磁盘已满：视频未写入。"),
            Text("Free some space, or delete old runs.", "请腾出空间，或删除旧的运行结果。"),
        )
    reason = error.strerror or str(error)
    return RunFailed(
        Text(
            f"The video's files cannot be read or written: {reason}.",
            f"无法读写视频文件：{reason}。",
        ),
        Text("Check the disk that holds the outputs.", "请检查存放输出的磁盘。"),
    )


def _limit_memory(most_bytes: int) -> None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))


if __name__ == "__main__":
    sys.exit(main())
