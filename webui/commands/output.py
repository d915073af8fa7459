"""What commands print: problems, progress, receipts."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from webui.core.errors import StudioError
from webui.core.job import JobView
from webui.core.receipt import Receipt
from webui.core.text import Text
from webui.core.units import format_seconds
from webui.core.work import WorkRecord
from webui.service.verify import accuracy_table

Answer = dict[str, Any]
"""The contract's form of what was found for one request."""
LOG_EVERY_S = 30.0
"""Between lines about a job in a log."""


def print_answers(answers: Sequence[Answer]) -> None:
    """The answers as one JSON list."""
    print(json.dumps(answers, ensure_ascii=False, indent=1))


def answered(run: Callable[[], tuple[Answer, int]]) -> tuple[Answer, int]:
    """What a request's run gives; its error, complained of, as an answer with its exit code."""
    try:
        return run()
    except StudioError as error:
        complain(error)
        return {"error": error.to_contract()}, error.exit_code
    except Exception as error:  # a defect of ours; the other requests get their answers
        traceback.print_exc()
        failure = StudioError(
            Text(f"This failed: {error}.", f"出错了：{error}。"),
            Text("Please report it with the lines above.", "请附上以上内容反馈。"),
        )
        return {"error": failure.to_contract()}, 1


def exit_code(codes: Sequence[int]) -> int:
    """The one code of several requests: bad input first, then failures, then what cannot fit."""
    return next((code for code in (2, 1, 3) if code in codes), 0)


def leave_pipe() -> int:
    """Whoever read the answers has heard enough: nothing more is written; returns the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def complain(error: StudioError) -> None:
    """One line on stderr."""
    where = f"{error.field}: " if error.field else ""
    print(f"{where}{error.message.en} {error.hint.en}".strip(), file=sys.stderr)


class ProgressLine:
    """How a job stands, on stderr: one line that is drawn again where somebody watches; in a log a
    new one now and then.

    Args:
        logged: whether a log is told; not where each of its lines is to be a problem.
    """

    def __init__(self, logged: bool) -> None:
        self._watched = sys.stderr.isatty()
        self._logged = logged
        self._told_at = time.monotonic()

    def show(self, view: JobView) -> None:
        """Tells of the job, if it is time."""
        left = "" if view.seconds_left is None else f", {format_seconds(view.seconds_left)} left"
        step = f" {view.step}/{view.steps}" if view.steps else ""
        line = f"{view.phase or view.state}{step} {view.fraction:.0%}{left}"
        if self._watched:
            end = "\n" if view.state.final else ""
            print(f"\r{line:<70}", end=end, file=sys.stderr, flush=True)
        elif self._logged and time.monotonic() - self._told_at >= LOG_EVERY_S:
            self._told_at = time.monotonic()
            print(f"{view.input_name or view.id}: {line}", file=sys.stderr, flush=True)


def print_receipt(receipt: Receipt, home: Path) -> None:
    """Estimated beside measured, and what was made: by its path, from where the user stands."""
    for attempt in receipt.attempts:
        print(f"  - {attempt.changed.en or attempt.error['message']['en']}")
    print(accuracy_table([receipt]))
    if receipt.work is not None:
        print_work(receipt.work)
    for name in receipt.outputs:
        print(f"  {name if home == Path.cwd() else home / name}")


def print_work(work: WorkRecord) -> None:
    """Who did what, where several workers did it; what they waited for, and what is to be known."""
    for number, worker in enumerate(work.workers, 1):
        if not work.shared:
            break
        rate = f", {worker.rate:.3g} {work.unit} a second" if worker.rate else ""
        often = "once" if worker.lost == 1 else f"{worker.lost} times"
        again = f"; lost {often}, {worker.lost_units} {work.unit} made again" if worker.lost else ""
        print(
            f"  worker {number} {worker.device}: {worker.pieces} pieces, {worker.units} {work.unit}"
            f"{rate}; {format_seconds(worker.work_s)} of work, {format_seconds(worker.load_s)} of "
            f"loading{again}"
        )
    for text in (*work.notes, *work.waits):
        print(f"  {text.en}")
