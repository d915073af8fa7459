"""Videos before and between runs: what is counted, who waits, what is resumed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from PIL import Image

from tests.unit.video.clips import clip
from webui.core.errors import BadInput, NotAllowed, NotEnoughDisk
from webui.core.job import JobState
from webui.core.request import Request
from webui.core.units import GIB
from webui.service import Access, Studio, videos
from webui.service.access import LOCAL
from webui.service.inputs import check_disk, output_bytes
from webui.service.limits import COSTLY_AT_ONCE, check_size
from webui.service.queue import JobQueue
from webui.service.segment_work import RESULT, segments_left
from webui.service.videos import Videos
from webui.storage import JobRecord, Ledger, Limits, StudioConfig, files
from webui.video.facts import examine
from webui.video.parts import Parts
from webui.video.project import FOLDER, Project, write_whole

RUNS = ("one", "two", "three", "four")


def asked(studio: Studio, path: Path, **keys: Any) -> Request:
    given = {"task": "upscale", "model": "swin2sr-demo", "input": str(path), "scale": 2}
    return studio.parse(given | keys)


@pytest.mark.parametrize(
    ("frames", "height", "width"), [(1_000_001, 64, 64), (1, 64, 15), (1, 16, 8193)]
)
def test_what_is_counted_can_be_asked_for_again(
    local: Studio, monkeypatch: pytest.MonkeyPatch, frames: int, height: int, width: int
) -> None:
    found = {"frames": frames, "height": height, "width": width}
    monkeypatch.setattr(Videos, "facts", lambda *_: found)  # files so large take minutes
    with pytest.raises(BadInput) as caught:
        local.videos.counted(asked(local, Path("a.mp4")))
    assert caught.value.field == "input" and caught.value.hint.zh


def test_a_picture_of_a_few_pixels_is_refused(local: Studio, tmp_path: Path) -> None:
    Image.new("RGB", (5, 40)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match="5 x 40"):
        local.videos.counted(asked(local, tmp_path / "a.png"))


@pytest.fixture
def public(on_processor: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A hosted studio whose jobs stay waiting; its files cannot be opened."""
    monkeypatch.setattr(JobQueue, "add", lambda *_: None)
    studio = Studio(
        tmp_path / "home",
        access=Access(loopback=False),
        config=StudioConfig(limits=Limits(max_queued_per_user=1)),
        resume=False,
    )
    yield studio
    studio.close()


@pytest.mark.parametrize("task", ["upscale", "parse"])
def test_visitors_files_are_opened_a_few_at_a_time(
    public: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    keys = {"task": task} if task == "upscale" else {"task": task, "model": "ocr"}
    request = public.parse({"model": "swin2sr-demo", "input": str(tmp_path / "no.mp4")} | keys)
    part = public.videos if task == "upscale" else public.documents
    monkeypatch.setattr(part._turns, "_wait_s", 0.05)
    with ExitStack() as others:
        for number in range(COSTLY_AT_ONCE):
            others.enter_context(part._turns.turn(owner=False, visitor=f"other {number}"))
        with pytest.raises(NotAllowed, match="busy"):
            public.submit(request, "anna")


def test_a_full_queue_opens_no_file(public: Studio, tmp_path: Path) -> None:
    public._ledger.record("waits", "anna", {}, None, "folder")
    with pytest.raises(NotAllowed, match="waiting already"):
        public.submit(asked(public, tmp_path / "no.mp4"), "anna")


@pytest.mark.parametrize(
    "shared",
    [
        {"overlap": 240, "segment_frames": 32},
        {"settings": {"tile": 64, "tile_overlap": 32}},
    ],
)
def test_visitors_are_limited_by_what_is_computed(local: Studio, shared: dict[str, Any]) -> None:
    size = {"frames": 320, "height": 256, "width": 256}
    limits = Limits(max_pixel_frames=320 * 512 * 512 * 3 // 2)
    check_size(asked(local, Path("a.mp4"), **size), limits)
    with pytest.raises(BadInput, match="larger than"):
        check_size(asked(local, Path("a.mp4"), **size, **shared), limits)


def test_tiles_of_two_windows_are_refused(local: Studio) -> None:
    with pytest.raises(BadInput, match="32 px are the least"):
        asked(local, Path("a.mp4"), settings={"tile": 16, "tile_overlap": 8})
    asked(local, Path("a.mp4"), settings={"tile": 32, "tile_overlap": 8})


def test_a_film_needs_the_room_that_films_take(local: Studio) -> None:
    film = {"frames": 108_000, "height": 1080, "width": 1920}
    high, small = (asked(local, Path("a.mp4"), quality=q, **film) for q in ("high", "small"))
    assert 40 * GIB < output_bytes(high) < 60 * GIB
    assert output_bytes(small) < output_bytes(high) / 3


def test_frames_of_tiles_that_the_disk_has_no_room_for(
    local: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = {"tile": 64, "tile_overlap": 16}
    size = {"model": "flashvsr-v1.1", "frames": 960, "height": 216, "width": 384, "scale": 4}
    request = asked(local, Path("a.mp4"), **size, settings=tiles)
    plan = local.estimate(request)
    room = output_bytes(request) + plan.estimate.disk_bytes + GIB
    monkeypatch.setattr(files, "free_bytes", lambda _: room)
    check_disk(local._outputs, request, plan)
    monkeypatch.setattr(files, "free_bytes", lambda _: room - 2 * GIB)
    with pytest.raises(NotEnoughDisk) as raised:
        check_disk(local._outputs, request, plan)
    hint = raised.value.hint
    assert "shorter segments than 480 frames" in hint.en and "480" in hint.zh
    whole = local.estimate(asked(local, Path("a.mp4"), **size))
    check_disk(local._outputs, request, whole)
    short = asked(local, Path("a.mp4"), **size | {"frames": 100}, settings=tiles)
    monkeypatch.setattr(files, "free_bytes", lambda _: 0)
    with pytest.raises(NotEnoughDisk) as raised:
        check_disk(local._outputs, short, local.estimate(short))
    assert "segments than 100 frames" in raised.value.hint.en and "100" in raised.value.hint.zh


def test_a_video_that_goes_on_needs_the_disk_for_what_is_left(
    local: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = {"tile": 64, "tile_overlap": 16, "gpus": 2}
    size = {"model": "flashvsr-v1.1", "frames": 80, "height": 216, "width": 384, "scale": 4}
    request = asked(local, Path("a.mp4"), **size, segment_frames=32, settings=tiles)
    plan = local.estimate(request.with_changes(card="rtx-4090"))
    blend_bytes = plan.estimate.disk_bytes
    source = clip(tmp_path / "input.mp4", 80)
    assert segments_left(tmp_path) is None
    project = Project.start(
        tmp_path / FOLDER, source, *examine(source), scale=4, segment_frames=32, overlap=0
    )
    asks: list[int] = []
    monkeypatch.setattr(local._outputs, "check_space", asks.append)
    for made in [(), (0,), (1,), (2,)]:
        for index in made:
            write_whole(Parts(project).marker(index), "{}")
        check_disk(local._outputs, request, plan, segments_left(tmp_path))
    assert segments_left(tmp_path) == (0, 0)
    crowd = asked(local, Path("a.mp4"), **size, segment_frames=32, settings=tiles | {"gpus": 8})
    plan = local.estimate(crowd.with_changes(card="rtx-4090"))
    check_disk(local._outputs, crowd, plan, (1, 16))  # three segments, so three of the eight work
    assert asks.pop() == output_bytes(crowd, 16) + plan.estimate.disk_bytes // 3
    outputs = [output_bytes(request, frames) for frames in (80, 48, 16, 0)]
    assert asks == [
        outputs[0] + blend_bytes,
        outputs[1] + blend_bytes,
        outputs[2] + blend_bytes // 2,
        outputs[3],
    ]
    assert output_bytes(request) == outputs[0] > outputs[1] > outputs[2] > outputs[3]


def test_a_visitors_last_place_is_taken_once(
    public: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By resuming, too: what is counted and what is queued is one step."""
    limits = Limits(max_queued_per_user=2)
    request = public.parse({"task": "upscale", "model": "swin2sr-demo", "input": "a.mp4"})
    for run in RUNS:
        public._ledger.record(
            run, "anna", request.to_json(), None, public._outputs.new_folder(run).name
        )
        public._ledger.set_state(run, JobState.CANCELLED)
    refused: list[NotAllowed] = []
    count = Ledger.count

    def slowly(*given: Any) -> int:
        found = count(*given)
        sleep(0.1)
        return found

    monkeypatch.setattr(Ledger, "count", slowly)

    def click(run: str) -> None:
        try:
            public.videos.resume(run, "anna", limits)
        except NotAllowed as error:
            refused.append(error)

    clicks = [threading.Thread(target=click, args=(run,)) for run in RUNS]
    for each in clicks:
        each.start()
    for each in clicks:
        each.join()
    assert len(refused) == 2 and "2 jobs waiting" in refused[0].message.en
    assert public._ledger.count(JobState.QUEUED, "anna") == 2


@pytest.mark.parametrize("task", ["upscale", "parse"])
def test_of_two_clicks_one_goes_on(
    local: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    queued: list[str] = []
    monkeypatch.setattr(JobQueue, "add", lambda _, record, *__: queued.append(record.id))
    keys = {"model": "ocr", "pages": "1"} if task == "parse" else {"model": "swin2sr-demo"}
    request = local.parse({"task": task, "input": str(tmp_path / "a"), **keys})
    local._outputs.new_folder("run")
    folder = next((local.home / "outputs").glob("*run")).name
    local._ledger.record("run", LOCAL, request.to_json(), None, folder)
    local._ledger.set_state("run", JobState.CANCELLED)
    both_have_read = threading.Barrier(2)
    once = Ledger.get

    def get(ledger: Ledger, job_id: str) -> JobRecord:
        record = once(ledger, job_id)
        with suppress(threading.BrokenBarrierError):
            both_have_read.wait(0.3)
        return record

    monkeypatch.setattr(Ledger, "get", get)
    refused: list[NotAllowed] = []

    def click() -> None:
        try:
            (local.documents if task == "parse" else local.videos).resume("run", LOCAL)
        except NotAllowed as error:
            refused.append(error)

    clicks = [threading.Thread(target=click) for _ in range(2)]
    for each in clicks:
        each.start()
    for each in clicks:
        each.join()
    assert queued == ["run"] and len(refused) == 1
    if task == "upscale":
        assert "already" in refused[0].message.en


def test_frames_of_two_runs_are_compared_at_once(
    local: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in ("one", "two"):
        folder = local._outputs.new_folder(run)
        (folder / RESULT).touch()
        local._ledger.record(run, LOCAL, {}, None, folder.name)
    both = threading.Barrier(2)

    def compare(*_: Any) -> dict[str, Any]:
        both.wait(5)
        return {"frame": 0}

    monkeypatch.setattr(videos, "ask_apart", compare)
    other = threading.Thread(target=local.videos.compared, args=("one", LOCAL, 0, True))
    other.start()
    assert local.videos.compared("two", LOCAL, 0, True) == 0
    other.join()
