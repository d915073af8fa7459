"""Questions about files of strangers, asked in a process of their own: whatever a decoder does, the
studio goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

from webui.core.errors import BadInput, StudioError, error_from_json
from webui.core.text import Text

ANSWER_S = 120.0
"""How long an answer may take."""
_LOOK_S = 0.5


def ask_apart(
    module: Sequence[str],
    failed: Text,
    hint: Text,
    within_s: float = ANSWER_S,
    closing: Event | None = None,
) -> dict[str, Any]:
    """What `python -m MODULE ...` prints: one JSON object.

    Args:
        module: its name and its arguments.
        failed: said where no answer comes.
        hint: what to do then.
        within_s: how long an answer may take.
        closing: set when nobody waits for the answer any more.

    Raises:
        BadInput: about `input`; the process's own error, or `failed`.
    """
    try:
        return run_apart(module, within_s, closing)
    except (OSError, ValueError):
        raise BadInput("input", failed, hint) from None


def run_apart(
    module: Sequence[str], within_s: float, closing: Event | None = None
) -> dict[str, Any]:
    """As `ask_apart`, for those who tell apart what went wrong.

    Raises:
        StudioError: the process's own error.
        TimeoutError: it took too long, or nobody waits any more.
        OSError, ValueError: it could not be started, or ended without an answer.
    """
    with subprocess.Popen(
        [sys.executable, "-m", *module],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],  # where `webui` can be imported from
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    ) as process:
        try:
            found = json.loads(_answer(process, time.monotonic() + within_s, closing))
        finally:
            process.kill()
    if "error" in found:
        error: StudioError = error_from_json(found["error"])
        raise error
    return dict(found)


def _answer(process: subprocess.Popen[bytes], until: float, closing: Event | None) -> bytes:
    """What the process printed.

    Raises:
        TimeoutError: it took too long, or nobody waits any more.
    """
    while True:
        left = until - time.monotonic()
        if left <= 0 or (closing is not None and closing.is_set()):
            raise TimeoutError
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=min(_LOOK_S, left))[0]
