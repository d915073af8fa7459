"""Reads a trace or a snapshot in a process of its own: the app answers others meanwhile."""

from __future__ import annotations

from pathlib import Path

from webui.service.analysis.events import wrong_file
from webui.service.analysis.holders import Holder, Peak
from webui.service.apart import run_apart

TIMEOUT_S = 900.0


def peak_apart(path: Path, timeout_s: float = TIMEOUT_S) -> Peak:
    """The peak of a trace or a snapshot, read by `python -m webui.service.analysis`.

    Args:
        path: the file.
        timeout_s: how long it may take.

    Raises:
        StudioError: as the reading process says, or the process itself failed.
    """
    try:
        answer = run_apart(["webui.service.analysis", str(path.absolute())], timeout_s)
    except TimeoutError:
        raise wrong_file(
            path, f"it took longer than {timeout_s:.0f} s", f"用时超过 {timeout_s:.0f} 秒"
        ) from None
    except (OSError, ValueError):
        raise wrong_file(path, "the process that read it broke off", "读取它的进程中断了") from None
    data = answer["peak"]
    return Peak(**{**data, "holders": tuple(Holder(**item) for item in data["holders"])})
