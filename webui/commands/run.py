"""`run` and `verify`: one request through the queue; `resume`: one that ended early."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from webui.commands.output import Answer, ProgressLine, complain, print_receipt
from webui.commands.results import copy_results
from webui.commands.short import COMMANDS
from webui.core.errors import Cancelled, StudioError
from webui.service import Studio
from webui.service.access import LOCAL
from webui.service.resuming import resume
from webui.service.studio import IN_PIECES

_ALONE = ("run", "verify", "resume", *COMMANDS)
"""Commands that show each run by itself."""


def run_one(studio: Studio, data: Any, given: argparse.Namespace) -> tuple[Answer, int]:
    """Runs a request to its end; Ctrl-C cancels it.

    Returns:
        The receipt, of a failed run too, and the exit code.
    """
    request = studio.parse(data)
    return _followed(studio, studio.submit(request, LOCAL), request.task, given)


def resume_one(studio: Studio, run: str, given: argparse.Namespace) -> tuple[Answer, int]:
    """Goes on with a run over frames or pages; what is made stays.

    Args:
        studio: whose run.
        run: its folder's name, or its id, which that ends in.
        given: the options.

    Raises:
        NotFound: there is no such run.
        NotAllowed: it did not end early.
    """
    run_id = run.rstrip("/").rpartition("-")[2]
    return _followed(studio, run_id, resume(studio, run_id, LOCAL), given)


def _followed(
    studio: Studio, job_id: str, task: str, given: argparse.Namespace
) -> tuple[Answer, int]:
    view, progress = None, ProgressLine(logged=not given.json)
    try:
        for view in studio.watch(job_id, LOCAL, 0.5):
            progress.show(view)
    except KeyboardInterrupt:
        with suppress(StudioError):
            studio.cancel(job_id, LOCAL)
        if task in IN_PIECES:
            unit = "pages" if task == "parse" else "segments"
            print(
                f"\n{unit} that are finished are kept; go on with: {_resume(job_id, given)}",
                file=sys.stderr,
            )
        raise
    assert view is not None
    if view.receipt is None:  # another studio on this home folder took the job away
        raise view.error or Cancelled()
    if view.error is not None:
        complain(view.error)
    if not given.json and given.command in _ALONE and not getattr(given, "trials", None):
        print_receipt(view.receipt, given.home)
    code = view.error.exit_code if view.error else 0
    if getattr(given, "to", None) is not None:
        try:
            for path in copy_results(view.receipt, given.home, given.to):
                print(f"  {path}", file=sys.stderr if given.json else sys.stdout)
        except StudioError as error:  # what was made stands in the receipt all the same
            complain(error)
            code = code or error.exit_code
    return view.receipt.to_json(), code


def _resume(job_id: str, given: argparse.Namespace) -> str:
    """The command that goes on with a run, in the same studio."""
    words = ["python", "-m", "webui", "resume", job_id]
    if given.home != Path.cwd():
        words += ["--home", str(given.home)]
    for pair in given.model:
        words += ["--model", pair] if "=" in pair else []
    if getattr(given, "to", None) is not None:
        words += ["--to", str(given.to)]
    return shlex.join(words)
