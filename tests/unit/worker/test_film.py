"""The frames of a video that a job makes larger, as the worker reads and tells of them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.video.clips import clip
from webui.video.facts import examine
from webui.video.project import FOLDER, Project
from webui.worker.device import Device
from webui.worker.film import JobFootage
from webui.worker.protocol import Channel
from webui.worker.reporting import JobReport


def test_damaged_frames_are_counted_once_and_told(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.avi", 24, codec="mjpeg", pixel_format="yuvj420p")
    content = bytearray(path.read_bytes())
    places = [at for at in range(len(content) - 4) if content[at : at + 4] == b"\xff\xd8\xff\xfe"]
    for number in (10, 11):
        length = places[number + 1] - places[number] - 16
        content[places[number] : places[number] + length] = bytes(length)
    path.write_bytes(content)
    folder = tmp_path / FOLDER
    Project.start(folder, path, *examine(path), scale=1, segment_frames=12, overlap=4)
    events = io.BytesIO()
    report = JobReport("job", Channel(io.BytesIO(), events), Device(), preview=False)
    with JobFootage({"segments": [0, 1]}, tmp_path, report) as footage:
        for segment in footage.segments:  # both read the two that are damaged
            for index, pixels in enumerate(footage.read(segment)):
                footage.write(segment, index, pixels)
            footage.finish(segment)
    told = [json.loads(line) for line in events.getvalue().splitlines()]
    texts = [event["text"]["en"] for event in told if event["event"] == "told"]
    assert texts == ["Frames that could not be decoded: 2. The one before stands for each."]


def test_a_job_takes_segments_until_none_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clip(tmp_path / "a.mp4", 40)
    Project.start(tmp_path / FOLDER, path, *examine(path), scale=1, segment_frames=12, overlap=0)
    report = JobReport("job", Channel(io.BytesIO(), io.BytesIO()), Device(), preview=False)
    given: Iterator[list[int]] = iter([[3, 0], []])
    monkeypatch.setattr(report, "claim", lambda: next(given))
    with JobFootage({"segments": [1], "claims": True}, tmp_path, report) as footage:
        assert [segment.index for segment in footage.segments] == [1, 3, 0]
    assert next(given, None) is None, "it asked until there was nothing more"
    with JobFootage({"segments": [1, 2]}, tmp_path, report) as footage:
        assert [segment.index for segment in footage.segments] == [1, 2]
