"""`python -m tests.upscaler_figures [FOLDER]`: how well and how fast the embedded upscaler is.

Prints the PSNR (all channels, 8 bits, whole pictures) of photographs that it was not trained on,
made smaller by bicubic interpolation and larger again by it and by the upscaler; and the seconds
of 24 frames of 160 x 90 on two processor cores. FOLDER has other photographs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from webui.demo.upscaler import SCALES, checkpoint
from webui.demo.upscaler.train import psnr, reduce
from webui.pipelines import swin2sr
from webui.pipelines.swin2sr.components import Swin2srPipeline

PHOTOGRAPHS = Path(__file__).parent / "fixtures" / "photographs"
SETTINGS: dict[str, Any] = {"precision": "fp32", "tile": 0, "tile_overlap": 24, "tile_batch": 1}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.upscaler_figures")
    parser.add_argument("folder", type=Path, nargs="?", default=PHOTOGRAPHS)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    pipe = load()
    for scale in SCALES:
        gains = []
        for name, plain_db, made_db in measure(pipe, scale, given.folder):
            gains.append(made_db - plain_db)
            print(
                f"x{scale} {name}: bicubic {plain_db:.2f} dB, Swin2SR {made_db:.2f} dB, "
                f"{gains[-1]:+.2f}",
                flush=True,
            )
        print(f"x{scale}: {np.mean(gains):+.2f} dB on average, {min(gains):+.2f} at least")
    for scale in SCALES:
        clock_s, busy_s = seconds(pipe, scale)
        print(
            f"x{scale} of 24 frames 160x90: {clock_s:.1f} s by the clock, {busy_s:.1f} s by the "
            f"processor's time on {given.threads} cores"
        )
    return 0


def load(folder: Path | None = None) -> Swin2srPipeline:
    """The embedded upscaler, or one in another folder, on the processor."""
    card: Any = SimpleNamespace(title="Swin2SR", configs={f"x{scale}": {} for scale in SCALES})
    weights = {"kind": "embedded", "folder": str(folder or checkpoint(2).parent)}
    return swin2sr.load(card, SETTINGS, weights, "cpu")


def measure(
    pipe: Swin2srPipeline, scale: int, folder: Path = PHOTOGRAPHS
) -> Iterator[tuple[str, float, float]]:
    """Name of each photograph, and the PSNR of bicubic interpolation and of the upscaler in dB."""
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]):
        with Image.open(path) as opened:
            small, answer = reduce(opened.convert("RGB"), scale)
        plain = small.resize(answer.size, Image.Resampling.BICUBIC)
        made = swin2sr.upscale(pipe, torch.from_numpy(np.array(small))[None], scale)[0].numpy()
        truth = np.array(answer)
        yield path.stem, psnr(np.array(plain), truth), psnr(made, truth)


class Frames:
    """Frames in and out, kept in memory."""

    folder: Path | None = None
    bits = 8
    cores = 2

    def __init__(self, frames: NDArray[np.uint8], segments: int = 1) -> None:
        self._parts = np.array_split(frames, segments)
        self.segments = [
            SimpleNamespace(number=number, count=len(part))
            for number, part in enumerate(self._parts)
        ]
        self.total = len(frames)
        self.made: dict[tuple[int, int], NDArray[np.uint8]] = {}
        self.finished: list[int] = []
        self.all_written = False

    def read(self, segment: Any) -> Iterator[NDArray[np.uint8]]:
        yield from self._parts[segment.number]

    def write(self, segment: Any, index: int, frame: NDArray[np.uint8]) -> None:
        self.made[segment.number, index] = frame

    def finish(self, segment: Any) -> None:
        self.finished.append(segment.number)

    def wait(self) -> None:
        self.all_written = True


class Silent:
    """A report that nobody reads."""

    def begin(self, phase: str, continues: bool = False) -> None: ...
    def warmed_up(self) -> None: ...
    def check(self) -> None: ...
    def step(self, done: int, total: int) -> None: ...
    def latent_step(self, done: int, total: int, latents: torch.Tensor) -> None: ...


def seconds(pipe: Swin2srPipeline, scale: int, count: int = 24) -> tuple[float, float]:
    """Of `count` frames of 160 x 90: by the clock, and by the processor's time on its cores."""
    frames = np.random.default_rng(0).integers(0, 256, (count, 90, 160, 3), np.uint8)
    request = SimpleNamespace(scale=scale, height=90, width=160, frames=count)
    clock, busy = time.perf_counter(), time.process_time()
    swin2sr.run(pipe, request, SETTINGS, Silent(), Frames(frames))
    busy_s = (time.process_time() - busy) / torch.get_num_threads()
    return time.perf_counter() - clock, busy_s


if __name__ == "__main__":
    sys.exit(main())
