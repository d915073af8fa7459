"""Downloads a model's weights in a process of its own, so that it can be watched and cancelled.

The child is `python -m webui.storage.hub_child REPO CACHE [FILE ...]`: it alone imports the hub's
library, prints one JSON object a line (the size, then the folder or an error), the rest goes to
stderr. What is complete stays in the hub's cache, so the next download goes on with the files that
are missing (the hub's library begins a file that was cut short again).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from webui.core.errors import Cancelled, StudioError, error_from_json
from webui.core.model import ModelCard
from webui.core.text import Text
from webui.core.units import GIB
from webui.core.upscale import UpscaleCard
from webui.storage.config import StudioConfig
from webui.storage.files import check_free
from webui.storage.weights import hub_cache, repository_folder

_RESERVE_BYTES = GIB
"""Left free on the disk beside the download."""
_RATE_WINDOW_S = 20.0
_STALE_S = 24 * 3600.0
"""A partial file this old belongs to no running download."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadProgress:
    """A download now."""

    state: str
    """running, done, failed or cancelled."""
    done_bytes: int
    total_bytes: int
    bytes_s: float
    """Mean of the last seconds; 0 when not known."""
    seconds_left: float | None
    error: StudioError | None = None

    def to_json(self) -> dict[str, Any]:
        data = {key: getattr(self, key) for key in self.__slots__}
        data["error"] = self.error.to_json() if self.error else None
        return data


class Download:
    """One download of one model. Start it once; make a new one to try again.

    Args:
        card: the model; its `hub` names the repository.
        config: for the cache folder.
    """

    def __init__(self, card: ModelCard, config: StudioConfig) -> None:
        self.card = card
        self.cache = hub_cache(config)
        self._blobs = repository_folder(card.hub, self.cache) / "blobs"
        self._total_bytes = card.download_bytes
        self._samples: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()
        self._state = "running"
        self._error: StudioError | None = None
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._partials_before: set[Path] = set()

    def start(self) -> None:
        """Checks the disk and starts the child.

        Raises:
            NotEnoughDisk: the disk has no room for what is still missing.
            StudioError: the cache folder cannot be written.
        """
        self._remove_stale()
        missing = max(0, self.card.download_bytes - self._bytes_on_disk())
        check_free(self.cache, missing + _RESERVE_BYTES)
        self._partials_before = self._partials()
        files = self.card.files if isinstance(self.card, UpscaleCard) else ()
        child = [sys.executable, "-m", "webui.storage.hub_child"]
        command = [*child, self.card.hub, str(self.cache), *files]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            cwd=Path(__file__).parents[2],
            env={
                **os.environ,
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            },
        )
        self._reader = threading.Thread(target=self._follow, name="download", daemon=True)
        self._reader.start()

    def progress(self) -> DownloadProgress:
        """How far it is, by the bytes on disk."""
        done_bytes = self._bytes_on_disk()
        with self._lock:
            state, error, total_bytes = self._state, self._error, self._total_bytes
            now = time.monotonic()
            self._samples.append((now, done_bytes))
            while now - self._samples[0][0] > _RATE_WINDOW_S and len(self._samples) > 2:
                self._samples.popleft()
            first_time, first_bytes = self._samples[0]
        elapsed = now - first_time
        rate = max(0.0, (done_bytes - first_bytes) / elapsed) if elapsed > 0 else 0.0
        if state == "done":
            done_bytes, total_bytes = max(done_bytes, total_bytes), max(done_bytes, total_bytes)
        return DownloadProgress(
            state=state,
            done_bytes=min(done_bytes, total_bytes),
            total_bytes=total_bytes,
            bytes_s=rate if state == "running" else 0.0,
            seconds_left=max(0, total_bytes - done_bytes) / rate
            if rate > 0 and state == "running"
            else None,
            error=error,
        )

    def cancel(self) -> None:
        """Ends the child; complete files stay for the next time."""
        with self._lock:
            if self._state != "running" or self._process is None:
                return
            self._state, self._error = (
                "cancelled",
                Cancelled(
                    Text("The download was cancelled.", "下载已取消。"),
                    Text("Start it again to go on.", "再次开始即可继续。"),
                ),
            )
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self.wait(10)

    def wait(self, timeout_s: float | None = None) -> DownloadProgress:
        """Waits for the end (or the timeout) and gives the progress then."""
        if self._reader is not None:
            self._reader.join(timeout_s)
        return self.progress()

    def _follow(self) -> None:
        """Reads what the child says until it ends (in a thread of its own)."""
        process = self._process
        assert process is not None and process.stdout is not None and process.stderr is not None
        log: deque[str] = deque(maxlen=30)
        drain = threading.Thread(target=_drain, args=(process.stderr, log), daemon=True)
        drain.start()
        ended: dict[str, Any] = {}
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("event") == "size":
                with self._lock:
                    self._total_bytes = int(event["bytes"])
            else:
                ended = event
        code = process.wait()
        drain.join(5)
        self._remove_partials()
        with self._lock:
            if self._state != "running":
                return
            if ended.get("event") == "done":
                self._state = "done"
                return
            self._state = "failed"
            self._error = error_from_json(ended["error"]) if "error" in ended else _lost(code, log)

    def _bytes_on_disk(self) -> int:
        """Bytes of the repository's files so far, partial ones included."""
        total = 0
        try:
            with os.scandir(self._blobs) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    # A partial file may be made at full size at once; count what is written.
                    written = getattr(status, "st_blocks", status.st_size // 512 + 1) * 512
                    partial = entry.name.endswith(".incomplete")
                    total += min(status.st_size, written) if partial else status.st_size
        except OSError:
            pass
        return total

    def _partials(self) -> set[Path]:
        return set(self._blobs.glob("*.incomplete"))

    def _remove_partials(self) -> None:
        """Removes what our child left half written: the hub's library would not use it again."""
        for path in self._partials() - self._partials_before:
            path.unlink(missing_ok=True)

    def _remove_stale(self) -> None:
        for path in self._partials():
            try:
                if time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink()
            except OSError:
                continue


def _drain(stream: IO[str], log: deque[str]) -> None:
    for line in stream:
        log.append(line.rstrip())


def _lost(code: int, log: deque[str]) -> StudioError:
    last = next((line for line in reversed(log) if line.strip()), f"exit code {code}")
    return StudioError(
        Text(f"The download ended: {last[:200]}", f"下载中断：{last[:200]}"),
        Text("Start it again to go on.", "再次开始即可继续。"),
    )
