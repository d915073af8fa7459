"""Reading, the model, joining and encoding go on at the same time: slow stages, and a clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.video.clips import clip
from webui.pipelines import swin2sr
from webui.pipelines.beside import Ahead, Beside
from webui.pipelines.flashvsr.frames import Reader
from webui.pipelines.tiles import Tile
from webui.video.facts import examine
from webui.video.footage import Footage
from webui.video.parts import PartWriter
from webui.video.project import Project

FRAMES, EACH_S = 20, 0.03
SUM_S = 3 * FRAMES * EACH_S
"""Three stages, one after the other; at the same time they take a third of it."""
BESIDE = 0.67


class Film:
    """Frames that take long to read and long to write."""

    def __init__(self, reading_s: float = EACH_S, writing_s: float = EACH_S) -> None:
        self.segments = [SimpleNamespace(count=FRAMES)]
        self.cores, self.folder = 2, None
        self.written: list[int] = []
        self._reading_s, self._writing_s = reading_s, writing_s

    def read(self, segment: Any) -> Iterator[np.ndarray]:
        for number in range(segment.count):
            time.sleep(self._reading_s)
            yield np.full((8, 8, 3), number, np.uint8)

    def write(self, segment: Any, index: int, frame: np.ndarray) -> None:
        time.sleep(self._writing_s)
        self.written.append(int(frame[0, 0, 0]))

    def finish(self, segment: Any) -> None:
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
    """Takes its time and doubles pixels."""

    config, dtype = SimpleNamespace(window_size=8), torch.float32
    swin2sr = SimpleNamespace(encoder=SimpleNamespace(stages=[]))

    def __call__(self, pixels: torch.Tensor) -> Any:
        time.sleep(EACH_S)
        made = pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return SimpleNamespace(reconstruction=made)


def run(film: Film) -> tuple[float, dict[str, float]]:
    pipe = SimpleNamespace(model=lambda scale: Model(), run_device=torch.device("cpu"))
    request = SimpleNamespace(scale=2, height=8, width=8, settings={})
    report = Told()
    began = time.perf_counter()
    swin2sr.run(pipe, request, {"tile": 0, "tile_batch": 1}, report, film)
    assert film.written == list(range(FRAMES))
    return time.perf_counter() - began, report.waits


def test_reading_the_model_and_writing_take_as_long_as_the_slowest() -> None:
    run(Film(0.0, 0.0))  # the first one brings libraries
    seconds, _ = run(Film())
    assert seconds < BESIDE * SUM_S


@pytest.mark.parametrize("slow", ["reading", "writing"])
def test_what_the_model_waited_for_is_told(slow: str) -> None:
    film = Film(**{"reading_s": 0.0, "writing_s": 0.0, f"{slow}_s": 2 * EACH_S})
    _, waits = run(film)
    (other,) = set(waits) - {slow}
    assert waits[slow] > 0.7 * FRAMES * EACH_S and waits[other] < 0.3 * FRAMES * EACH_S


def test_flashvsr_reads_and_enlarges_beside_the_model() -> None:
    film = Film()
    began = time.perf_counter()
    with Reader(film.read(film.segments[0]), (Tile(0, 0, 8, 8),), 4, cores=1) as reader:
        for number in range(FRAMES):
            reader.take(range(number, number + 1))
            reader.let_go(number + 1)
            time.sleep(EACH_S)
    assert time.perf_counter() - began < 0.8 * 2 * FRAMES * EACH_S


def test_the_encoder_goes_on_beside_the_next_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(tmp_path / "a.mp4", FRAMES)
    project = Project.start(
        tmp_path / "video", source, *examine(source), scale=1, segment_frames=10, overlap=0
    )
    write = PartWriter.write

    def slowly(self: PartWriter, *given: Any) -> None:
        time.sleep(EACH_S)
        write(self, *given)

    monkeypatch.setattr(PartWriter, "write", slowly)
    began = time.perf_counter()
    with Footage(project, project.segments, threads=1) as footage:
        first, second = project.segments
        for index, pixels in enumerate(footage.read(first)):
            footage.write(first, index, pixels)
        footage.finish(first)
        handed_over_s = time.perf_counter() - began
        for index, pixels in enumerate(footage.read(second)):
            footage.write(second, index, pixels)
        footage.finish(second)
        assert footage._parts.done() == {0, 1}
    assert handed_over_s < 10 * EACH_S < time.perf_counter() - began


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
    assert made[:2] == [0, 1]
