"""Reading, the model, joining and encoding go on together: stages that wait for one another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.video.clips import clip
from webui.pipelines import swin2sr
from webui.pipelines.flashvsr.blocks import BLOCK_FRAMES
from webui.pipelines.flashvsr.frames import Reader
from webui.pipelines.flashvsr.run import _tiled, _whole
from webui.pipelines.tile_batch import HostMeter, TileBatch
from webui.pipelines.tiles import ClipBlend, Tile, TileGrid
from webui.video.beside import Ahead, Beside
from webui.video.facts import examine
from webui.video.footage import Footage
from webui.video.parts import PartWriter
from webui.video.project import Project

FRAMES = 20
WITHIN_S = 20.0
"""Nothing takes so long: a stage that waits for one that only comes after it fails."""
HELD_S = 0.3
HELD_AT = 5

Hold = Callable[[int], object]


class Film:
    """Frames whose reading and writing a test holds up."""

    def __init__(self, reading: Hold = int, writing: Hold = int) -> None:
        self.segments, self.total = [SimpleNamespace(count=FRAMES)], FRAMES
        self.cores, self.folder, self.bits = 2, None, 8
        self.written: list[int] = []
        self.ended_in: list[threading.Thread] = []
        self._reading, self._writing = reading, writing

    def read(self, segment: Any) -> Iterator[np.ndarray]:
        try:
            for number in range(segment.count):
                self._reading(number)
                yield np.full((8, 8, 3), number, np.uint8)
        finally:
            self.ended_in.append(threading.current_thread())

    def write(self, segment: Any, index: int, frame: np.ndarray) -> None:
        self._writing(index)
        self.written.append(int(frame[0, 0, 0]))

    def finish(self, segment: Any) -> None:
        pass

    def wait(self) -> None:
        pass


class Told:
    """A report that adds up what the model waited for."""

    def __init__(self) -> None:
        self.waits = {"reading": 0.0, "writing": 0.0}

    def waited(self, what: str, seconds: float) -> None:
        self.waits[what] += seconds

    def begin(self, phase: str, continues: bool = False) -> None:
        pass

    check = step = lambda *_: None


class Model:
    """Doubles pixels."""

    config, dtype = SimpleNamespace(window_size=8), torch.float32
    swin2sr = SimpleNamespace(encoder=SimpleNamespace(stages=[]))

    def __init__(self, computing: Hold) -> None:
        self._computing, self._calls = computing, count()

    def __call__(self, pixels: torch.Tensor) -> Any:
        self._computing(next(self._calls))
        made = pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return SimpleNamespace(reconstruction=made)


def run(film: Film, computing: Hold = int) -> dict[str, float]:
    model = Model(computing)
    pipe = SimpleNamespace(model=lambda scale: model, run_device=torch.device("cpu"))
    request = SimpleNamespace(scale=2, height=8, width=8, settings={})
    report = Told()
    swin2sr.run(pipe, request, {"tile": 0, "tile_batch": 1}, report, film)
    assert film.written == list(range(FRAMES))
    return report.waits


def test_reading_the_model_and_writing_go_on_at_the_same_time() -> None:
    """A frame is being read, another computed and a third written: none of them ends before all
    have begun."""
    meeting = threading.Barrier(3)

    def meets_at(wanted: int) -> Hold:
        return lambda number: number == wanted and meeting.wait(WITHIN_S)

    run(Film(reading=meets_at(12), writing=meets_at(0)), computing=meets_at(1))


@pytest.mark.parametrize("slow", ["reading", "writing"])
def test_what_the_model_waited_for_is_told(slow: str) -> None:
    computed = threading.Event()

    def computing(number: int) -> None:
        if number == 1:
            computed.set()

    def held(number: int) -> None:
        if number == HELD_AT:  # the model has nothing else to do soon
            assert computed.wait(WITHIN_S)
            time.sleep(HELD_S)

    waits = run(Film(**{slow: held}), computing)
    (other,) = set(waits) - {slow}
    assert waits[slow] > HELD_S / 2 and waits[slow] > waits[other]


def test_flashvsr_reads_and_enlarges_beside_the_model() -> None:
    begun = threading.Event()
    film = Film(reading=lambda number: begun.set() if number == 10 else None)
    with Reader([film.read(film.segments[0])], (Tile(0, 0, 8, 8),), 4, cores=1) as reader:
        reader.take(range(1))
        assert begun.wait(WITHIN_S)  # nobody has asked for it yet


def test_the_next_video_is_read_while_the_one_before_is_made() -> None:
    begun = threading.Event()

    def videos() -> Iterator[Iterator[np.ndarray]]:
        yield (np.full((8, 8, 3), number, np.uint8) for number in range(3))
        begun.set()
        yield (np.full((8, 8, 3), number, np.uint8) for number in (7, 8))

    with Reader(videos(), (Tile(0, 0, 8, 8),), 4, cores=1) as reader:
        assert shades(reader.take(range(3))) == [0, 1, 2]
        assert begun.wait(WITHIN_S)  # nobody has gone on to it yet
        assert shades(reader.take(range(2, 5))) == [2, 2, 2], "the last frame stands for more"
        reader.go_on()
        assert shades(reader.take(range(3))) == [7, 8, 8]


def test_a_video_that_is_left_early_is_let_go() -> None:
    videos = (iter(np.full((5, 8, 8, 3), shade, np.uint8)) for shade in (1, 2))
    with Reader(videos, (Tile(0, 0, 8, 8),), 4, cores=1) as reader:
        assert shades(reader.take(range(2))) == [1, 1]
        reader.go_on()
        assert shades(reader.take(range(1))) == [2]


def shades(frames: list[list[np.ndarray]]) -> list[int]:
    return [int(parts[0][0, 0, 0]) for parts in frames]


def test_flashvsr_reads_while_it_compiles() -> None:
    begun = threading.Event()
    film = Film(reading=lambda number: begun.set())

    class Compiles(SimpleNamespace):
        def warm_up(self, parts: Any) -> None:
            assert begun.wait(WITHIN_S)

        def restore(self, reader: Reader, segment: Any, *_: Any) -> Iterator[Any]:
            frames = reader.take(range(segment.count))
            yield 0, np.stack([parts[0] for parts in frames])[None]

    film.segments *= 2
    _whole(Compiles(scale=4, report=Told()), (Tile(0, 0, 8, 8),), "adain", film)
    assert film.written == [*range(FRAMES)] * 2


def test_the_next_segment_is_asked_for_when_the_last_frames_come() -> None:
    """Not when the present one is read: another worker may be free for it before."""
    asked = threading.Event()
    film = Film()
    long = SimpleNamespace(count=2 * BLOCK_FRAMES)

    def segments() -> Iterator[Any]:
        yield long
        asked.set()

    class Makes(SimpleNamespace):
        def restore(self, reader: Reader, segment: Any, *_: Any) -> Iterator[Any]:
            reader.take(range(segment.count + 8))  # all is read, and the last frame repeated
            for first in (0, BLOCK_FRAMES):
                assert not asked.wait(HELD_S)
                yield first, np.zeros((1, BLOCK_FRAMES, 8, 8, 3), np.uint8)
            assert asked.wait(WITHIN_S)

    film.segments = segments()
    made = Makes(scale=4, report=Told(), warm_up=lambda _: None)
    _whole(made, (Tile(0, 0, 8, 8),), "adain", film)
    assert len(film.written) == long.count and asked.is_set()


def test_a_run_that_fails_asks_for_nothing_more() -> None:
    asked = threading.Event()
    film = Film()

    def segments() -> Iterator[Any]:
        yield SimpleNamespace(count=1)
        asked.set()

    def fails(*_: Any) -> Any:
        raise ValueError("out of memory, say")

    film.segments = segments()
    with pytest.raises(ValueError, match="out of memory"):
        _whole(
            SimpleNamespace(scale=4, report=Told(), warm_up=fails),
            (Tile(0, 0, 8, 8),),
            "adain",
            film,
        )
    assert not asked.is_set()


def test_the_film_ends_in_the_thread_that_reads_it() -> None:
    """An open video is not left to whoever collects it."""
    film = Film()
    film.segments[0].count = 1000
    frames = film.read(film.segments[0])
    with Reader([frames], (Tile(0, 0, 8, 8),), 4, cores=1) as reader:
        reader.take(range(1))
    assert [thread.name for thread in film.ended_in] == ["ahead"]
    del frames


def test_a_clip_that_was_joined_in_part_is_not_joined_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two tiles at once run out of memory; the clip that was made before could not be joined."""
    grid = TileGrid(32, 64, 32, 0, multiple=32)
    added: list[int] = []

    def fails(self: ClipBlend, index: int, first: int, pixels: np.ndarray) -> None:
        added.append(index)
        if index == 1:
            raise MemoryError("no room")

    def restore(_reader: Any, _segment: Any, tiles: Any, *_: Any) -> Iterator[Any]:
        yield 0, np.zeros((len(tiles), 1, 128, 128, 3), np.uint8)
        if len(tiles) > 1:
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(ClipBlend, "add", fails)
    blocks: Any = SimpleNamespace(scale=4, report=Told(), restore=restore)
    batches = TileBatch(HostMeter(), start=2, grows=False)
    film = Film()
    with pytest.raises(MemoryError, match="no room"):
        _tiled(blocks, grid, batches, "none", film, film.segments[0])
    assert added == [0, 1] and not film.written


def test_the_encoder_goes_on_beside_the_next_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is being read before the first frame is encoded."""
    source = clip(tmp_path / "a.mp4", FRAMES)
    project = Project.start(
        tmp_path / "video", source, *examine(source), scale=1, segment_frames=10, overlap=0
    )
    write, begun = PartWriter.write, threading.Event()

    def waits(self: PartWriter, *given: Any) -> None:
        assert begun.wait(WITHIN_S)
        write(self, *given)

    monkeypatch.setattr(PartWriter, "write", waits)
    with Footage(project, project.segments, threads=1) as footage:
        for segment in project.segments:
            for index, pixels in enumerate(footage.read(segment)):
                if segment.index == 1:
                    begun.set()
                footage.write(segment, index, pixels)
            footage.finish(segment)
        footage.wait()
        assert footage._parts.done() == {0, 1}


def test_what_fails_beside_is_heard_of_and_threads_end() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the disk")

    threads = threading.active_count()
    with Ahead(broken(), 4) as ahead:
        assert next(ahead) == 1
        with pytest.raises(OSError, match="the disk"):
            next(ahead)
        assert next(ahead, None) is None
    ended: list[bool] = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            ended.append(True)

    with Ahead(endless(), 2) as ahead:
        next(ahead)
    assert ended == [True] and threading.active_count() == threads
    made: list[int] = []

    def fails(number: int) -> None:
        made.append(number)
        if number == 1:
            raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"), Beside(2) as beside:
        for number in range(5):
            beside.do(fails, number)
    assert made == [0, 1]
    with pytest.raises(OSError, match="the disk"), Beside(2) as beside:
        beside.do(fails, 1)
        raise MemoryError("the block's own, which would be tried again")
