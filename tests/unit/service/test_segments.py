"""A video upscaled in segments: shared, lost and done again, cancelled, resumed; and its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.unit.video.clips import clip, numbers_of
from webui.catalogue import find_model
from webui.client import WorkerProcess
from webui.core.errors import BadInput, Cancelled, RunFailed, WorkerLost
from webui.core.parse import parse_request
from webui.core.text import Text
from webui.core.upscale import UpscaleRequest
from webui.core.work import WorkRecord
from webui.demo.upscaler import checkpoint
from webui.service.piece_work import PieceWork
from webui.service.segment_work import RESULT, SegmentPieces
from webui.ui.work_view import render_work
from webui.video.facts import examine
from webui.video.footage import Footage
from webui.video.project import FOLDER, Project
from webui.video.reading import Reader

FRAMES = 80
TALL, WIDE = 48, 96
WITHIN_S = 20.0


def event_set() -> Event:
    """Of a studio that is closing: nothing is joined."""
    event = Event()
    event.set()
    return event


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("video") / "input.mp4", FRAMES, audio="aac")


class Hands:
    """A worker that repeats pixels, and is lost during a segment as often as it is told."""

    def __init__(self, folder: Path, lost_on: dict[int, int], stops_after: int = FRAMES) -> None:
        self.folder, self.lost_on, self.stops_after = folder, lost_on, stops_after
        self.turns: list[list[int]] = []
        self.before_lost = 0
        """Frames that it makes of a segment before it is lost."""
        self._answers: list[Mapping[str, Any]] = []

    def send(self, command: Mapping[str, Any]) -> None:
        self._answers.append(command)

    def _claimed(self, job: Mapping[str, Any], on_event: Any) -> Iterator[int]:
        """The numbers of a turn, and those that are given when it asks for more."""
        assert job["claims"]
        numbers = job["segments"]
        self.turns.append([])
        while numbers:
            self.turns[-1] += numbers
            yield from numbers
            on_event({"event": "claim", "id": "job", "claim": len(self._answers)})
            assert self._answers[-1]["claim"] == len(self._answers) - 1
            numbers = self._answers[-1]["pieces"]

    def run(self, job: Mapping[str, Any], on_event: Any = None) -> Mapping[str, Any]:
        project = Project.load(self.folder / FOLDER)
        claimed = (project.segments[index] for index in self._claimed(job, on_event))
        with Footage(project, claimed) as footage:
            for segment in footage.segments:
                if self.lost_on.get(segment.index, 0):
                    self.lost_on[segment.index] -= 1
                    for _ in range(self.before_lost):
                        on_event({"event": "frames", "id": "job", "count": 1})
                    raise WorkerLost(Text("lost", "丢失"))
                for index, pixels in enumerate(footage.read(segment)):
                    if segment.read_start + index >= self.stops_after:
                        error = Cancelled().to_json()
                        return {"event": "failed", "id": "job", "error": error}
                    footage.write(segment, index, pixels.repeat(2, 0).repeat(2, 1))
                    on_event({"event": "frames", "id": "job", "count": 1})
                footage.finish(segment)
            footage.wait()
        return {"event": "result", "id": "job", "measurement": None}


def asked(video: Path, **keys: Any) -> UpscaleRequest:
    given = {"task": "upscale", "model": "swin2sr-demo", "input": str(video), "scale": 2}
    size = {"frames": FRAMES, "height": TALL, "width": WIDE, "segment_frames": 32}
    request = parse_request(given | size | keys, find_model)
    assert isinstance(request, UpscaleRequest)
    return request


def work(request: UpscaleRequest, folder: Path, workers: list[Hands]) -> Any:
    told: list[tuple[int, int]] = []
    pieces = SegmentPieces(request, folder, len(workers))
    done = PieceWork(pieces, [partial(next, repeat(hands)) for hands in workers]).run(
        {"id": "job", "settings": {}},
        lambda event: told.append((event["done"], event["of"])) if "of" in event else None,
    )
    return done, told


def frames_of(path: Path) -> list[int]:
    return numbers_of(Reader(path).frames(), scale=2)


def test_segments_are_shared_and_a_lost_one_is_done_again(video: Path, tmp_path: Path) -> None:
    lost_on = {1: 1}  # whoever takes it
    workers = [Hands(tmp_path, lost_on), Hands(tmp_path, lost_on)]
    done, told = work(asked(video, overlap=4), tmp_path, workers)
    assert done["event"] == "result" and done["outputs"] == [RESULT]
    assert frames_of(tmp_path / RESULT) == list(range(FRAMES))
    taken = [number for hands in workers for turn in hands.turns for number in turn]
    assert sorted(taken) == [0, 1, 1, 2]
    assert told[-1] == (FRAMES, FRAMES) and examine(tmp_path / RESULT)[0].audio == 1
    record = WorkRecord.from_json(done["work"])
    assert record.shared and [worker.lost for worker in record.workers].count(1) == 1
    assert record.units == FRAMES and sum(worker.pieces for worker in record.workers) == 3
    kept = [
        sum(map(len, hands.turns)) - worker.lost
        for hands, worker in zip(workers, record.workers, strict=True)
    ]
    assert [worker.pieces for worker in record.workers] == kept
    assert 0 < sum(worker.work_s for worker in record.workers) <= 2 * record.elapsed_s
    assert (tmp_path / "thumbnail.jpg").is_file()


def test_what_was_made_before_a_cancel_is_kept_and_the_rest_follows(
    video: Path, tmp_path: Path
) -> None:
    first = Hands(tmp_path, {}, stops_after=50)
    done, _ = work(asked(video), tmp_path, [first])
    assert done["event"] == "failed" and done["error"]["type"] == "Cancelled"
    assert done["outputs"] == [RESULT] and frames_of(tmp_path / RESULT) == list(range(50))
    second = Hands(tmp_path, {})
    done, told = work(asked(video), tmp_path, [second])
    assert second.turns == [[1, 2]] and told[0] == (33, FRAMES)
    assert done["event"] == "result" and frames_of(tmp_path / RESULT) == list(range(FRAMES))
    again = Hands(tmp_path, {})
    done, _ = work(asked(video), tmp_path, [again])
    assert not again.turns and done["outputs"] == [RESULT]


class ReadsAhead(Hands):
    """Begins with a segment before the one that it is at is made."""

    def _claimed(self, job: Mapping[str, Any], on_event: Any) -> Iterator[int]:
        numbers = super()._claimed(job, on_event)
        present = next(numbers)
        for following in chain(numbers, [-1]):
            if self.lost_on.get(following, 0):
                raise WorkerLost(Text("lost", "丢失"))
            yield present
            present = following


@pytest.mark.parametrize("kind", [Hands, ReadsAhead])
def test_a_segment_that_ends_every_worker_fails_the_run_and_keeps_the_others(
    kind: type[Hands], video: Path, tmp_path: Path
) -> None:
    done, _ = work(asked(video), tmp_path, [kind(tmp_path, {1: 9})])
    assert done["event"] == "failed" and done["error"]["type"] == "WorkerLost"
    assert frames_of(tmp_path / RESULT) == list(range(32))


def test_a_card_that_cannot_be_had_leaves_its_segments_to_the_others(
    video: Path, tmp_path: Path
) -> None:
    hands = Hands(tmp_path, {})

    def refused() -> Hands:
        raise WorkerLost(Text("no card", "没有显卡"))

    pieces = SegmentPieces(asked(video), tmp_path, 2)
    done = PieceWork(pieces, [partial(next, repeat(hands)), refused]).run({"id": "job"}, print)
    assert done["event"] == "result" and frames_of(tmp_path / RESULT) == list(range(FRAMES))
    # One that never started is not told of as lost: no frame was made again.
    assert [worker["lost"] for worker in done["work"]["workers"]] == [0, 0]


def test_a_lost_worker_is_told_before_another_is_there(video: Path, tmp_path: Path) -> None:
    told: list[int] = []
    known: list[list[int]] = []
    said: list[str] = []
    made: list[int] = []

    def hear(event: Mapping[str, Any]) -> None:
        if event["event"] == "work":
            told.append(WorkRecord.from_json(event["work"]).workers[0].lost)
        if event["event"] == "told":
            said.append(Text.from_json(event["text"]).en)
        if "of" in event:
            made.append(event["done"])

    def worker() -> Hands:
        known.append(told[-1:])
        return hands

    hands = Hands(tmp_path, {1: 1})
    hands.before_lost = 5
    pieces = SegmentPieces(asked(video), tmp_path, 1)
    PieceWork(pieces, [worker]).run({"id": "job", "settings": {}}, hear)
    assert known == [[], [1], [1]]
    assert [text.split(": ")[1] for text in said] == ["5."]
    first = SegmentPieces(asked(video), tmp_path, 1).units_of(0)
    assert made[: first + 6] == [*range(1, first + 6), first] and made[-1] == FRAMES


class Deaf(Hands):
    """Is lost when it is to hear what it asked for, once."""

    lost = False

    def send(self, command: Mapping[str, Any]) -> None:
        if not self.lost:
            self.lost = True
            raise WorkerLost(Text("lost", "丢失"))
        super().send(command)


def test_what_was_claimed_by_one_that_is_lost_is_done_again(video: Path, tmp_path: Path) -> None:
    deaf = Deaf(tmp_path, {})
    done, told = work(asked(video), tmp_path, [deaf])
    assert done["event"] == "result" and frames_of(tmp_path / RESULT) == list(range(FRAMES))
    assert deaf.turns == [[0], [1], [2]] and told[-1] == (FRAMES, FRAMES)


class Paced(Hands):
    """Waits at its first segment for another worker."""

    def __init__(self, folder: Path, waits_for: Callable[[], Event]) -> None:
        super().__init__(folder, {})
        self._waits_for = waits_for
        self.begun, self.ended = Event(), Event()

    def run(self, job: Mapping[str, Any], on_event: Any = None) -> Mapping[str, Any]:
        self.begun.set()
        assert self._waits_for().wait(WITHIN_S)
        end = super().run(job, on_event)
        self.ended.set()
        return end


def test_who_is_faster_takes_more_in_its_turn(video: Path, tmp_path: Path) -> None:
    fast = Paced(tmp_path, lambda: slow.begun)
    slow = Paced(tmp_path, lambda: fast.ended)
    done, told = work(asked(video), tmp_path, [fast, slow])
    assert done["event"] == "result" and frames_of(tmp_path / RESULT) == list(range(FRAMES))
    assert [[len(turn) for turn in hands.turns] for hands in (fast, slow)] == [[2], [1]]
    assert told == sorted(told) and told[-1] == (FRAMES, FRAMES)


def test_what_is_not_made_is_no_success(video: Path, tmp_path: Path) -> None:
    given = iter([Hands(tmp_path, {1: 1})])  # once it is lost it cannot be had again

    def once() -> Hands:
        hands = next(given, None)
        if hands is None:
            raise Cancelled()
        return hands

    def refused() -> Hands:
        raise RuntimeError("a fault of the studio")

    pieces = SegmentPieces(asked(video), tmp_path, 2)
    done = PieceWork(pieces, [once, refused]).run({"id": "job"}, print)
    assert done["event"] == "failed" and done["error"]["type"] == "Cancelled"
    assert done["outputs"] == [RESULT] and frames_of(tmp_path / RESULT) == list(range(32))
    with pytest.raises(RunFailed):
        PieceWork(SegmentPieces(asked(video), tmp_path, 1), [refused], event_set()).run(
            {"id": "job"}
        )


def test_no_video_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "input.mp4"
    path.write_bytes(b"no video at all")
    with pytest.raises(BadInput) as raised:
        SegmentPieces(asked(path), tmp_path, 1)
    assert raised.value.field == "input"


class Doomed(WorkerProcess):
    """A worker that is killed at its first frames, once."""

    killed = False

    def run(self, job: Mapping[str, Any], on_event: Callable[[Any], None] | None = None) -> Any:
        def hear(event: Any) -> None:
            if event["event"] == "frames" and not self.killed:
                self.killed = True
                self.kill()
            if on_event is not None:
                on_event(event)

        return super().run(job, hear)


@pytest.mark.slow
def test_two_real_workers_share_a_video_and_one_may_be_lost(
    on_processor: None, video: Path, tmp_path: Path
) -> None:
    short = clip(tmp_path / "short.mp4", 70, size=(24, 96))
    request, log = asked(short, frames=70, height=24), tmp_path / "worker.log"
    first, second = (kind(log, device="cpu", threads=1) for kind in (WorkerProcess, Doomed))

    def make(worker: WorkerProcess) -> WorkerProcess:
        worker.start()
        return worker

    settings = {"precision": "fp32", "tile": 0, "tile_overlap": 24, "tile_batch": 4}
    weights = {"kind": "embedded", "folder": str(checkpoint(2).parent)}
    job = {"id": "job", "request": request.to_json(), "settings": settings, "weights": weights}
    with first, second:
        done = PieceWork(
            SegmentPieces(request, tmp_path, 2), [partial(make, first), partial(make, second)]
        ).run({**job, "output_dir": str(tmp_path)})
    assert done["event"] == "result", done
    assert frames_of(tmp_path / RESULT) == list(range(70))
    assert done["measurement"]["phases"][0]["name"] == "upscale"
    one, other = WorkRecord.from_json(done["work"]).workers
    assert one.device and one.units and other.lost == 1
    # Starting a process and loading the model, before its first frame.
    assert one.load_s > 0
    # Which of them is the slower depends on how soon the lost one is back.
    slower_s = max(one.work_s, other.work_s)
    assert slower_s == pytest.approx(done["measurement"]["seconds"]) and slower_s > 0


def test_that_only_a_part_of_a_file_was_there_is_told_with_the_result(tmp_path: Path) -> None:
    whole = clip(tmp_path / "whole.mkv", FRAMES).read_bytes()
    path = tmp_path / "input.mkv"
    path.write_bytes(whole[: len(whole) * 7 // 10])
    frames = examine(path)[0].frames
    done, _ = work(asked(path, frames=frames), tmp_path, [Hands(tmp_path, {})])
    assert done["event"] == "result" and len(frames_of(tmp_path / RESULT)) == frames < FRAMES
    (note,) = WorkRecord.from_json(done["work"]).notes
    assert note.en.startswith("The file is cut off") and note.zh
    told = render_work(WorkRecord.from_json(done["work"]), "zh")
    assert note.zh in told
