"""Tiles: they cover every frame, add up to it, and leave no seam."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from webui.core.errors import BadInput
from webui.pipelines.tiles import ClipBlend, FrameBlend, TileGrid, check_tile

SHAPES = [
    # height, width, tile, overlap, multiple
    (90, 160, 64, 24, 1),
    (90, 160, 64, 24, 16),
    (97, 33, 30, 29, 1),
    (128, 129, 128, 8, 8),
    (64, 64, 32, 0, 1),
    (5, 7, 64, 24, 8),
    (65, 100, 0, 24, 1),
]
SEED = 3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("context", [None, 0, 12])
def test_weights_add_up_to_one_and_the_frame_comes_back(shape, context) -> None:
    height, width, tile, overlap, multiple = shape
    grid = TileGrid(height, width, tile, overlap, multiple, context)
    frame = np.random.default_rng(SEED).integers(0, 256, (*shape[:2], 3), np.uint8)
    total = np.zeros(shape[:2])
    one, clip = FrameBlend(grid), ClipBlend(grid, 2)
    for index, tile in enumerate(grid.tiles):
        assert (tile.height, tile.width) == (grid.tile_height, grid.tile_width)
        total[tile.area()] += grid.weights(index)
        cut = tile.cut(frame).astype(np.float32)
        assert not one.done
        one.add(cut)
        clip.add(index, 0, np.stack([cut, 255 - cut]))
    assert np.abs(total - 1).max() < 1e-5
    assert one.done and (one.frame == frame).all()
    assert (clip.frame(0) == frame).all() and (clip.frame(1) == 255 - frame).all()
    clip.close()


def test_sides_are_multiples_and_the_last_tile_is_moved_back() -> None:
    grid = TileGrid(90, 300, 100, 20, 16)
    assert (grid.tile_height, grid.tile_width) == (90, 96)
    assert grid.tops == (0,) and grid.lefts == (0, 76, 152, 204)


def test_weights_are_full_at_the_border_and_ramp_only_where_neighbours_overlap() -> None:
    grid = TileGrid(100, 100, 60, 20, context=0)
    first = grid.weights(0)
    assert (first[:40, :40] == 1).all()
    assert (first[0, 40:] < 1).all() and (np.diff(first[0, 40:]) < 0).all() and first[0, -1] > 0


@pytest.mark.parametrize(("tile", "overlap"), [(24, 24), (31, 24), (64, -1), (-8, 0)])
def test_tiles_that_get_nowhere_are_refused_with_what_would_do(tile, overlap) -> None:
    with pytest.raises(BadInput) as caught:
        check_tile(tile, overlap, 16)
    assert caught.value.field.startswith("settings.tile") and caught.value.hint.zh
    check_tile(0, 24)


@pytest.mark.parametrize("overlap", [16, 17, 30])
def test_a_convolutional_model_makes_the_same_of_tiles_as_of_the_whole(overlap) -> None:
    # Eight pixels to each side: four layers of 5 x 5.
    torch.manual_seed(SEED)
    layers = [nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU()]
    layers += [nn.Conv2d(8, 8, 5, padding=2), nn.Conv2d(8, 12, 5, padding=2), nn.PixelShuffle(2)]
    model = nn.Sequential(*layers).requires_grad_(False)

    def make(pixels: np.ndarray) -> np.ndarray:
        taken = torch.from_numpy(np.ascontiguousarray(pixels)).float()
        return model(taken.permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()

    frame = np.random.default_rng(SEED).integers(0, 256, (101, 150, 3), np.uint8)

    def off(context: int) -> float:
        grid = TileGrid(101, 150, 64, overlap, context=context)
        blend = FrameBlend(grid, scale=2, dtype=np.float32)
        for tile in grid.tiles:
            blend.add(make(tile.cut(frame)))
        return float(np.abs(blend.frame - make(frame)).max())

    assert off(8) < 1e-3 < off(0)


def test_results_that_differ_by_tile_meet_without_a_step() -> None:
    grid = TileGrid(60, 160, 64, 24)
    blend = FrameBlend(grid, scale=2, dtype=np.float32)
    for index, tile in enumerate(grid.tiles):
        blend.add(np.full((tile.height * 2, tile.width * 2, 3), 40.0 * (index % 2), np.float32))
    # 40 levels apart, over half of 48 pixels.
    steps = np.abs(np.diff(blend.frame, axis=1))
    assert steps.max() < 40 / 20 and blend.frame.min() == 0 and blend.frame.max() == 40


def test_what_a_killed_worker_kept_on_the_disk_is_gone(tmp_path: Path) -> None:
    work = (
        "import sys, time, pathlib\n"
        "from webui.pipelines.tiles import ClipBlend, TileGrid\n"
        "blend = ClipBlend(TileGrid(64, 64, 32, 8), 50, folder=pathlib.Path(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", work, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == b"ready\n"
        worker.kill()
        worker.wait()
    assert list(tmp_path.iterdir()) == []
