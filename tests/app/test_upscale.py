"""Upscaling on a running app: by the API, by the page's own events, and whose frames are whose."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.app.events import Visitor
from tests.app.running import RunningStudio
from tests.unit.video.clips import clip
from webui.core.units import MIB

FRAMES, LONG = 6, 40
HEIGHT, WIDTH = 16, 32
WAIT_S = 180
"""On two busy cores; a free one takes seconds."""


def shade(number: int) -> np.ndarray:
    """A frame as small as a model takes, that knows its number."""
    return np.full((HEIGHT, WIDTH, 3), 16 + 5 * number, np.uint8)


def numbers_of(frames: list[Any]) -> list[int]:
    return [round((float(frame.mean()) - 16) / 5) for frame in frames]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(
        tmp_path_factory.mktemp("clips") / "short.mp4",
        FRAMES,
        size=(HEIGHT, WIDTH),
        picture=shade,
        audio="aac",
    )


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(
        tmp_path_factory.mktemp("clips") / "long.mp4", LONG, size=(HEIGHT, WIDTH), picture=shade
    )


def frames_of(path: str) -> tuple[list[Any], int]:
    with av.open(path) as container:
        sounds = len(container.streams.audio)
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], sounds


def state_of(client: Client, run: str) -> str:
    runs = client.predict(limit=10, api_name="/runs")
    return next(str(entry["state"]) for entry in runs if entry["id"] == run)


def refusal(client: Client, **keys: Any) -> str:
    with pytest.raises(AppError) as caught:
        client.predict(**keys, api_name="/upscale")
    return str(caught.value)


def test_a_clip_becomes_larger_with_its_sound(client: Client, short: Path) -> None:
    job = client.submit(input=handle_file(str(short)), scale=2, api_name="/upscale")
    told = set()
    while not job.done():
        told |= {(unit.unit, unit.length) for unit in job.status().progress_data or ()}
        time.sleep(0.1)
    result = job.result()
    frames, sounds = frames_of(result["video"])
    assert numbers_of(frames) == list(range(FRAMES)) and sounds == 1
    assert frames[0].shape == (2 * HEIGHT, 2 * WIDTH, 3)
    receipt = result["receipt"]
    assert receipt["request"]["frames"] == FRAMES, "counted, not the default"
    assert [phase["name"] for phase in receipt["measurement"]["phases"]] == ["upscale"]
    assert ("frames", FRAMES) in told


def test_a_picture_becomes_larger(client: Client, tmp_path: Path) -> None:
    Image.new("RGB", (33, 21), (10, 200, 30)).save(tmp_path / "a.png")
    result = client.predict(
        input=handle_file(str(tmp_path / "a.png")), scale=4, api_name="/upscale"
    )
    with Image.open(result["video"]) as larger:
        assert larger.size == (132, 84)


def test_bad_input_is_one_clear_sentence(client: Client, short: Path, tmp_path: Path) -> None:
    (tmp_path / "page.mp4").write_text("<html>no video</html>")
    video = handle_file(str(short))
    assert "uploaded" in refusal(client, input="/etc/passwd")
    assert "nothing to upscale" in refusal(client, input=None)
    assert "video" in refusal(client, input=handle_file(str(tmp_path / "page.mp4")))
    assert "Use 2 or 4" in refusal(client, input=video, scale=3)
    assert "cannot overlap" in refusal(
        client, input=video, settings={"tile": 32, "tile_overlap": 24}
    )
    told = refusal(client, input=video, settings={"gpus": 3})
    assert "name a graphics card" in told
    assert "3 GPUs were asked for, and it would run on the processor" in told
    with pytest.raises(AppError, match="no run"):
        client.predict(id="nothing", api_name="/resume")


def test_what_is_cancelled_is_kept_and_goes_on(client: Client, long: Path) -> None:
    # One frame at a time: together they would be through before the first is told.
    one = {"tile_batch": 1}
    job = client.submit(input=handle_file(str(long)), settings=one, api_name="/upscale")
    done = 0
    end = time.monotonic() + WAIT_S
    while not done and time.monotonic() < end:
        units = job.status().progress_data or ()
        done = max([0, *(unit.index or 0 for unit in units if unit.length == LONG)])
        time.sleep(0.1)
    run = job.outputs()[0]["id"]
    client.predict(id=run, api_name="/cancel")
    with pytest.raises(AppError, match="cancelled"):
        job.result()
    [kept] = [entry for entry in client.predict(limit=5, api_name="/runs") if entry["id"] == run]
    assert kept["state"] == "cancelled" and kept["outputs"], "what was finished can be had"
    assert kept["request"]["frames"] == LONG

    result = client.predict(id=run, api_name="/resume")
    assert result["state"] == "done"
    frames, _ = frames_of(result["video"])
    assert numbers_of(frames) == list(range(LONG))


def test_the_page_tells_what_an_input_is_and_shows_its_frames(
    studio: RunningStudio, client: Client, short: Path
) -> None:
    visitor = Visitor(studio, "upscaling")
    visitor.values["upscale-input"] = [visitor.send(short.read_bytes(), "short.mp4")]
    said = visitor.trigger("upscale-input", "change")
    assert f"{FRAMES} frames of {WIDTH} x {HEIGHT} px" in said["upscale-input-hint"]
    assert said["upscale-width"] == {**said["upscale-width"], "value": WIDTH, "interactive": False}
    planned = visitor.trigger("upscale-revision", "change")
    assert "vs-fits" in planned["upscale-panel"]
    assert f"{2 * WIDTH} x {2 * HEIGHT} px" in planned["upscale-size-hint"]

    started = visitor.trigger("upscale-run", "click")["upscale-jobs"]
    run = re.findall('data-job="([0-9a-f]+)"', started)[0]
    end = time.monotonic() + WAIT_S
    while state_of(client, run) != "done":
        assert time.monotonic() < end
        time.sleep(0.2)
    shown = visitor.trigger("upscale-recent", "click", action="show", run=run)
    assert "<video" in shown["upscale-result"] and shown["upscale-frame"]["maximum"] == FRAMES
    visitor.values["upscale-frame"] = 5
    chosen = visitor.trigger("upscale-frame", "input")["upscale-pair"]
    assert "Frame 5" in chosen["label"]
    before, after = (picture_at(studio, side["url"]) for side in chosen["value"])
    assert before.size == after.size == (2 * WIDTH, 2 * HEIGHT)
    planned = visitor.trigger("upscale-revision", "change")
    assert "vs-measured-text" in planned["upscale-panel"], "what ran stands beside its estimate"

    # Without the input, the sizes can be set again.
    visitor.values["upscale-input"] = None
    assert visitor.trigger("upscale-input", "change")["upscale-width"]["interactive"] is True

    # No plan for another size stands beside a file that is no video.
    visitor.values["upscale-input"] = [visitor.send(b"<html>", "page.mp4")]
    told = visitor.trigger("upscale-input", "change")
    assert "video" in told["upscale-message"]
    planned = visitor.trigger("upscale-revision", "change")["upscale-panel"]
    assert "vs-fits" not in planned and "no plan" in planned
    visitor.values["upscale-input"] = None
    visitor.trigger("upscale-input", "change")
    assert "vs-fits" in visitor.trigger("upscale-revision", "change")["upscale-panel"]


def test_several_files_are_a_run_each(
    studio: RunningStudio, client: Client, short: Path, tmp_path: Path
) -> None:
    tall = BytesIO()
    Image.new("RGB", (16, 30), (10, 120, 200)).save(tall, "PNG")
    visitor = Visitor(studio, "several")
    video = visitor.send(short.read_bytes(), "short.mp4")
    picture = visitor.send(tall.getvalue(), "<b>tall.png")
    visitor.values["upscale-input"] = [picture, video]
    said = visitor.trigger("upscale-input", "change")
    hint = said["upscale-input-hint"]
    assert "2 files" in hint and f"{FRAMES} frames" in hint and "&lt;b&gt;tall.png" in hint
    assert "largest frames: short.mp4" in hint and said["upscale-width"]["value"] == WIDTH
    started = visitor.trigger("upscale-run", "click")
    assert "short.mp4 · swin2sr-demo" in started["upscale-jobs"]
    runs = re.findall('data-job="([0-9a-f]+)"', started["upscale-jobs"])
    end = time.monotonic() + WAIT_S
    while any(state_of(client, run) != "done" for run in runs):
        assert time.monotonic() < end
        time.sleep(0.2)
    kept = {entry["id"]: entry for entry in client.predict(limit=9, api_name="/runs")}
    sizes = {(kept[run]["request"]["width"], kept[run]["request"]["frames"]) for run in runs}
    assert sizes == {(WIDTH, FRAMES), (16, 1)}

    # One that cannot be used is named; nothing is begun before it is taken out.
    bad = visitor.send(b"<html>", "page.mp4")
    visitor.values["upscale-input"] = [picture, bad]
    told = visitor.trigger("upscale-input", "change")["upscale-message"]
    assert "page.mp4: The video cannot be used" in told
    again = visitor.trigger("upscale-run", "click")
    assert "page.mp4: The video cannot be used" in again["upscale-message"]
    assert len(client.predict(limit=9, api_name="/runs")) == len(kept)
    visitor.values["upscale-input"] = [visitor.send(bytes([n]), f"{n}.mp4") for n in range(17)]
    assert "17 files" in visitor.trigger("upscale-input", "change")["upscale-message"]


def test_frames_and_runs_are_only_for_their_visitor(
    public_studio: RunningStudio, connect: Callable[[RunningStudio], Client], short: Path
) -> None:
    mine = connect(public_studio)
    run = mine.predict(input=handle_file(str(short)), api_name="/upscale")["id"]
    for name in ("newest", "newest-before", "chosen", "../project.json", "project.json"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            picture_at(public_studio, f"studio/frames/{run}/{name}")
        assert caught.value.code == 404
    with pytest.raises(AppError, match="no run"):
        connect(public_studio).predict(id=run, api_name="/resume")


def test_the_owner_may_upload_long_videos_and_visitors_may_not(
    studio: RunningStudio, public_studio: RunningStudio
) -> None:
    def answer(running: RunningStudio, length_bytes: int) -> int:
        request = urllib.request.Request(
            f"{running.address}/gradio_api/upload", data=b"", method="POST",
            headers={"Content-Length": str(length_bytes)},
        )  # fmt: skip
        try:
            urllib.request.urlopen(request, timeout=0.5)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:  # it waits for the bytes that were promised
            return 200
        return 200

    assert answer(studio, 900 * MIB) != 413
    assert answer(studio, 1100 * MIB) == 413
    assert answer(public_studio, 40 * MIB) == 413


def picture_at(running: RunningStudio, address: str) -> Image.Image:
    assert not re.match("https?:", address)
    with urllib.request.urlopen(f"{running.address}/{address}", timeout=10) as answer:
        return Image.open(BytesIO(answer.read()))
