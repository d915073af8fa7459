"""Real parts for the storage tests: receipts, clips, and a small stand-in for the hub."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from webui.core.receipt import Measurement, PhaseMeasurement, Receipt

COMMIT = "c0ffee" + "0" * 34


def _receipt(run_id: str = "run-1", *, outputs=(), seconds: float = 4.0, error=None) -> Receipt:
    phases = (
        PhaseMeasurement(
            name="denoise",
            resident_bytes=1,
            allocated_bytes=3,
            reserved_bytes=4,
            seconds=seconds,
        ),
    )
    measured = Measurement(
        phases=phases,
        peak_allocated_bytes=3,
        peak_reserved_bytes=4,
        peak_device_bytes=5,
        host_bytes=6,
        seconds=seconds,
        load_seconds=0.0,
        source="cpu",
    )
    return Receipt(
        id=run_id,
        request={"model": "demo", "prompt": "一个红色的圆 moves"},
        plan={"phases": [{"name": "denoise", "seconds": 2.0}], "settings": {"offload": "none"}},
        measurement=None if error else measured,
        outputs=tuple(outputs),
        device="cpu",
        created="2026-01-01T00:00:00+00:00",
        error=error,
    )


def _write_clip(path: Path, frames: int = 9, side: int = 64) -> Path:
    """A real mp4 whose frames get brighter."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            picture = np.full((side, side, 3), 20 * (index % 12), dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


class Hub(ThreadingHTTPServer):
    """Answers what the hub's library asks for one repository."""

    daemon_threads = True

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository, self.files = repository, files
        self.fetched: list[str] = []
        self.pause: Callable[[str], float] = lambda name: 0.0
        """Seconds to wait between the two halves of a file."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        api = f"/api/models/{self.server.repository}"
        prefix = f"/{self.server.repository}/resolve/{COMMIT}/"
        if path in (api, f"{api}/revision/main"):
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": _digest(data)}
                for name, data in self.server.files.items()
            ]
            self._json({"id": self.server.repository, "sha": COMMIT, "siblings": siblings})
        elif path.startswith(f"{api}/tree/"):
            self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": _digest(data)}
                    for name, data in self.server.files.items()
                ]
            )
        elif path.startswith(prefix) and path.removeprefix(prefix) in self.server.files:
            self._file(path.removeprefix(prefix), body)
        else:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def _file(self, name: str, body: bool) -> None:
        data = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{_digest(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if not body:
            return
        self.server.fetched.append(name)
        half = len(data) // 2
        try:
            self.wfile.write(data[:half])
            self.wfile.flush()
            time.sleep(self.server.pause(name))
            self.wfile.write(data[half:])
        except OSError:  # the client was cancelled
            self.close_connection = True

    def _json(self, data, status: int = 200, headers=None) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _checkpoint_files(size: int = 300_000) -> dict[str, bytes]:
    """File names of a diffusers checkpoint, with sharded transformer weights."""
    shards = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    config = {"num_layers": 30, "num_attention_heads": 12, "in_channels": 16}
    return {
        "README.md": b"not needed",
        "model_index.json": b"{     }",
        "scheduler/scheduler_config.json": b"{}",
        "tokenizer/tokenizer.json": b"{ }",
        "text_encoder/config.json": b"{  }",
        "text_encoder/model.safetensors": b"t" * size,
        "transformer/config.json": json.dumps(config).encode(),
        "transformer/diffusion_pytorch_model.safetensors.index.json": json.dumps(index).encode(),
        f"transformer/{shards[0]}": b"1" * size,
        f"transformer/{shards[1]}": b"2" * size,
        "vae/config.json": b"{   }",
        "vae/diffusion_pytorch_model.safetensors": b"v" * size,
    }


@pytest.fixture
def make_receipt():
    """Makes a receipt of a run on a processor."""
    return _receipt


@pytest.fixture
def write_clip():
    """Writes a real mp4."""
    return _write_clip


@pytest.fixture
def checkpoint_files():
    """Makes the files of a checkpoint by name."""
    return _checkpoint_files


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine with one repository, and the environment that points at it."""
    server = Hub("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", _checkpoint_files())
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.shutdown()
    server.server_close()
