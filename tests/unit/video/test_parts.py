"""A video in segments: done in any order, by several workers, joined to exactly its frames."""

from __future__ import annotations

import errno
import json
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.unit.video.clips import clip, number_of, numbered, numbers_of, sound_of
from webui.core.errors import NotEnoughDisk, RunFailed, error_from_json
from webui.video import __main__ as main
from webui.video.assembly import assemble
from webui.video.colours import Colours
from webui.video.facts import examine
from webui.video.footage import AFTER, BEFORE, Footage
from webui.video.parts import Parts, mixed
from webui.video.project import Project
from webui.video.reading import Reader

SCALE = 2


def start(tmp_path: Path, source: Path, name: str = "video", **changes) -> Project:
    facts, timeline = examine(source)
    given = {"scale": SCALE, "segment_frames": 16, "overlap": 6, **changes}
    return Project.start(tmp_path / name, source, facts, timeline, **given)


def larger(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(SCALE, 0).repeat(SCALE, 1)


def do(project: Project, *indexes: int, change=lambda pixels, _: pixels) -> None:
    with Footage(project, project.segments, threads=1) as footage:
        for index in indexes:
            segment = project.segments[index]
            for place, pixels in enumerate(footage.read(segment)):
                footage.write(segment, place, change(larger(pixels), segment))
            footage.finish(segment)


def everything(project: Project) -> list[int]:
    return [segment.index for segment in project.segments]


@pytest.mark.parametrize(
    ("frames", "overlap", "length"),
    [(1, 6, 16), (2, 6, 16), (16, 6, 16), (17, 6, 16), (33, 0, 16), (40, 12, 8), (37, 3, 12),
     (19, 1, 4)],
)  # fmt: skip
def test_exactly_its_frames_at_their_times(
    frames: int, overlap: int, length: int, tmp_path: Path
) -> None:
    times = [number * 40 + (number % 3) * 11 for number in range(frames)]
    source = clip(
        tmp_path / "a.mkv", frames, time_of=times.__getitem__, time_base=Fraction(1, 1000)
    )
    project = start(tmp_path, source, overlap=overlap, segment_frames=length)
    for index in reversed(everything(project)):
        do(project, index)
    made = assemble(project, tmp_path / "out.mp4")
    assert (made.frames, made.of) == (frames, frames)
    if frames == 1:
        assert made.path.suffix == ".png"
    facts, timeline = examine(made.path)
    assert (facts.frames, facts.height, facts.width) == (frames, 96, 192)
    if frames > 1:
        seconds = timeline.from_zero(0, frames) * timeline.time_base
        assert [round(second * 1000) for second in seconds] == times
        # MP4 keeps lengths in the order of decoding, so that of the last frame shown is a guess.
        assert abs(timeline.duration_s - project.timeline.duration_s) < 0.04
    reader = Reader(made.path, timeline)
    assert numbers_of(reader.frames(), SCALE) == list(range(frames))
    assert reader.repeated == 0
    assert not list(tmp_path.glob(".*")) and not list(project.folder.glob(".*"))
    assert not list(project.folder.glob("*.npy"))


def test_segments_go_over_into_each_other(tmp_path: Path) -> None:
    project = start(tmp_path, clip(tmp_path / "a.mp4", 48), overlap=6, quality="high")

    def shade(pixels: np.ndarray, segment) -> np.ndarray:
        return np.full_like(pixels, 60 + 60 * segment.index)

    do(project, 0, 1, 2, change=shade)
    made = assemble(project, tmp_path / "out.mp4")
    seen = [pixels.mean() for pixels in Reader(made.path).frames()]
    ramp = [60 + 60 * place / 7 for place in range(1, 7)]
    wanted = [60] * 10 + ramp + [120] * 10 + [60 + shade for shade in ramp] + [180] * 16
    assert seen == pytest.approx(wanted, abs=1.5)


def test_mixing_keeps_depth() -> None:
    black, white = np.zeros((3, 2, 2, 3), np.uint16), np.full((3, 2, 2, 3), 40_000, np.uint16)
    assert [frame[0, 0, 0] for frame in mixed(black, white)] == [10_000, 20_000, 30_000]
    (half,) = mixed(np.full((1, 2, 2, 3), 100, np.uint8), white[:1])
    assert half.dtype == np.uint16 and half[0, 0, 0] == (100 * 257 + 40_000) / 2


@pytest.mark.parametrize(
    ("suffix", "audio", "kept"),
    [("mp4", "aac", "aac"), ("mkv", "libopus", "opus"), ("mkv", "flac", "flac"),
     ("ts", "aac", "aac"), ("mov", "pcm_s16le", "aac"), ("mkv", "pcm_f32le", "aac"),
     ("mkv", "ac3", "ac3"), ("mp4", "libmp3lame", "mp3")],
)  # fmt: skip
def test_the_sound_stays_in_time(suffix: str, audio: str, kept: str, tmp_path: Path) -> None:
    source = clip(tmp_path / f"a.{suffix}", 40, audio=audio)
    project = start(tmp_path, source)
    do(project, 0, 2, 1)
    made = assemble(project, tmp_path / "out.mp4")
    assert made.audio == 1 and made.frames == 40
    with av.open(str(made.path)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == kept
        assert container.streams.video[0].duration * container.streams.video[0].time_base == (
            Fraction(8, 5)
        )
    (was_begin, was_end), (begins, ends) = sound_of(source), sound_of(made.path)
    shift = float(project.timeline.start_s)
    assert begins == pytest.approx(was_begin - shift, abs=0.03)
    assert ends == pytest.approx(was_end - shift, abs=0.06)


def test_what_is_finished_survives(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", 70, audio="aac")
    project = start(tmp_path, source)
    with pytest.raises(RunFailed, match="No part"):
        assemble(project, tmp_path / "out.mp4")
    do(project, 0, 1, 3)
    with Footage(project, project.segments) as footage:  # cancelled in the middle
        segment = project.segments[2]
        for place, pixels in enumerate(footage.read(segment)):
            footage.write(segment, place, larger(pixels))
            if place == 12:
                break
    assert not list(project.folder.glob(".*"))
    made = assemble(project, tmp_path / "out.mp4")
    begun = segment.read_start + 13  # its first frames are shown, and made again later
    assert begun > 32 and (made.frames, made.of) == (begun, 70)
    assert numbers_of(Reader(made.path).frames(), SCALE) == list(range(begun))
    assert sound_of(made.path)[1] == pytest.approx(begun / 25, abs=0.06)

    # Another process goes on, whatever it would choose itself.
    again = start(tmp_path, source, segment_frames=9, gpus=3)
    assert again.segments == project.segments
    parts = Parts(again)
    assert parts.done() == {0, 1, 3} and parts.leading() == 2
    do(again, 2, 4)
    made = assemble(again, tmp_path / "out.mp4")
    assert numbers_of(Reader(made.path).frames(), SCALE) == list(range(70))


def test_a_broken_part_is_made_again(tmp_path: Path) -> None:
    project = start(tmp_path, clip(tmp_path / "a.mp4", 80))
    do(project, *everything(project))
    parts = Parts(project)
    body = parts.body(2)
    body.write_bytes(body.read_bytes()[:400])
    made = assemble(project, tmp_path / "out.mp4")
    assert numbers_of(Reader(made.path).frames(), SCALE) == list(range(made.frames))
    assert 0 < made.frames < 48 and 2 not in parts.done()
    do(project, *(index for index in everything(project) if index not in parts.done()))
    made = assemble(project, tmp_path / "out.mp4")
    assert numbers_of(Reader(made.path).frames(), SCALE) == list(range(80))


@pytest.mark.parametrize("left", [0, 60, 400])
def test_raw_frames_that_are_cut_off_are_made_again(left: int, tmp_path: Path) -> None:
    project = start(tmp_path, clip(tmp_path / "a.mp4", 48))
    parts = Parts(project)

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:left])

    do(project, 0)
    cut(parts.tail(0))
    with pytest.raises(RunFailed, match="No part"):
        assemble(project, tmp_path / "out.mp4")
    assert parts.done() == set()
    do(project, 0, 2)
    cut(parts.tail(0))
    cut(parts.head(2))
    do(project, 1)  # finds both
    assert parts.done() == {1}
    do(project, 0, 2)
    made = assemble(project, tmp_path / "out.mp4")
    assert numbers_of(Reader(made.path).frames(), SCALE) == list(range(48))


def test_a_project_may_be_moved_with_its_input(tmp_path: Path) -> None:
    home = tmp_path / "old"
    home.mkdir()
    project = start(home, clip(home / "a.mp4", 20, audio="aac"))
    do(project, 0)
    home.rename(tmp_path / "new")
    moved = Project.load(tmp_path / "new" / "video")
    do(moved, 1)
    made = assemble(moved, tmp_path / "out.mp4")
    assert (made.frames, made.audio) == (20, 1)
    elsewhere = start(tmp_path, tmp_path / "new" / "a.mp4", "other")
    assert Project.load(elsewhere.folder).source == tmp_path / "new" / "a.mp4"


def test_parts_of_another_encoder_setting_are_joined_too(tmp_path: Path) -> None:
    project = start(tmp_path, clip(tmp_path / "a.mp4", 40))
    do(project, 0, 1)
    file = project.folder / "project.json"
    data = json.loads(file.read_text())
    data["encoding"]["aspect"] = "2"
    file.write_text(json.dumps(data))
    do(Project.load(project.folder), 2)
    made = assemble(project, tmp_path / "out.mp4")
    assert numbers_of(Reader(made.path).frames(), SCALE) == list(range(40))


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch, capsys) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    project = start(tmp_path, clip(tmp_path / "a.mp4", 16))
    do(project, 0)
    monkeypatch.setattr(main, "_limit_memory", lambda _: None)  # of the tests' process
    monkeypatch.setattr("webui.video.assembly._join", full)
    assert main.main([str(project.folder), "--assemble", str(tmp_path / "out.mp4")]) == 1
    told = error_from_json(json.loads(capsys.readouterr().out)["error"])
    assert isinstance(told, NotEnoughDisk) and "disk is full" in told.message.en
    assert not list(project.folder.glob(".*")) and not list(tmp_path.glob("*out*"))


def another_process(folder: Path, *indexes: int) -> subprocess.Popen:
    work = (
        "from pathlib import Path; from tests.unit.video.test_parts import do, Project;"
        f"do(Project.load(Path({str(folder)!r})), *{indexes})"
    )
    return subprocess.Popen([sys.executable, "-c", work], cwd=Path(__file__).parents[3])


def test_two_processes_and_ten_bits(tmp_path: Path) -> None:
    source = clip(
        tmp_path / "a.mkv", 64, codec="libx265", pixel_format="yuv420p10le", audio="aac",
        options={"x265-params": "log-level=none:sar=2:colorprim=bt2020:transfer=smpte2084"
                                ":colormatrix=bt2020nc"},
    )  # fmt: skip
    project = start(tmp_path, source)
    # One is done by both, as when a worker that was given up comes back: that changes nothing.
    workers = [another_process(project.folder, *indexes) for indexes in ((0, 2, 1), (1, 3))]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    command = [sys.executable, "-m", "webui.video", str(project.folder)]
    command += ["--assemble", str(tmp_path / "out.mp4")]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout) == {
        "output": "out.mp4", "frames": 64, "of": 64, "audio": 1,
    }  # fmt: skip
    facts, timeline = examine(tmp_path / "out.mp4")
    assert (facts.bits, facts.codec, facts.frames) == (10, "av1", 64)
    assert facts.aspect == project.facts.aspect == Fraction(12, 11)
    assert facts.colours == Colours(primaries=9, transfer=16, matrix=9)
    deep = Reader(tmp_path / "out.mp4", timeline).frames(bits=10)
    assert numbers_of(deep, SCALE) == list(range(64))


@pytest.mark.parametrize(("apart_s", "shown"), [(0.0, 24), (math.inf, 0)])
def test_the_newest_frame_is_shown_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart_s: float, shown: int
) -> None:
    monkeypatch.setattr("webui.video.footage._APART_S", apart_s)
    project = start(tmp_path, clip(tmp_path / "a.mp4", 30))
    do(project, 0, 1)
    from PIL import Image

    before = np.asarray(Image.open(project.folder / BEFORE))
    after = np.asarray(Image.open(project.folder / AFTER))
    assert number_of(before) == number_of(after, SCALE) == shown


def test_frames_have_to_come_in_order_and_size(tmp_path: Path) -> None:
    project = start(tmp_path, clip(tmp_path / "a.mp4", 30))
    first = project.segments[0]
    for place, pixels, why in (
        (0, numbered(0), "a frame of"),
        (1, larger(numbered(1)), "instead of 0"),
        (0, larger(numbered(0)), "15 frames are missing"),
    ):
        with Footage(project, [first]) as footage:
            footage.write(first, place, pixels)
            with pytest.raises(ValueError, match=why):
                footage.finish(first)
                footage.wait()
    assert Parts(project).done() == set() and not list(project.folder.glob(".*"))


def test_pictures_of_a_segment_that_is_being_read_outlast_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first was lost: it is read again while the second is made."""
    monkeypatch.setattr("webui.video.footage._APART_S", 0.0)
    project = start(tmp_path, clip(tmp_path / "a.mp4", 32), overlap=0)
    again, present = project.segments
    with Footage(project, project.segments, threads=1) as footage:
        frames = list(footage.read(again))
        for place, pixels in enumerate(footage.read(present)):
            footage.write(present, place, larger(pixels))
        footage.finish(present)
        footage.wait()
        for place, pixels in enumerate(frames):
            footage.write(again, place, larger(pixels))
        footage.finish(again)
        footage.wait()
    with Image.open(project.folder / BEFORE) as shown:
        assert number_of(np.array(shown)) == 12
