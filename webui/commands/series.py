"""Commands of several runs that belong together: trials, `soak`, `compare`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from webui.commands.output import Answer, complain, print_answers
from webui.commands.run import run_one
from webui.core.errors import StudioError
from webui.core.receipt import Receipt
from webui.service import Studio
from webui.service.access import LOCAL
from webui.service.compare import comparison_table, read_variants
from webui.service.soak import SoakRun, judge, soak_table
from webui.service.trials import Trial, trials_table


def try_all(
    given: argparse.Namespace,
    studio: Studio,
    requests: list[Any],
    save: Callable[[list[Answer]], None],
) -> int:
    """`verify --trials`: every request's trials, and what they showed."""
    answers: list[Answer] = []
    results: list[tuple[Trial, Receipt]] = []
    code = 0
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
            code = error.exit_code
    if given.json:
        print_answers(answers)
    else:
        print(trials_table(results))
    return code


def soak(given: argparse.Namespace, studio: Studio, requests: list[Any]) -> int:
    """`soak`: the requests in turn, in one process; a table, and whether all is well."""
    runs: list[SoakRun] = []
    answers: list[Answer] = []
    try:
        for number in range(max(1, given.times)):
            index = number % len(requests)
            answer, _ = run_one(studio, requests[index], given)
            pid = (studio.devices()["worker"] or {}).get("pid")
            runs.append(SoakRun(request=index, worker_pid=pid, receipt=Receipt.from_json(answer)))
            answers.append({**answer, "worker_pid": pid})
    except StudioError as error:
        complain(error)
        answers.append({"error": error.to_contract()})
    if given.json:
        print_answers(answers)
    else:
        print(soak_table(runs))
    return 0 if len(runs) == len(answers) and judge(runs).clean else 1


def compare_one(studio: Studio, data: Any, given: argparse.Namespace) -> tuple[Answer, int]:
    """`compare`: the variants one after the other, then side by side."""
    ran = [run_one(studio, one, given) for one in read_variants(data)]
    columns = studio.comparisons.of([answer["id"] for answer, _ in ran], LOCAL)
    if not given.json:
        print(comparison_table(columns))
    runs = [column.to_json() for column in columns]
    return {"runs": runs}, max(code for _, code in ran)
