"""The real app as a process of its own, for the tests of the app and of the browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
RED = (226, 34, 40)


class RunningStudio:
    """`python app.py` on a home folder of its own."""

    def __init__(self, home: Path, host: str = "127.0.0.1", **environment: str) -> None:
        self.home = home
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = home / "app.log"
        began = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "app.py"), "--host", host, "--port", str(self.port),
                 "--home", str(home), "--no-open"],
                cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "STUDIO_DEVICE": "cpu", "HF_HUB_OFFLINE": "1",
                     "HF_HOME": str(home / "hub"),
                     "GRADIO_TEMP_DIR": str(home / "cache"), **environment},
            )  # fmt: skip
        self._wait()
        self.startup_s = time.monotonic() - began

    def _wait(self) -> None:
        while self.process.poll() is None:
            try:
                urllib.request.urlopen(self.address, timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def rss_bytes(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def running_studio(
    home: Path, host: str = "127.0.0.1", **environment: str
) -> Iterator[RunningStudio]:
    """Starts the app, and ends it afterwards."""
    home.mkdir(parents=True, exist_ok=True)
    studio = RunningStudio(home, host, **environment)
    try:
        yield studio
    finally:
        studio.close()


def has_colour(path: Path, colour: tuple[int, int, int] = RED, off: int = 70) -> bool:
    """Whether at least 2 % of the middle frame of a clip (or of a picture) has the colour."""
    import av
    import numpy as np

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    middle = frames[len(frames) // 2].astype(int)
    near = (np.abs(middle - np.array(colour)).max(axis=-1) < off).mean()
    return bool(near > 0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
