"""Inputs: what they are said to be, and their frames, each exactly once and as it is."""

from __future__ import annotations

import json
import random
import resource
import struct
import subprocess
import sys
import wave
import zlib
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.video.clips import HEIGHT, WIDTH, clip, number_of, numbered, numbers_of, sound_alone
from webui.core.errors import BadInput
from webui.video.facts import Facts, examine
from webui.video.reading import Reader
from webui.video.timeline import Timeline

CODECS = {
    "libx264 mp4": {},
    "libx264 mkv": {},
    "libx264 ts": {},
    "libx265 mp4": {"options": {"x265-params": "log-level=none"}},
    "libvpx-vp9 webm": {},
    "libvpx webm": {"options": {"auto-alt-ref": "1", "lag-in-frames": "12"}},
    "libsvtav1 mp4": {"options": {"preset": "10"}},
    "prores_ks mov": {"pixel_format": "yuv422p10le"},
    "mjpeg avi": {"pixel_format": "yuvj420p"},
    "mpeg4 avi": {"options": {"bf": "2"}},
}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch) -> None:
    monkeypatch.setenv("SVT_LOG", "1")


@pytest.mark.parametrize("kind", CODECS)
def test_frames_from_the_middle_are_those(kind: str, tmp_path: Path) -> None:
    codec, suffix = kind.split()
    path = clip(tmp_path / f"a.{suffix}", 50, codec=codec, **CODECS[kind])
    facts, timeline = examine(path)
    assert (facts.frames, facts.height, facts.width) == (50, HEIGHT, WIDTH)
    assert (facts.rate, facts.variable, facts.missing) == (25, False, 0)
    assert facts.bits == (10 if codec == "prores_ks" else 8)
    assert facts.duration_s == pytest.approx(2.0, abs=0.05)
    reader = Reader(path, timeline)
    for start, stop in ((0, 3), (23, 27), (24, 25), (37, 50), (49, 50), (10, 10)):
        assert numbers_of(reader.frames(start, stop)) == list(range(start, stop))
    assert reader.repeated == 0
    assert next(reader.frames(5))[40, 50] == pytest.approx(np.array((200, 60, 90)), abs=6)


def test_variable_times_are_exact(tmp_path: Path) -> None:
    times = [number * 40 + (number % 3) * 7 for number in range(60)]
    path = clip(tmp_path / "a.mkv", 60, time_of=times.__getitem__, time_base=Fraction(1, 1000))
    facts, timeline = examine(path)
    assert facts.variable
    assert timeline.from_zero(0, 60).tolist() == times
    assert timeline.time_base == Fraction(1, 1000)
    timeline.save(tmp_path / "kept.npz")
    again = Timeline.load(tmp_path / "kept.npz")
    assert again.times.tolist() == timeline.times.tolist() and again.end == timeline.end
    assert numbers_of(Reader(path, again).frames(31, 34)) == [31, 32, 33]


def test_open_groups_are_read_from_the_key_frame_before(tmp_path: Path) -> None:
    # The frames shown just before a key frame are decoded after it, and need the group before.
    path = clip(tmp_path / "a.mkv", 72, options={"x264-params": "open-gop=1:bframes=3:keyint=12"})
    reader = Reader(path)
    for start in range(72):
        assert numbers_of(reader.frames(start, start + 1)) == [start]
    assert reader.repeated == 0


def test_ten_bits_stay(tmp_path: Path) -> None:
    def ramp(number: int) -> np.ndarray:
        return np.repeat(np.linspace(0, 255, WIDTH).astype(np.uint8)[None, :, None], HEIGHT, 0) + (
            np.zeros((1, 1, 3), np.uint8)
        )

    path = clip(
        tmp_path / "a.mp4", 3, codec="libx265", pixel_format="yuv420p10le", picture=ramp,
        options={"x265-params": "log-level=none:lossless=1"},
    )  # fmt: skip
    assert examine(path)[0].bits == 10
    deep = next(Reader(path).frames(bits=10))
    assert deep.dtype == np.uint16 and deep.max() > 65_000 and deep.min() < 500
    assert abs(deep[20, :, 1] / 257 - np.linspace(0, 255, WIDTH).astype(int)).max() < 1.5


@pytest.mark.parametrize("colours", [(1, 1), (5, 1), (1, 2), (9, 1)])
def test_the_matrix_and_range_of_the_file_are_used(colours, tmp_path: Path) -> None:
    ground = np.full((HEIGHT, WIDTH, 3), (220, 30, 60), np.uint8)
    path = clip(tmp_path / "a.mp4", 1, picture=lambda _: ground, colours=colours)
    shown = next(Reader(path).frames())
    assert np.abs(shown.astype(int) - ground).max() <= 3


def test_turned_as_the_phone_was_held(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", 3, rotation=90)
    facts, _ = examine(path)
    assert (facts.height, facts.width) == (WIDTH, HEIGHT)
    shown = list(Reader(path).frames())
    assert shown[0].shape == (WIDTH, HEIGHT, 3)
    assert numbers_of(np.rot90(pixels, -1) for pixels in shown) == [0, 1, 2]


def test_a_damaged_frame_is_the_one_before_again(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.avi", 30, codec="mjpeg", pixel_format="yuvj420p")
    content = bytearray(path.read_bytes())
    places = [at for at in range(len(content) - 4) if content[at : at + 4] == b"\xff\xd8\xff\xfe"]
    assert len(places) == 30
    for number in (0, 11, 12):
        length = places[number + 1] - places[number] - 16
        content[places[number] : places[number] + length] = bytes(length)
    path.write_bytes(content)
    reader = Reader(path)
    assert len(reader.timeline) == 30
    assert numbers_of(reader.frames(9, 15)) == [9, 10, 10, 10, 13, 14]
    assert reader.repeated == 2
    assert numbers_of(reader.frames(12, 14)) == [10, 13]  # the same, wherever reading begins
    assert numbers_of(reader.frames(0, 2)) == [1, 1]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_of_a_cut_off_file_the_frames_that_are_there_are_used(suffix: str, tmp_path: Path) -> None:
    whole = clip(tmp_path / f"whole.{suffix}", 60).read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole[: len(whole) * 7 // 10])
    facts, timeline = examine(path)
    assert 5 < facts.frames < 58
    reader = Reader(path, timeline)
    # By their times: of those shown before the last one some can be missing.
    step = {"mp4": 512, "mkv": 40, "ts": 3600}[suffix]
    shown = (timeline.from_zero(0, facts.frames) // step).tolist()
    assert numbers_of(reader.frames()) == shown and shown[-1] < facts.frames + 3
    assert reader.repeated == 0
    if suffix != "ts":  # which says nowhere how long it should be
        assert facts.missing == pytest.approx(60 - facts.frames, abs=1)
        assert f"{facts.frames} of its about" in facts.warning.en and facts.warning.zh


def test_pictures_are_short_videos(tmp_path: Path) -> None:
    sheets = [Image.fromarray(numbered(number)) for number in range(5)]
    times = [100, 40, 100, 200, 100]
    for kind, more in (("gif", {}), ("webp", {"lossless": True}), ("png", {})):
        path = tmp_path / f"a.{kind}"
        sheets[0].save(path, save_all=True, append_images=sheets[1:], duration=times, **more)
        facts, timeline = examine(path)
        assert (facts.frames, facts.codec, facts.variable) == (5, kind, True)
        assert timeline.times.tolist() == [0, 100, 140, 240, 440] and timeline.end == 540
        assert numbers_of(Reader(path, timeline).frames(1, 4)) == [1, 2, 3]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    sheets[3].save(tmp_path / "a.jpg", exif=exif, quality=95)
    facts, timeline = examine(tmp_path / "a.jpg")
    assert (facts.frames, facts.height, facts.width) == (1, WIDTH, HEIGHT)
    (shown,) = Reader(tmp_path / "a.jpg", timeline).frames()
    assert number_of(np.rot90(shown)) == 3
    for kind, more in (("webp", {"lossless": True}), ("png", {})):
        path = tmp_path / f"turned.{kind}"
        sheets[0].save(path, save_all=True, append_images=sheets[1:], exif=exif, **more)
        for first in (0, 2):  # one orientation for all frames, wherever reading begins
            frames = Reader(path).frames(first, 5)
            assert numbers_of(np.rot90(pixels) for pixels in frames) == [*range(first, 5)]


def why(path: Path) -> BadInput:
    with pytest.raises(BadInput) as caught:
        examine(path)
    assert caught.value.field == "input" and caught.value.message.zh
    return caught.value


def test_bad_files_get_a_clear_word(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.mp4"
    assert "not there" in why(path).message.en
    path.write_bytes(b"")
    assert "empty" in why(path).message.en
    path.write_text("no video at all")
    assert "no video" in why(path).message.en and why(path).hint.en
    whole = clip(tmp_path / "whole.mp4", 20).read_bytes()
    moov = whole.index(b"moov") - 4
    path.write_bytes(whole[: moov + 100])
    assert "cut off" in why(path).message.en
    frames = whole.index(b"mdat") + 4
    path.write_bytes(whole[: frames + 100])  # not even the first frame is whole
    assert "cut off" in why(path).message.en
    path.write_bytes(whole[:frames] + bytes(len(whole) - frames))
    assert "damaged" in why(path).message.en
    (tmp_path / "none.y4m").write_bytes(b"YUV4MPEG2 W96 H48 F25:1 C420jpeg\n")
    assert "no frames" in why(tmp_path / "none.y4m").message.en
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    assert "no video" in why(tmp_path / "sound.wav").message.en
    sound_alone(tmp_path / "sound.m4a")
    assert "no picture" in why(tmp_path / "sound.m4a").message.en
    vast = tmp_path / "vast.png"
    Image.new("1", (8, 8)).save(vast)
    header = struct.pack(">4sIIBBBBB", b"IHDR", 30_000, 30_000, 1, 0, 0, 0, 0)
    chunk = header + struct.pack(">I", zlib.crc32(header))
    vast.write_bytes(vast.read_bytes()[:12] + chunk + vast.read_bytes()[33:])
    assert "30000x30000" in why(vast).message.en
    monkeypatch.setattr("webui.video.opening.MAX_PIXELS", HEIGHT * WIDTH - 1)
    assert "larger" in why(tmp_path / "whole.mp4").message.en


def test_whatever_bytes_are_wrong_the_count_is_kept(tmp_path: Path) -> None:
    chance = random.Random(3)
    sources = [
        clip(tmp_path / "a.mp4", 30, audio="aac"),
        clip(tmp_path / "a.mkv", 30),
        clip(tmp_path / "a.ts", 30),
        clip(tmp_path / "a.webm", 30, codec="libvpx-vp9"),
    ]
    used = 0
    for trial in range(60):
        source = sources[trial % 4]
        content = bytearray(source.read_bytes())
        at, length = chance.randrange(len(content)), chance.randrange(1, 300)
        if trial % 3:
            content[at : at + length] = chance.randbytes(len(content[at : at + length]))
        else:
            del content[at : at + length]
        path = tmp_path / f"wrong{source.suffix}"
        path.write_bytes(content)
        try:
            facts, timeline = examine(path)
            reader = Reader(path, timeline)
            assert len(list(reader.frames())) == facts.frames
            half = facts.frames // 2
            assert len(list(reader.frames(half))) == facts.frames - half
            used += 1
        except BadInput:
            pass
    assert used > 30


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    clip(tmp_path / "secret.ts", 10)
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:5", "#EXTINF:5,", "secret.ts", "#EXT-X-ENDLIST"]
    (tmp_path / "a.m3u8").write_text("\n".join(lines))
    assert "no video" in why(tmp_path / "a.m3u8").message.en
    (tmp_path / "a.ffconcat").write_text("ffconcat version 1.0\nfile secret.ts\n")
    assert "no video" in why(tmp_path / "a.ffconcat").message.en


def test_the_process_that_looks_at_files(tmp_path: Path) -> None:
    def ask(path: Path, *more: str) -> tuple[int, dict]:
        command = [sys.executable, "-m", "webui.video", str(path), *more]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert not done.stderr
        return done.returncode, json.loads(done.stdout)

    path = clip(tmp_path / "a.mp4", 12, audio="aac")
    code, said = ask(path, "--timeline", str(tmp_path / "t.npz"))
    facts = Facts.from_json(said)
    assert code == 0 and (facts.frames, facts.audio, facts.codec) == (12, 1, "h264")
    assert facts == examine(path)[0]
    assert len(Timeline.load(tmp_path / "t.npz")) == 12
    code, said = ask(tmp_path / "t.npz")
    assert code == 1 and said["error"]["field"] == "input"


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", 600, size=(240, 320), options={"preset": "ultrafast"})
    reader = Reader(path)
    peaks = []
    for place, _ in enumerate(reader.frames()):
        if place in (60, 599):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    # 540 frames of 225 KiB would be 120 MiB.
    assert all(later - earlier < 12_000 for earlier, later in pairwise(peaks))
