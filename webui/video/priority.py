"""Keeps an encoder from taking the processor from everybody else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def usual_priority() -> Iterator[None]:
    """Around what starts SVT-AV1's threads: where the user may, as root may, it gives them and the
    thread that asked real-time priority (svt_threads.c), and all other programs wait for them."""
    known = hasattr(os, "sched_getscheduler") and os.path.isdir("/proc/self/task")
    policy = os.sched_getscheduler(0) if known else None
    try:
        yield
    finally:
        if policy is not None and policy != os.SCHED_FIFO:
            for thread in map(int, os.listdir("/proc/self/task")):
                with suppress(OSError):  # it has ended
                    if os.sched_getscheduler(thread) == os.SCHED_FIFO:
                        os.sched_setscheduler(thread, policy, os.sched_param(0))
