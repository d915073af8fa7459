"""What is written plays in a browser, in the colours and at the times that were given."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from tests.unit.video.clips import HEIGHT, WIDTH, numbered, numbers_of
from webui.core.errors import MissingDependency
from webui.core.upscale import QUALITIES
from webui.video import encoders, writing
from webui.video.colours import BT2020, FULL, LIMITED, Colours
from webui.video.facts import examine
from webui.video.reading import Reader
from webui.video.writing import Encoding, Writer

TIMES = [number * 3003 + (number % 4) * 500 for number in range(40)]


def encoding(**changes) -> Encoding:
    given = dict(
        height=HEIGHT, width=WIDTH, rate=Fraction(30000, 1001), time_base=Fraction(1, 90000)
    )
    return Encoding(**{**given, **changes})


def write(path: Path, how: Encoding, depth: type = np.uint8) -> Path:
    with Writer(path, how) as writer:
        for number, time in enumerate(TIMES):
            pixels = numbered(number, how.height, how.width)
            writer.write(pixels if depth is np.uint8 else pixels.astype(np.uint16) * 257, time)
    return path


@pytest.mark.parametrize("quality", QUALITIES)
def test_eight_bits_are_h264_for_browsers(quality: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", encoding(quality=quality, aspect=Fraction(4, 3)))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.profile == "High" and stream.sample_aspect_ratio == Fraction(4, 3)
        assert (stream.color_primaries, stream.colorspace, stream.color_range) == (1, 1, 1)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    reader = Reader(path)
    assert (reader.timeline.times * reader.timeline.time_base * 90000).tolist() == TIMES
    shown = list(reader.frames())
    assert numbers_of(shown) == list(range(40))
    assert np.abs(shown[7].astype(int)[:, -2:] - (200, 60, 90)).max() <= 6


def test_a_smaller_quality_is_a_smaller_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    for bits in (8, 10):
        sizes = []
        for quality in QUALITIES:
            path = tmp_path / "a.mp4"
            how = encoding(height=96, width=128, quality=quality, bits=bits)
            with Writer(path, how) as writer:
                for number in range(6):
                    writer.write(np.roll(noise, number, 1), number * 3003)
            sizes.append(path.stat().st_size)
        assert sizes[0] > 1.2 * sizes[1] > 1.4 * sizes[2]


@pytest.mark.parametrize("encoder", encoders.TEN_BIT)
def test_ten_bits_stay_ten(encoder: str, tmp_path: Path) -> None:
    ramp = np.linspace(10_000, 14_000, WIDTH).astype(np.uint16)
    pixels = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (HEIGHT, WIDTH, 3)))
    wide = Colours(primaries=9, transfer=16, matrix=BT2020)
    how = encoding(bits=10, encoder=encoder, colours=wide)
    path = tmp_path / "a.mp4"
    with Writer(path, how) as writer:
        for time in TIMES:
            writer.write(pixels, time)
    facts, timeline = examine(path)
    assert (facts.bits, facts.frames, facts.colours) == (10, 40, wide)
    assert (timeline.times * timeline.time_base * 90000).tolist() == TIMES
    read = list(Reader(path, timeline).frames(bits=10))[20][20, :, 1].astype(int)
    assert np.abs(read - ramp).max() < 400
    assert len(np.unique(read)) > 4000 // 257 * 2  # with 8 bits there would be sixteen
    with av.open(str(path)) as container:
        tag = container.streams.video[0].codec_context.codec_tag
    assert tag == {"libsvtav1": "av01", "libx265": "hvc1"}[encoder]


@pytest.mark.parametrize("size", [(47, 95), (1, 1)])
def test_odd_sizes_repeat_their_edge(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    pixels = np.full((*size, 3), (200, 60, 90), np.uint8)
    with Writer(path, encoding(height=size[0], width=size[1])) as writer:
        writer.write(pixels, 0)
    (shown,) = Reader(path).frames()
    assert shown.shape == (size[0] + 1, size[1] + 1, 3)
    assert np.abs(shown.astype(int) - (200, 60, 90)).max() <= 4


def test_without_an_encoder_it_says_so(monkeypatch) -> None:
    monkeypatch.setattr(encoders, "TEN_BIT", ("nothing265",))
    with pytest.raises(MissingDependency, match="AV1"):
        encoding(bits=10)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("width", [64, 60, 66, 33])
def test_threads_and_what_is_not_copied_change_no_colour(
    width: int, depth: type, tmp_path: Path
) -> None:
    most = np.iinfo(depth).max
    pixels = np.random.default_rng(0).integers(0, most, (33, width, 3), depth, endpoint=True)
    how = encoding(height=33, width=width, bits=8 if depth is np.uint8 else 10)
    whole = np.pad(pixels, ((0, 1), (0, width % 2), (0, 0)), mode="edge")
    expected = VideoReformatter().reformat(
        av.VideoFrame.from_ndarray(whole, format="rgb24" if depth is np.uint8 else "rgb48le"),
        format=how.pixel_format, src_color_range=FULL, dst_color_range=LIMITED,
        dst_colorspace=how.colours.matrix, interpolation=writing._INTERPOLATION, threads=1,
    )  # fmt: skip
    with Writer(tmp_path / "a.mp4", how, threads=4) as writer:
        made = writer._converted(pixels)
        writer.write(pixels, 0)
    assert np.array_equal(made.to_ndarray(), expected.to_ndarray())


@pytest.mark.skipif(sys.platform != "linux", reason="guards memory by Linux's own means")
@pytest.mark.parametrize("width", [60, 66, 64])
def test_nothing_is_read_beyond_a_frame(width: int) -> None:
    """In a process of its own: the page behind the frame cannot be read."""
    code = f"""
import ctypes, mmap
from fractions import Fraction
import numpy as np
from webui.video.writing import Encoding, Writer
pages, page = 8, mmap.PAGESIZE
memory = mmap.mmap(-1, (pages + 1) * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + pages * page), page, 0) == 0
for depth, bits in ((np.uint8, 8), (np.uint16, 10)):
    count = 48 * {width} * 3
    at = pages * page - count * np.dtype(depth).itemsize
    pixels = np.frombuffer(memory, depth, count, at).reshape(48, {width}, 3)
    rate = Fraction(30)
    how = Encoding(height=48, width={width}, rate=rate, time_base=1 / rate, bits=bits)
    with Writer("/dev/null", how, faststart=False) as writer:
        writer._converted(pixels)
        writer.write(np.zeros((48, {width}, 3), depth), 0)
print("ended", flush=True)
import os
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux's scheduling")
def test_no_thread_is_left_with_a_priority_over_all_others(tmp_path: Path) -> None:
    """SVT-AV1 takes real-time priority where it may, for the caller's thread too."""
    how = encoding(bits=10)
    with Writer(tmp_path / "a.mp4", how) as writer:
        for number in range(3):
            writer.write(numbered(number).astype(np.uint16) * 257, number)
            threads = [int(name) for name in os.listdir("/proc/self/task")]
            assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
    assert how.encoder == "libsvtav1" and len(threads) > 3
