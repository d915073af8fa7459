"""Questions about files of strangers, asked in a process of their own: whatever a decoder does, the
studio goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
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
        with subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        ) as process:
            try:
                answer = _answer(process, time.monotonic() + within_s, closing)
            finally:
                process.kill()
        found = json.loads(answer)
    except (OSError, TimeoutError, ValueError):
        raise BadInput("input", failed, hint) from None
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
        try:
            return process.communicate(timeout=_LOOK_S)[0]
        except subprocess.TimeoutExpired:
            if time.monotonic() > until or (closing is not None and closing.is_set()):
                raise TimeoutError from None
