"""`python -m tests.documents_figures [--pages N]`: how well and how fast OCR reads drawn pages.

Prints the character error rate on clean pages and on pages that lie askew by 2 degrees, pages a
minute (by the clock, and by the processor's time on two cores, which other programs do not
change), and how much the process grew.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import psutil

from tests.rendered_pages import fonts, render
from webui.catalogue import find_model
from webui.core.documents import ScanCard, ScanRequest
from webui.core.parse import parse_request
from webui.core.units import MIB
from webui.pipelines import ocr
from webui.pipelines.ocr.run import read_page

TURNED_DEGREES = 2.0
SETTLED = 10
"""Pages after which the process is taken to have its size."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.documents_figures")
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--worst", action="store_true", help="show the pages with most errors")
    given = parser.parse_args()
    if not fonts(True) or not fonts(False):
        print("Needs a Latin and a Chinese font: apt-get install fonts-dejavu fonts-noto-cjk")
        return 1
    card = find_model("ocr", "parse")
    request = parse_request({"task": "parse", "model": "ocr"}, find_model)
    assert isinstance(card, ScanCard) and isinstance(request, ScanRequest)
    pipe = ocr.load(card, {}, {}, "cpu")
    process, settled_bytes = psutil.Process(), 0
    read_page(pipe, request, render(0).picture)
    for name, turned in (("clean", 0.0), (f"turned {TURNED_DEGREES:g} degrees", TURNED_DEGREES)):
        wrong = letters = 0
        clock_s = busy_s = 0.0
        rates: list[tuple[float, int]] = []
        for number in range(given.pages):
            page = render(number, turned)
            clock, busy = time.perf_counter(), time.process_time()
            blocks = read_page(pipe, request, page.picture)
            clock_s += time.perf_counter() - clock
            busy_s += time.process_time() - busy
            found = folded("\n".join(block.text for block in blocks))
            distance = edits(found, folded(page.text))
            wrong, letters = wrong + distance, letters + len(folded(page.text))
            rates.append((distance / len(folded(page.text)), number))
            if number == SETTLED and not settled_bytes:
                settled_bytes = process.memory_info().rss
        print(
            f"{name}: {given.pages} pages, character error rate {wrong / letters:.2%} "
            f"({wrong} of {letters}), worst page {max(rates)[0]:.1%}; "
            f"{60 * given.pages / clock_s:.1f} pages a minute by the clock, "
            f"{60 * given.pages / (busy_s / 2):.1f} by the time of two processor cores",
            flush=True,
        )
        if given.worst:
            print("  worst pages:", sorted(rates, reverse=True)[:6])
    held_bytes = process.memory_info().rss
    grown = held_bytes - (settled_bytes or held_bytes)
    print(f"memory: {held_bytes / MIB:.0f} MiB, {grown / MIB:+.0f} MiB since settled")
    return 0


def folded(text: str) -> str:
    """Text with each run of white space as one space."""
    return " ".join(text.split())


def edits(one: str, other: str) -> int:
    """Letters to insert, delete or replace (Levenshtein), by rows."""
    letters = np.array([ord(letter) for letter in other], dtype=np.int64)
    row = np.arange(len(other) + 1)
    for count, letter in enumerate(one, 1):
        changed = np.minimum(row[:-1] + (letters != ord(letter)), row[1:] + 1)
        new = np.concatenate(([count], changed))
        # An insertion may follow on what stands to the left.
        steps = np.arange(len(new))
        row = np.minimum.accumulate(new - steps) + steps
    return int(row[-1])


if __name__ == "__main__":
    sys.exit(main())
