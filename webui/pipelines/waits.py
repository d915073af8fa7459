"""What a model waited for: frames to come, or to be taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from webui.pipelines.running import Report

READING, WRITING = "reading", "writing"


@contextmanager
def waiting(report: Report, what: str) -> Iterator[None]:
    """Tells the report how long the model waited, if it wants to know.

    Args:
        report: may have `waited`.
        what: READING or WRITING.
    """
    began = time.perf_counter()
    try:
        yield
    finally:
        waited = getattr(report, "waited", None)
        if waited is not None:
            waited(what, time.perf_counter() - began)
