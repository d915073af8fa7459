"""Inputs of 10 bits stay so: through the models, whole and in tiles, and into the file."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.pipelines.flashvsr_goldens import Memory, small_card, write_checkpoint
from tests.unit.video.clips import clip
from tests.upscaler_figures import load
from webui.pipelines import flashvsr, swin2sr
from webui.pipelines.depth import deep_levels, in_host, on_device, shares
from webui.pipelines.flashvsr.frames import enlarge
from webui.pipelines.tiles import ClipBlend, FrameBlend, Tile, TileGrid
from webui.video.facts import examine
from webui.video.project import FOLDER, Project
from webui.video.reading import Reader
from webui.worker.device import Device
from webui.worker.film import JobFootage
from webui.worker.protocol import Channel
from webui.worker.reporting import JobReport

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
EIGHT_BITS = 256
SETTINGS = {"precision": "fp32", "decoder": "tiny", "offload": "none", "sparsity": "stable",
            "tile_batch": 1}  # fmt: skip


def ramp(height: int, width: int, low: int = 4000, high: int = 60_000) -> np.ndarray:
    """A smooth one with as many levels as 16 bits have room for."""
    down, across = np.mgrid[:height, :width]
    share = (down * width + across) / (height * width - 1)
    levels = (low + share * (high - low)).astype(np.uint16)
    return np.stack([levels] * 3, -1)


def ten_bit_levels(frame: np.ndarray) -> int:
    return len(np.unique(frame[..., 1] >> 6))


def test_every_level_goes_to_the_device_and_back() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256)
    whole = on_device(levels, CPU)
    values = shares(whole)
    assert (float(values.min()), float(values.max())) == (0.0, 1.0)
    assert (in_host(deep_levels(values).numpy()) == levels).all()
    bytes_ = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert torch.equal(
        shares(on_device(bytes_, CPU)), shares(on_device(bytes_ * np.uint16(257), CPU))
    )


def test_enlarging_keeps_what_lies_between_the_levels_of_8_bits() -> None:
    small = ramp(32, 32)
    large = enlarge(small, Tile(0, 0, 32, 32), 4)
    assert large.dtype == np.uint16 and ten_bit_levels(large) > 2 * EIGHT_BITS
    plain = Image.fromarray((small >> 8).astype(np.uint8)).resize((128, 128), Image.BICUBIC)
    assert np.abs(large / 256 - 0.5 - np.asarray(plain)).max() < 1.6


def test_tiles_join_in_16_bits() -> None:
    frame = ramp(90, 160, 0, 65_535)
    grid = TileGrid(90, 160, 64, 24, 16)
    one, film = FrameBlend(grid, dtype=np.uint16), ClipBlend(grid, 1, deep=True)
    for index, tile in enumerate(grid.tiles):
        one.add(tile.cut(frame).astype(np.float32))
        film.add(index, 0, tile.cut(frame)[None])
    for made in (one.frame, film.frame(0)):
        # Four tiles meet at most, and each rounds.
        assert made.dtype == np.uint16 and np.abs(made.astype(int) - frame).max() <= 2
    film.close()


def test_swin2sr_keeps_ten_bits() -> None:
    frames = np.stack([ramp(40, 48)] * 2)
    request = SimpleNamespace(scale=2, height=40, width=48, frames=2)
    pipe, found = load(), []
    for depth in (frames, (frames >> 8).astype(np.uint8)):
        film = Memory(depth, [2])
        swin2sr.run(pipe, request, SETTINGS | {"tile": 0, "tile_overlap": 0}, film, film)
        found.append(film.written[0, 1])
    deep, plain = found
    assert deep.dtype == np.uint16 and ten_bit_levels(deep) > 2 * EIGHT_BITS
    assert np.abs(deep / 256 - 0.5 - plain).mean() < 1


@pytest.mark.parametrize("tile", [0, 32])
def test_flashvsr_keeps_ten_bits(tile: int, tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    weights = {"kind": "original", "folder": str(tmp_path)}
    pipe = flashvsr.load(small_card(), SETTINGS, weights, "cpu")
    frames = np.stack([ramp(32, 48)] * 2)
    found = []
    for bits, depth in ((10, frames), (8, (frames >> 8).astype(np.uint8))):
        film = Memory(depth, [2])
        film.bits = bits
        request: Any = SimpleNamespace(scale=4, height=32, width=48, seed=3, colour="wavelet")
        flashvsr.run(pipe, request, SETTINGS | {"tile": tile, "tile_overlap": 8}, film, film)
        found.append(film.written[0, 1])
    deep, plain = found
    assert deep.dtype == np.uint16 and ten_bit_levels(deep) > 2 * EIGHT_BITS
    # The same picture: its colours are the input's, to less than a level.
    assert np.abs((deep / 256 - 0.5 - plain).mean((0, 1))).max() < 1


def test_a_file_of_ten_bits_is_read_and_written_so(tmp_path: Path) -> None:
    shown = ramp(48, 96)
    path = clip(
        tmp_path / "a.mkv", 4, codec="libx265", pixel_format="yuv420p10le",
        options={"x265-params": "log-level=none", "crf": "4"},
        picture=lambda _: (shown >> 8).astype(np.uint8),
    )  # fmt: skip
    Project.start(tmp_path / FOLDER, path, *examine(path), scale=1)
    report = JobReport("job", Channel(io.BytesIO(), io.BytesIO()), Device(), preview=False)
    with JobFootage({"segments": [0]}, tmp_path, report) as footage:
        (segment,) = footage.segments
        read = list(footage.read(segment))
        assert footage.bits == 10 and {frame.dtype for frame in read} == {np.dtype(np.uint16)}
        for index in range(len(read)):  # what a model makes of them: a smooth ramp
            footage.write(segment, index, shown)
        footage.finish(segment)
    body = tmp_path / FOLDER / "segment_0000.mp4"
    facts, timeline = examine(body)
    (first, *_) = Reader(body, timeline).frames(bits=10)
    assert facts.bits == 10 and ten_bit_levels(first) > EIGHT_BITS
