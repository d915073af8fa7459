"""`python -m webui profile`: what it takes, and what it prints."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from webui.commands.inputs import open_studio
from webui.commands.output import complain, print_answers
from webui.core.errors import BadInput, StudioError, error_from_json
from webui.core.text import Text
from webui.core.units import format_seconds
from webui.service import Studio
from webui.service.access import LOCAL
from webui.service.analysis import Analysis, analyse
from webui.service.analysis.text import analysis_text
from webui.service.profile.examples import EXAMPLES
from webui.service.profile.overhead import PAIRS, measure_overhead, overhead_table
from webui.service.profile.report import table
from webui.service.profile.rows import Row
from webui.service.profile.running import Outcome, ProfileRun
from webui.service.profile.surroundings import others_lines
from webui.storage.profiles import EVENTS
from webui.storage.yaml_text import decode_yaml, load_yaml

ABOUT = "run a matrix of configurations and record their memory; analyse what was recorded"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What `profile` takes beside what all commands do."""
    command.add_argument(
        "file", metavar="MATRIX.yaml", nargs="?",
        help=f"rows, a list or values to multiply out; - for stdin; or an example: "
        f"{', '.join(EXAMPLES)}",
    )  # fmt: skip
    command.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where the files go (outputs/profiles)"
    )
    command.add_argument(
        "--random-weights", action="store_true", help="full size without a download; no pictures"
    )
    command.add_argument(
        "--example", choices=tuple(EXAMPLES), help="print an example matrix, and run nothing"
    )
    command.add_argument(
        "--overhead", action="store_true", help="run each row with and without recording, in turns"
    )
    command.add_argument("--pairs", type=int, default=PAIRS, help="runs of each kind a row")
    command.add_argument(
        "--analyse", type=Path, metavar="PATH",
        help="a row's or a profile's folder, memory_events.json, a trace or a snapshot",
    )  # fmt: skip
    command.add_argument("--against", type=Path, metavar="PATH", help="another row to compare with")


def profile(given: argparse.Namespace) -> int:
    """One call of `profile`; returns its exit code."""
    if given.example:
        print(EXAMPLES[given.example], end="")
        return 0
    try:
        if given.analyse is not None:
            return _analyse(given)
        text, name = _read(given)
        studio = open_studio(given)
    except StudioError as error:
        return _fail(given, error)
    try:
        rows = studio.profiler.read(text, name)
        if given.overhead:
            return _overhead(given, studio, rows)
        return _run(given, studio, rows, name, text)
    except StudioError as error:
        return _fail(given, error)
    except KeyboardInterrupt:
        print("stopped; what was done stays in the profile's folder", file=sys.stderr)
        return 1
    finally:
        studio.close()


def _read(given: argparse.Namespace) -> tuple[str, str]:
    """The matrix and its name.

    Raises:
        BadInput: no file was named, or it cannot be read.
    """
    if given.file is None:
        raise BadInput(
            "",
            Text("profile needs a matrix.", "profile 需要一个配置矩阵。"),
            Text(
                f"Name a file, or an example: {', '.join(EXAMPLES)}.",
                f"请指定文件，或示例：{'、'.join(EXAMPLES)}。",
            ),
        )
    if given.file == "-":
        return decode_yaml(sys.stdin.buffer.read(2**24), "stdin"), "stdin"
    path = Path(given.file)
    if given.file in EXAMPLES and not path.exists():
        return EXAMPLES[given.file], given.file
    try:
        return load_yaml(path), path.stem
    except OSError as error:
        reason = error.strerror or "?"
        raise BadInput(
            "", Text(f"{path} cannot be read: {reason}.", f"无法读取 {path}：{reason}。")
        ) from None


def _run(
    given: argparse.Namespace,
    studio: Studio,
    rows: list[Row],
    name: str,
    text: str,
) -> int:
    named = False

    def on_change(run: ProfileRun) -> None:
        nonlocal named
        if not named:  # before the first row, while one can still end them
            named = True
            if run.environment["kind"] == "cuda":
                print(*others_lines(run.environment), sep="\n", file=sys.stderr)
        _show(run)

    done = studio.profiler.run(rows, name, text, LOCAL, given.output, on_change)
    codes = []
    for result in done.summary["rows"]:
        if result["error"]:
            error = error_from_json(result["error"])
            print(f"{result['row']}: ", end="", file=sys.stderr)
            complain(error)
            codes.append(error.exit_code)
    if given.json:
        print_answers(_answers(done))
    else:
        print(table(done.summary["rows"]))
        for result in done.summary["rows"]:
            if result.get("bottleneck"):
                print(f"{result['row']}: {result['bottleneck']['en']}")
            for note in result["notes"]:
                print(f"{result['row']}: {note['en']}")
        print(f"files: {done.folder}")
    return next((code for code in (2, 1, 3) if code in codes), 0)


def _answers(done: Outcome) -> list[dict[str, Any]]:
    """A receipt for each row, with what the profile adds; an error for what did not run."""
    answers = []
    for result, receipt in zip(done.summary["rows"], done.receipts, strict=True):
        more = {**result, "folder": str(done.folder / result["folder"])}
        if receipt is not None:
            answers.append({**receipt.to_json(), "profile": more})
        else:
            error = error_from_json(result["error"]).to_contract()
            answers.append({"error": error, "profile": more})
    return answers


def _show(run: ProfileRun) -> None:
    """A line that follows the running row, where somebody watches."""
    if not sys.stderr.isatty():
        return
    row, view = run.running, run.view
    if row is None or view is None:
        print(f"\r{'':<78}\r", end="", file=sys.stderr, flush=True)
        return
    left = "" if view.seconds_left is None else f", {format_seconds(view.seconds_left)} left"
    what = "warm-up" if run.warming else f"{len(run.results) + 1}/{len(run.rows)} {row.name}"
    line = f"{what}: {view.phase or view.state}"
    line = f"{line} {view.fraction:.0%}{left}"
    print(f"\r{line[:78]:<78}", end="", file=sys.stderr, flush=True)


def _overhead(given: argparse.Namespace, studio: Studio, rows: list[Row]) -> int:
    def on_run(row: str, recorded: bool, seconds: float) -> None:
        kind = "recorded" if recorded else "bare"
        print(f"{row}: {seconds:.3f} s {kind}", file=sys.stderr)

    found = measure_overhead(studio.profiler, rows, LOCAL, max(1, given.pairs), on_run)
    if given.json:
        print(json.dumps([item.to_json() for item in found], indent=1))
    else:
        print(overhead_table(found))
    return 0


def _analyse(given: argparse.Namespace) -> int:
    """`--analyse`: one row, one file, or all rows of a profile."""
    path = _found(given.analyse, given.home)
    against = None if given.against is None else _found(given.against, given.home)
    rows = sorted(found.parent for found in path.glob(f"*/{EVENTS}")) if path.is_dir() else []
    found: list[Analysis] = [analyse(row, against) for row in rows or [path]]
    if given.json:
        print(json.dumps([item.to_json() for item in found], ensure_ascii=False, indent=1))
    else:
        print("\n".join(map(analysis_text, found)), end="")
    return 0


def _found(path: Path, home: Path) -> Path:
    """The path, or a profile of that name.

    Raises:
        BadInput: there is neither.
    """
    for place in (path, home / "outputs" / "profiles" / path):
        if place.exists():
            return place
    raise BadInput(
        "", Text(f"There is no file or folder {path}.", f"没有 {path} 这个文件或文件夹。")
    )


def _fail(given: argparse.Namespace, error: StudioError) -> int:
    complain(error)
    if given.json:
        print_answers([{"error": error.to_contract()}])
    return error.exit_code
