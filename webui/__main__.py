"""The command line: `python -m webui plan|estimate|run|compare|profile|verify|soak FILE [--json]`;
`generate PROMPT`, `upscale FILE` and `parse FILE`, which need no YAML; `resume RUN`; and
`accuracy FILE...` and `claims`, which look back at what was measured.

`plan` also answers backwards (`--most frames|size`, `--smallest card`), takes its figures apart
(`--explain`), and lists what else there was to choose (`--frontier`).

stdout has the answers (with --json a list, one element a request, in order); stderr one line a
problem. Exit code 0: all went well; 2: bad input; 3: a request of `plan` or `run` cannot fit;
1: anything else.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from webui.commands.inputs import open_studio, read_requests
from webui.commands.output import (
    Answer,
    answered,
    complain,
    exit_code,
    leave_pipe,
    print_answers,
)
from webui.commands.parser import build_parser
from webui.commands.plan import plan_one
from webui.commands.results import check_target
from webui.commands.run import resume_one, run_one
from webui.commands.short import COMMANDS, requests_of
from webui.core.errors import StudioError
from webui.core.receipt import Receipt
from webui.service import Studio


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    given = build_parser().parse_args(arguments)
    # What only one command needs comes with that command: a plan is there sooner.
    if given.command in ("accuracy", "claims"):
        from webui.commands import looking_back

        if given.command == "accuracy":
            return looking_back.accuracy(given.files)
        return looking_back.claims(given.json)
    if given.command == "profile":
        from webui.commands.profile import profile

        return profile(given)
    try:
        requests = _asked(given)
        studio = open_studio(given)
    except StudioError as error:
        complain(error)
        if given.json:
            print_answers([{"error": error.to_contract()}])
        return error.exit_code
    try:
        return _answer_all(given, studio, requests)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return leave_pipe()
    finally:
        studio.close()


def _asked(given: argparse.Namespace) -> list[Any]:
    """What a command is to answer: requests, or the run to go on with.

    Raises:
        BadInput: they cannot be read, or there is no folder for what they make.
    """
    if getattr(given, "to", None) is not None:
        check_target(given.to)
    if given.command in COMMANDS:
        return list(requests_of(given))
    return [given.run] if given.command == "resume" else read_requests(given.file)


def _answer_all(given: argparse.Namespace, studio: Studio, requests: list[Any]) -> int:
    if getattr(given, "trials", None):
        from webui.commands.series import try_all

        return try_all(given, studio, requests, lambda answers: _save(given, answers))
    if given.command == "soak":
        from webui.commands.series import soak

        return soak(given, studio, requests)
    answer_one: Callable[[Studio, Any, argparse.Namespace], tuple[Answer, int]] = run_one
    if given.command in ("plan", "estimate"):
        answer_one = plan_one
    elif given.command == "resume":
        answer_one = resume_one
    elif given.command == "compare":
        from webui.commands.series import compare_one

        answer_one = compare_one
        together = any(isinstance(data, dict) and "variants" in data for data in requests)
        requests = requests if together else [requests]
    answers: list[Answer] = []
    codes: list[int] = []
    names = given.inputs if given.command in COMMANDS else []
    for data in requests:
        if len(names) > 1:
            print(names[len(answers)], file=sys.stderr)
        try:
            answer, code = answered(partial(answer_one, studio, data, given))
        except KeyboardInterrupt:
            if left := names[len(answers) + 1 :]:
                print(f"not begun: {', '.join(left)}", file=sys.stderr)
            raise
        answers.append(answer)
        codes.append(code)
        _save(given, answers)
    if given.json:
        print_answers(answers)
    if given.command == "verify":
        from webui.service.verify import accuracy_table
        from webui.service.writing_speed import speed_table, writing_speeds

        receipts = [Receipt.from_json(answer) for answer in answers if "measurement" in answer]
        if not given.json:
            print(accuracy_table(receipts))
            if speeds := writing_speeds(receipts):
                print(speed_table(speeds))
    return exit_code(codes)


def _save(given: argparse.Namespace, answers: list[Answer]) -> None:
    """After each run: a long list may be stopped half way."""
    if given.command == "verify" and given.save is not None:
        given.save.write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n")


def _end_alike() -> None:
    """A closed terminal and a system that shuts down end a command as Ctrl-C does."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)


if __name__ == "__main__":
    _end_alike()
    sys.exit(main())
