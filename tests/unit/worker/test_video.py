"""Clips that browsers play, pictures, thumbnails, and what happens when they cannot be written."""

from __future__ import annotations

import errno
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from webui.core.errors import MissingDependency
from webui.worker import video


@pytest.fixture
def frames() -> np.ndarray:
    """Eight frames, a red square on grey that moves to the right."""
    clip = np.full((8, 96, 128, 3), 100, np.uint8)
    for index in range(8):
        clip[index, 32:64, 8 * index : 8 * index + 32] = (220, 30, 30)
    return clip


def test_clip(frames: np.ndarray, tmp_path: Path) -> None:
    assert video.save_outputs([frames], 12, tmp_path) == ["clip.mp4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "thumbnail.jpg"]
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 12
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 8
    assert np.abs(np.stack(decoded).astype(int) - frames).mean() < 4
    assert Image.open(tmp_path / "thumbnail.jpg").size == (128, 96)


def test_one_frame_is_a_picture(frames: np.ndarray, tmp_path: Path) -> None:
    assert video.save_outputs([frames[:1]], 12, tmp_path) == ["image.png"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "image.png")), frames[0])


def test_several_clips(frames: np.ndarray, tmp_path: Path) -> None:
    assert video.save_outputs([frames, frames[::-1]], 12, tmp_path) == ["clip-1.mp4", "clip-2.mp4"]
    firsts = []
    for name in ("clip-1.mp4", "clip-2.mp4"):
        with av.open(str(tmp_path / name)) as container:
            firsts.append(next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int))
    assert np.abs(firsts[0] - frames[0]).mean() < 4 and np.abs(firsts[1] - frames[-1]).mean() < 4


def test_no_encoder(frames: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webui.video.encoders.H264", ("nothing264",))
    with pytest.raises(MissingDependency, match="encoder"):
        video.save_outputs([frames], 12, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_half_a_file_never_shows(tmp_path: Path) -> None:
    def write(part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        video._write_whole(tmp_path / "clip.mp4", write)
    assert list(tmp_path.iterdir()) == []
