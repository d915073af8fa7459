"""`run` and `verify`: one request through the queue."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any

from webui.commands.output import Answer, complain, print_receipt, show_progress
from webui.core.errors import Cancelled, StudioError
from webui.service import Studio
from webui.service.access import LOCAL


def run_one(studio: Studio, data: Any, given: argparse.Namespace) -> tuple[Answer, int]:
    """Runs a request to its end; Ctrl-C cancels it.

    Returns:
        The receipt, of a failed run too, and the exit code.
    """
    job_id = studio.submit(studio.parse(data), LOCAL)
    view = None
    try:
        for view in studio.watch(job_id, LOCAL, 0.5):
            show_progress(view)
    except KeyboardInterrupt:
        with suppress(StudioError):
            studio.cancel(job_id, LOCAL)
        raise
    assert view is not None
    if view.receipt is None:  # another studio on this home folder took the job away
        raise view.error or Cancelled()
    if view.error is not None:
        complain(view.error)
    alone = given.command == "run" or (given.command == "verify" and not given.trials)
    if not given.json and alone:
        print_receipt(view.receipt)
    return view.receipt.to_json(), view.error.exit_code if view.error else 0
