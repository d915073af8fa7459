"""Reads a trace or a snapshot in a process of its own: the app answers others meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from webui.core.errors import error_from_json
from webui.service.analysis.events import wrong_file
from webui.service.analysis.holders import Holder, Peak

TIMEOUT_S = 900.0
_ROOT = Path(__file__).resolve().parents[3]
"""Where `webui` can be imported from."""


def peak_apart(path: Path, timeout_s: float = TIMEOUT_S) -> Peak:
    """The peak of a trace or a snapshot, read by `python -m webui.service.analysis`.

    Args:
        path: the file.
        timeout_s: how long it may take.

    Raises:
        StudioError: as the reading process says, or the process itself failed.
    """
    search = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "webui.service.analysis", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "PYTHONPATH": search, "PYTHONIOENCODING": "utf-8"},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise wrong_file(
            path, f"it took longer than {timeout_s:.0f} s", f"用时超过 {timeout_s:.0f} 秒"
        ) from None
    except (OSError, ValueError):
        raise wrong_file(path, "the process that read it broke off", "读取它的进程中断了") from None
    if "error" in answer:
        raise error_from_json(answer["error"])
    data = answer["peak"]
    return Peak(**{**data, "holders": tuple(Holder(**item) for item in data["holders"])})
