"""Questions about files of strangers, asked in a process of their own: whatever a decoder does, the
studio goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from webui.core.errors import BadInput, StudioError, error_from_json
from webui.core.text import Text

ANSWER_S = 120.0
"""How long an answer may take."""


def ask_apart(
    module: Sequence[str], failed: Text, hint: Text, within_s: float = ANSWER_S
) -> dict[str, Any]:
    """What `python -m MODULE ...` prints: one JSON object.

    Args:
        module: its name and its arguments.
        failed: said where no answer comes.
        hint: what to do then.
        within_s: how long an answer may take.

    Raises:
        BadInput: about `input`; the process's own error, or `failed`.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", *module],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=within_s,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        found = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise BadInput("input", failed, hint) from None
    if "error" in found:
        error: StudioError = error_from_json(found["error"])
        raise error
    return dict(found)
