"""What this process may use of the host: memory and processors, container limits respected."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where cgroup v2 shows a container its own limits."""


def host_memory_bytes(cgroup: Path = CGROUP) -> int:
    """Memory that this process may use: the host's, or the container's limit if that is less."""
    limit = _cgroup_number(cgroup / "memory.max")
    return min(_installed_bytes(), limit) if limit else _installed_bytes()


@lru_cache(maxsize=1)
def _installed_bytes() -> int:
    """Asked once: every plan asks for it."""
    import psutil

    return int(psutil.virtual_memory().total)


def host_available_bytes(cgroup: Path = CGROUP) -> int:
    """Memory that can still be taken without swapping, within the container's limit.

    The page cache counts against a container's limit but is given back on demand, so inactive
    file pages count as available.
    """
    import psutil

    available = int(psutil.virtual_memory().available)
    limit = _cgroup_number(cgroup / "memory.max")
    used = _cgroup_number(cgroup / "memory.current")
    if limit is None or used is None:
        return available
    reclaimable = _cgroup_stat(cgroup / "memory.stat", "inactive_file")
    return max(0, min(available, limit - used + reclaimable))


def usable_cores(cgroup: Path = CGROUP) -> float:
    """Processor cores that this process may use: affinity and the container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = float(len(os.sched_getaffinity(0)))
    else:
        cores = float(os.cpu_count() or 1)
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()[:2]
        if quota != "max":
            cores = min(cores, float(quota) / float(period))
    except (OSError, ValueError):
        pass
    return max(cores, 0.1)


def usable_threads() -> int:
    """Threads that can compute at once: `STUDIO_THREADS` where it is set, or the usable cores."""
    named = os.environ.get("STUDIO_THREADS", "")
    return int(named) if named.isdigit() and int(named) else max(1, int(usable_cores()))


def _cgroup_number(path: Path) -> int | None:
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):  # no such file, or "max": no limit
        return None


def _cgroup_stat(path: Path, key: str) -> int:
    try:
        lines = path.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.split()[:1] == [key])
    except (OSError, ValueError, StopIteration):
        return 0
