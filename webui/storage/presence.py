"""Which studios are alive on a home folder, so that none takes over another's jobs."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout


class Presence:
    """This studio's sign of life: a locked file, which the system unlocks when the process ends.

    Args:
        folder: shared by every studio on the same home; made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.name = secrets.token_hex(6)
        self._lock = self._lock_of(self.name)
        self._lock.acquire(timeout=0)

    def is_alive(self, name: str) -> bool:
        """Whether a studio of this name runs, in this process or another.

        A lock file without a holder is removed.
        """
        if name == self.name:
            return True
        path = self._folder / f"studio-{name}.lock"
        if not name or not path.exists():
            return False
        lock = self._lock_of(name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        with suppress(OSError):
            path.unlink()
        return False

    def close(self) -> None:
        """This studio is gone; its unfinished jobs may be taken over."""
        self._lock.release()
        with suppress(OSError):
            (self._folder / f"studio-{self.name}.lock").unlink()

    def _lock_of(self, name: str) -> FileLock:
        # One lock object must not be shared: a second studio may live in the same process.
        return FileLock(self._folder / f"studio-{name}.lock", is_singleton=False)
