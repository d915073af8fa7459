"""Commands of several runs that belong together: trials, `soak`, `compare`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from webui.commands.output import Answer, answered, complain, exit_code, print_answers
from webui.commands.run import run_one
from webui.core.errors import NotAllowed, StudioError, WorkerLost
from webui.core.receipt import Receipt
from webui.service import Studio
from webui.service.access import LOCAL
from webui.service.compare import comparison_table, read_variants
from webui.service.soak import SoakRun, judge, soak_table
from webui.service.trials import Trial, trials_table
from webui.service.variants import Refused, prepare

UNLOADED_WITHIN_S = 10.0
"""How long the queue may take to hear that a run has ended; it takes milliseconds."""


def try_all(
    given: argparse.Namespace,
    studio: Studio,
    requests: list[Any],
    save: Callable[[list[Answer]], None],
) -> int:
    """`verify --trials`: every request's trials, and what they showed."""
    answers: list[Answer] = []
    results: list[tuple[Trial, Receipt]] = []
    codes = []
    for group, data in enumerate(requests):
        try:
            for trial in studio.trials(given.trials, studio.parse(data), group):
                answer, _ = run_one(studio, trial.request.to_json(), given)
                results.append((trial, Receipt.from_json(answer)))
                answers.append({**answer, "trial": trial.to_json()})
                save(answers)
        except StudioError as error:
            complain(error)
            answers.append({"error": error.to_contract()})
            codes.append(error.exit_code)
    if given.json:
        print_answers(answers)
    else:
        print(trials_table(results))
    return exit_code(codes)


def soak(given: argparse.Namespace, studio: Studio, requests: list[Any]) -> int:
    """`soak`: the requests in turn, in one process; a table, and whether all is well."""
    runs: list[SoakRun] = []
    answers: list[Answer] = []
    codes: list[int] = []
    for number in range(max(1, given.times)):
        index = number % len(requests)
        answer, code = answered(partial(run_one, studio, requests[index], given))
        codes.append(code)
        answers.append(answer)
        if "id" not in answer:  # it did not come to a run
            continue
        pid = (studio.devices()["worker"] or {}).get("pid")
        run = SoakRun(
            request=index,
            worker_pid=pid,
            receipt=Receipt.from_json(answer),
            unloaded_bytes=_unloaded_bytes(studio),
        )
        runs.append(run)
        answer |= {"worker_pid": pid, "unloaded_bytes": run.unloaded_bytes}
    if runs and not judge(runs).clean:
        codes.append(1)
    if given.json:
        print_answers(answers)
    else:
        print(soak_table(runs))
    return exit_code(codes)


def _unloaded_bytes(studio: Studio) -> int | None:
    """What is allocated without the model; None where the worker ended, or could not be asked."""
    deadline = time.monotonic() + UNLOADED_WITHIN_S
    while time.monotonic() < deadline:
        try:
            return studio.unload()
        except NotAllowed:  # the run has ended, and the queue is about to hear of it
            time.sleep(0.02)
        except WorkerLost:
            return None
    return None


def compare_one(studio: Studio, data: Any, given: argparse.Namespace) -> tuple[Answer, int]:
    """`compare`: the variants one after the other, then side by side."""
    asked = read_variants(data)
    prepared = prepare(asked, studio.parse, studio.plan)
    if prepared.note.en:
        print(prepared.note.en, file=sys.stderr)
    shown: list[str | Refused] = []
    codes: list[int] = []
    for variant in prepared.variants:
        try:
            if isinstance(variant, Refused):
                raise variant.error
            answer, code = run_one(studio, variant.to_json(), given)
            shown.append(answer["id"])
        except StudioError as error:
            complain(error)
            named = variant.asked if isinstance(variant, Refused) else variant.settings
            shown.append(Refused(asked=named, error=error))
            code = error.exit_code
        codes.append(code)
    ran = iter(studio.comparisons.of([one for one in shown if isinstance(one, str)], LOCAL))
    columns = [next(ran) if isinstance(one, str) else one for one in shown]
    if not given.json:
        print(comparison_table(columns))
    runs = [column.to_json() for column in columns]
    return {"runs": runs, "note": prepared.note.en}, exit_code(codes)
