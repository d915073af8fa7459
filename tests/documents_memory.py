"""`python -m tests.documents_memory [--pages N]`: does a long document make the studio grow?

A PDF of drawn pages (of several sizes, some askew) goes the whole way: the studio submits it, a
worker draws, reads and keeps its pages. Prints the resident memory of both processes every 50
pages, how much the worker grew since its first pages, and pages a minute by the clock.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from PIL import Image

from tests.rendered_pages import fonts, render
from webui.core.job import JobState
from webui.core.units import MIB
from webui.service import Studio
from webui.service.access import LOCAL, Access

SETTLED = 20
"""Pages after which the worker is taken to have its size: the highest until then, as memory also
rises and falls within each page."""
EVERY = 50
DISTINCT = 40
"""Drawn pages; a longer document repeats them."""
DPI = 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.documents_memory")
    parser.add_argument("--pages", type=int, default=500)
    given = parser.parse_args()
    if not fonts(True) or not fonts(False):
        print("Needs a Latin and a Chinese font: apt-get install fonts-dejavu fonts-noto-cjk")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "long.pdf"
        pages = drawn(given.pages)
        next(pages).save(
            document, "PDF", save_all=True, append_images=pages, resolution=DPI, quality=85
        )
        print(f"{given.pages} pages, {document.stat().st_size / MIB:.0f} MiB", flush=True)
        studio = Studio(Path(folder) / "home", access=Access())
        try:
            return read(studio, document, given.pages)
        finally:
            studio.close()


def drawn(count: int) -> Iterator[Image.Image]:
    """Pages one after the other: every fourth lies askew, others are small or lie across."""
    drawn_pages: list[Image.Image] = []
    for number in range(count):
        if number < DISTINCT:
            page = render(number, 2.0 if number % 4 == 3 else 0.0).picture
            if number % 10 == 5:
                page = page.resize((page.width // 2, page.height // 2))
            if number % 10 == 8:
                page = page.crop((0, 0, page.width, page.height // 2))
            drawn_pages.append(page)
        yield drawn_pages[number % DISTINCT]


def read(studio: Studio, document: Path, count: int) -> int:
    """Reads the document and tells of it; 1 where it grew beyond 100 MB."""
    request = studio.parse({"task": "parse", "model": "ocr", "card": "cpu", "input": str(document)})
    job = studio.submit(request, LOCAL)
    here, worker = psutil.Process(), None
    began = 0.0
    settled_bytes = highest_bytes = 0
    tell = SETTLED
    while (view := studio.view(job, LOCAL)).state in (JobState.QUEUED, JobState.RUNNING):
        time.sleep(0.2)
        if not view.worker_pid:
            continue
        if worker is None or worker.pid != view.worker_pid:
            worker = psutil.Process(view.worker_pid)
        try:
            held_bytes = worker.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        done = len(studio.documents.done(job, LOCAL))
        began = began or (time.monotonic() if done else 0.0)
        if done <= SETTLED:
            settled_bytes = max(settled_bytes, held_bytes)
        else:
            highest_bytes = max(highest_bytes, held_bytes)
        if done >= tell:
            tell = (done // EVERY + 1) * EVERY
            rate = 60 * (done - 1) / max(1e-9, time.monotonic() - began)
            print(
                f"page {done}: worker {held_bytes / MIB:.0f} MiB, studio "
                f"{here.memory_info().rss / MIB:.0f} MiB, {rate:.1f} pages a minute",
                flush=True,
            )
    run = studio.run(job, LOCAL)
    failed = sum(page.error is not None for page in studio.documents.pages(job, LOCAL))
    held_bytes = worker.memory_info().rss if worker is not None and worker.is_running() else 0
    grown = highest_bytes - settled_bytes
    print(
        f"{run.state}: {len(studio.documents.done(job, LOCAL))} of {count} pages, {failed} failed; "
        f"worker at most {settled_bytes / MIB:.0f} MiB in the first {SETTLED} pages, "
        f"{highest_bytes / MIB:.0f} MiB after that ({grown / MIB:+.0f} MiB), "
        f"{held_bytes / MIB:.0f} MiB at rest"
    )
    return int(run.state != JobState.DONE or grown > 100e6)


if __name__ == "__main__":
    sys.exit(main())
