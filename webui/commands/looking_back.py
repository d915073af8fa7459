"""`accuracy` and `claims`: recorded runs beside this version's estimates."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from webui.commands.output import complain, leave_pipe
from webui.core.errors import StudioError
from webui.estimator.verified import read_file, read_receipts
from webui.service.claims import check_shipped, claims_table
from webui.service.recorded import renewed, summary, was_measured
from webui.service.verify import accuracy_table


def accuracy(files: list[Path]) -> int:
    """`accuracy`: a table of the recorded runs, and its summary."""
    try:
        receipts = [receipt for file in files for receipt in read_file(file)]
    except StudioError as error:
        complain(error)
        return error.exit_code
    receipts = receipts if files else list(read_receipts())
    runs, code = [], 0
    for receipt in filter(was_measured, receipts):
        try:
            runs.append(renewed(receipt))
        except StudioError as error:  # the others are shown all the same
            print(f"{receipt.id}: ", end="", file=sys.stderr)
            complain(error)
            code = error.exit_code
    if not runs:
        print("There is no run on a card among them.", file=sys.stderr)
        return code or 2
    try:
        print(accuracy_table((run.receipt for run in runs), totals=False))
        print(summary(runs, receipts), flush=True)
    except BrokenPipeError:  # whoever read the table has seen enough
        return leave_pipe()
    return code


def claims(as_json: bool) -> int:
    """`claims`: each figure of the guides with our estimate, measurement and verdict."""
    checked = check_shipped()
    answers = [one.to_json() for one in checked]
    text = json.dumps(answers, ensure_ascii=False, indent=1) if as_json else claims_table(checked)
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever read them has seen enough
        return leave_pipe()
    return 0
