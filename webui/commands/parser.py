"""What the command line takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from webui.commands.profile import ABOUT, add_arguments
from webui.commands.short import add_commands, add_target
from webui.optimizer.inverse import MOST
from webui.service.questions import SMALLEST
from webui.service.trials import KINDS


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = argparse.ArgumentParser(prog="python -m webui", description="VRAM Studio")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("plan", "choose the fastest settings that fit"),
        ("estimate", "memory and time of the named settings"),
        ("run", "plan, run and measure"),
        ("profile", ABOUT),
        ("compare", "run with several settings and one seed; time, peak and difference"),
        ("verify", "run at full size with random weights; estimated beside measured"),
        ("soak", "run in turn with random weights in one process; does memory stay behind?"),
    ):
        command = commands.add_parser(name, help=about)
        if name == "profile":
            add_arguments(command)
        else:
            command.add_argument(
                "file", metavar="FILE.yaml", help="a request or a list; - for stdin"
            )
        _add_studio(command, "NAME=FOLDER", "where the weights of a model are")
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
        if name == "compare":
            command.add_argument(
                "--random-weights", action="store_true", help="time and memory only: no weights"
            )
        if name == "soak":
            command.add_argument("--times", type=int, default=20, metavar="N", help="runs in all")
        if name == "verify":
            command.add_argument("--save", type=Path, help="write the receipts to this file")
            command.add_argument(
                "--retries", type=int, default=0, metavar="N",
                help="after running out of memory plan anew and run again, so often",
            )  # fmt: skip
            command.add_argument(
                "--trials",
                choices=KINDS,
                help="try the plans: at the smallest cap and beyond it, or against their rivals",
            )
    for command in add_commands(commands):
        _add_studio(command, "NAME[=FOLDER]", "another model, and where its weights are")
    resume = commands.add_parser("resume", help="go on with an upscaling or a document")
    resume.add_argument("run", metavar="RUN", help="its folder's name in outputs/")
    add_target(resume)
    _add_studio(resume, "NAME=FOLDER", "where the weights of a model are")
    accuracy = commands.add_parser("accuracy", help="this version's estimates of recorded runs")
    accuracy.add_argument(
        "files", metavar="FILE.json", nargs="*", type=Path,
        help="what `verify --save` wrote; those that ship when none is named",
    )  # fmt: skip
    claims = commands.add_parser("claims", help="what the guides say, beside our figures")
    claims.add_argument("--json", action="store_true", help="as JSON on stdout")
    return parser


def _add_studio(command: argparse.ArgumentParser, model: str, about: str) -> None:
    """The options of all commands that open a studio."""
    command.add_argument("--json", action="store_true", help="answers as JSON on stdout")
    command.add_argument(
        "--home", type=Path, default=Path.cwd(), help="folder for outputs and the ledger"
    )
    command.add_argument("--model", action="append", default=[], metavar=model, help=about)
