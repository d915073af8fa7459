"""The command line: `python -m webui plan|estimate|run|verify FILE.yaml [--json]`.

`plan` also answers backwards (`--most frames|size`, `--smallest card`), takes its figures apart
(`--explain`), and lists what else there was to choose (`--frontier`).

stdout has the answers (with --json a list, one element a request, in order); stderr one line a
problem. Exit code 0: all went well; 2: bad input; 3: a request of `plan` or `run` cannot fit;
1: anything else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from webui.catalogue import load_models
from webui.core.errors import BadInput, Cancelled, StudioError
from webui.core.job import JobView
from webui.core.plan import Plan
from webui.core.receipt import Receipt
from webui.core.text import Text
from webui.core.units import format_bytes, format_seconds
from webui.estimator.verified import read_file, read_receipts
from webui.optimizer.inverse import MOST
from webui.service import Access, Studio
from webui.service.access import LOCAL
from webui.service.account import explanation_text, frontier_text
from webui.service.planner import does_not_fit
from webui.service.questions import SMALLEST
from webui.service.recorded import renewed, summary, was_measured
from webui.service.trials import KINDS, Trial, trials_table
from webui.service.verify import accuracy_table
from webui.storage import load_config

Answer = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    given = _parser().parse_args(arguments)
    if given.command == "accuracy":
        return _accuracy(given.files)
    try:
        requests = read_requests(given.file)
        studio = _studio(given)
    except StudioError as error:
        _complain(error)
        if given.json:
            print(json.dumps([{"error": error.to_contract()}], ensure_ascii=False, indent=1))
        return error.exit_code
    try:
        return _answer_all(given, studio, requests)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read the answers has heard enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        studio.close()


def read_requests(path: str) -> list[Any]:
    """One mapping or a list of them, from a YAML file; `-` is standard input.

    Raises:
        BadInput: the file cannot be read, or is not YAML.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise BadInput(
            "", Text(f"{path} cannot be read: {reason}.", f"无法读取 {path}：{reason}。")
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise BadInput(
            "", Text(f"{path} is not YAML{line}.", f"{path} 不是 YAML{line}。")
        ) from error
    requests = data if isinstance(data, list) else [data]
    if not requests or requests == [None]:
        raise BadInput(
            "",
            Text(f"{path} holds no request.", f"{path} 中没有请求。"),
            Text("For example: model: demo", "例如：model: demo"),
        )
    return requests


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m webui", description="VRAM Studio")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("plan", "choose the fastest settings that fit"),
        ("estimate", "memory and time of the named settings"),
        ("run", "plan, run and measure"),
        ("verify", "run at full size with random weights; estimated beside measured"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("file", metavar="FILE.yaml", help="a request or a list; - for stdin")
        command.add_argument("--json", action="store_true", help="answers as JSON on stdout")
        command.add_argument(
            "--home", type=Path, default=Path.cwd(), help="folder for outputs and the ledger"
        )
        command.add_argument(
            "--model",
            action="append",
            default=[],
            metavar="NAME=FOLDER",
            help="where the weights of a model are",
        )
        if name in ("plan", "estimate"):
            command.add_argument(
                "--explain", action="store_true", help="every term of each figure, and its source"
            )
        if name == "plan":
            backwards = command.add_mutually_exclusive_group()
            backwards.add_argument(
                "--most", choices=MOST, help="the most frames, or the largest size, that fits"
            )
            backwards.add_argument("--smallest", choices=SMALLEST, help="the smallest card")
            command.add_argument(
                "--frontier", action="store_true", help="memory against time: what can be chosen"
            )
        if name == "verify":
            command.add_argument("--save", type=Path, help="write the receipts to this file")
            command.add_argument(
                "--trials",
                choices=KINDS,
                help="try the plans: at the smallest cap and beyond it, or against their rivals",
            )
    accuracy = commands.add_parser("accuracy", help="this version's estimates of recorded runs")
    accuracy.add_argument(
        "files", metavar="FILE.json", nargs="*", type=Path,
        help="what `verify --save` wrote; those that ship when none is named",
    )  # fmt: skip
    return parser


def _accuracy(files: list[Path]) -> int:
    """`accuracy`: a table of the recorded runs, and its summary."""
    try:
        receipts = [receipt for file in files for receipt in read_file(file)]
    except StudioError as error:
        _complain(error)
        return error.exit_code
    receipts = receipts if files else list(read_receipts())
    runs, code = [], 0
    for receipt in filter(was_measured, receipts):
        try:
            runs.append(renewed(receipt))
        except StudioError as error:  # the others are shown all the same
            print(f"{receipt.id}: ", end="", file=sys.stderr)
            _complain(error)
            code = error.exit_code
    if not runs:
        print("There is no run on a card among them.", file=sys.stderr)
        return code or 2
    try:
        print(accuracy_table((run.receipt for run in runs), totals=False))
        print(summary(runs, receipts), flush=True)
    except BrokenPipeError:  # whoever read the table has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _studio(given: argparse.Namespace) -> Studio:
    folders = {}
    for pair in given.model:
        name, equals, folder = pair.partition("=")
        if not equals or name not in load_models() or not Path(folder).expanduser().is_dir():
            raise BadInput(
                "model",
                Text(f"'{pair}' is not NAME=FOLDER.", f"“{pair}”不是 NAME=FOLDER。"),
                Text(
                    f"NAME is one of {', '.join(load_models())}; the folder must exist.",
                    f"NAME 是 {'、'.join(load_models())} 之一；文件夹必须存在。",
                ),
            )
        folders[name] = Path(folder).expanduser().resolve()
    config = load_config(given.home, model_names=load_models()).with_models(folders)
    return Studio(
        given.home,
        access=Access(loopback=True),
        config=config,
        random_weights=given.command == "verify",
        forced=getattr(given, "trials", None) == "border",
        resume=False,
    )


def _answer_all(given: argparse.Namespace, studio: Studio, requests: list[Any]) -> int:
    if getattr(given, "trials", None):
        return _try_all(given, studio, requests)
    commands: dict[str, Callable[[Studio, Any, argparse.Namespace], tuple[Answer, int]]] = {
        "plan": _plan,
        "estimate": _plan,
        "run": _run,
        "verify": _run,
    }
    answers, codes = [], [0]
    for data in requests:
        try:
            answer, code = commands[given.command](studio, data, given)
        except StudioError as error:
            _complain(error)
            answer, code = {"error": error.to_contract()}, error.exit_code
        except Exception as error:  # a defect of ours; the other requests get their answers
            traceback.print_exc()
            failure = StudioError(
                Text(f"This failed: {error}.", f"出错了：{error}。"),
                Text("Please report it with the lines above.", "请附上以上内容反馈。"),
            )
            answer, code = {"error": failure.to_contract()}, 1
        answers.append(answer)
        codes.append(code)
        _save(given, answers)
    if given.json:
        print(json.dumps(answers, ensure_ascii=False, indent=1))
    if given.command == "verify":
        receipts = [Receipt.from_json(answer) for answer in answers if "measurement" in answer]
        if not given.json:
            print(accuracy_table(receipts))
    return next((code for code in (2, 1, 3) if code in codes), 0)


def _save(given: argparse.Namespace, answers: list[Answer]) -> None:
    """After each run: a long list may be stopped half way."""
    if given.command == "verify" and given.save is not None:
        given.save.write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n")


def _try_all(given: argparse.Namespace, studio: Studio, requests: list[Any]) -> int:
    """`verify --trials`: every request's trials, and what they showed."""
    answers: list[Answer] = []
    results: list[tuple[Trial, Receipt]] = []
    code = 0
    for group, data in enumerate(requests):
        try:
            for trial in studio.trials(given.trials, studio.parse(data), group):
                answer, _ = _run(studio, trial.request.to_json(), given)
                results.append((trial, Receipt.from_json(answer)))
                answers.append({**answer, "trial": trial.to_json()})
                _save(given, answers)
        except StudioError as error:
            _complain(error)
            answers.append({"error": error.to_contract()})
            code = error.exit_code
    if given.json:
        print(json.dumps(answers, ensure_ascii=False, indent=1))
    else:
        print(trials_table(results))
    return code


def _plan(studio: Studio, data: Any, given: argparse.Namespace) -> tuple[Answer, int]:
    """`plan` and `estimate`, and what is asked beside them."""
    search = given.command == "plan"
    asked = studio.questions.ask(
        studio.documents.counted(studio.parse(data)),
        most=given.most if search else None,
        smallest=given.smallest if search else None,
        explain=given.explain,
        frontier=search and given.frontier,
        search=search,
        owner=True,
    )
    plan = asked.plan
    if not given.json:
        if asked.answer is not None:
            print(asked.answer.text.en)
        _print_plan(plan)
        if asked.explanation is not None:
            print(explanation_text(asked.explanation))
        if asked.frontier is not None:
            print(frontier_text(asked.frontier))
    if search and not plan.fits:
        _complain(does_not_fit(plan))
    return asked.to_json(), 3 if search and not plan.fits else 0


def _run(studio: Studio, data: Any, given: argparse.Namespace) -> tuple[Answer, int]:
    job_id = studio.submit(studio.parse(data), LOCAL)
    view = None
    try:
        for view in studio.watch(job_id, LOCAL, 0.5):
            _show_progress(view)
    except KeyboardInterrupt:
        with suppress(StudioError):
            studio.cancel(job_id, LOCAL)
        raise
    assert view is not None
    if view.receipt is None:  # another studio on this home folder took the job away
        raise view.error or Cancelled()
    if view.error is not None:
        _complain(view.error)
    if not given.json and not getattr(given, "trials", None):
        _print_receipt(view.receipt)
    return view.receipt.to_json(), view.error.exit_code if view.error else 0


def _complain(error: StudioError) -> None:
    where = f"{error.field}: " if error.field else ""
    print(f"{where}{error.message.en} {error.hint.en}".strip(), file=sys.stderr)


def _show_progress(view: JobView) -> None:
    if not sys.stderr.isatty():
        return
    left = "" if view.seconds_left is None else f", {format_seconds(view.seconds_left)} left"
    step = f" {view.step}/{view.steps}" if view.steps else ""
    line = f"{view.phase or view.state}{step} {view.fraction:.0%}{left}"
    print(f"\r{line:<70}", end="\n" if view.state.final else "", file=sys.stderr, flush=True)


def _print_plan(plan: Plan) -> None:
    found = plan.estimate
    verdict = "fits" if found.fits else "does not fit"
    print(
        f"{found.model} on {found.card}: {verdict}, "
        f"{format_bytes(found.peak_device_bytes)} of {format_bytes(found.limit_bytes)}, "
        f"{format_seconds(found.seconds_range[0])} to {format_seconds(found.seconds_range[1])}"
    )
    print(f"  {format_bytes(found.host_bytes)} of this computer's own memory")
    for phase in found.phases:
        print(
            f"  {phase.name:<8} {format_bytes(phase.allocated_bytes):>10} allocated "
            f"{format_bytes(phase.reserved_bytes):>10} reserved  {format_seconds(phase.seconds)}"
        )
    print("  " + ", ".join(f"{name}: {value}" for name, value in found.settings.items()))
    for reason in (*plan.reasons, *found.notes):
        print(f"  - {reason.en}")
    for offer in plan.alternatives:
        print(f"  * {offer.text.en}")


def _print_receipt(receipt: Receipt) -> None:
    print(accuracy_table([receipt]))
    for name in receipt.outputs:
        print(f"  {name}")


if __name__ == "__main__":
    sys.exit(main())
