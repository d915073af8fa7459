"""A prompt or files in place of a YAML file; a run that is broken off and gone on with."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.unit.video.clips import clip
from webui.__main__ import main
from webui.commands.parser import build_parser
from webui.commands.short import requests_of
from webui.video.facts import examine

FRAMES, WITHIN_S = 96, 120.0


@pytest.fixture
def run(on_processor: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def call(*arguments: str) -> tuple[int, Any, list[str]]:
        home = [] if "--home" in arguments else ["--home", str(tmp_path / "home")]
        code = main([*arguments, *home, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out), err.splitlines()

    return call


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 24), (200, 60, 30)).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


def test_several_files_one_of_which_is_none(run, picture: Path, tmp_path: Path) -> None:
    bad, to = tmp_path / "bad.mp4", tmp_path / "larger"
    bad.write_bytes(b"no video at all")
    (to / "cat-upscaled.png").mkdir(parents=True)  # the name is taken
    code, [refused, made], problems = run(
        "upscale", str(bad), str(picture), "--set", "scale=4", "--to", str(to)
    )
    assert code == 2 and refused["error"]["field"] == "input"
    assert made["request"]["scale"] == 4 and made["request"]["model"] == "swin2sr-demo"
    with Image.open(to / "cat-upscaled-2.png") as larger:
        assert larger.size == (128, 96)
    # Each problem stands below the file that it is about.
    assert problems[0] == str(bad) and problems[1].startswith("input: ")
    assert problems[2] == str(picture)


def test_prompts_settings_and_another_model() -> None:
    given = build_parser().parse_args(
        ["generate", "a red circle", "a blue one", "--model", "wan2.1-t2v-1.3b=weights",
         "--set", "frames=17", "--set", "settings.precision=fp16", "--set", "settings.offload=auto"]
    )  # fmt: skip
    common = {"task": "generate", "model": "wan2.1-t2v-1.3b", "frames": 17}
    common["settings"] = {"precision": "fp16", "offload": "auto"}
    asked = requests_of(given)
    assert asked == [{**common, "prompt": "a red circle"}, {**common, "prompt": "a blue one"}]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--set", "scale"], "set"),
        (["--set", "=4"], "set"),
        (["--set", "settings=x", "--set", "settings.tile=128"], "set"),
        (["--set", "settings.tile=128", "--set", "settings={tile: 64}"], "set"),
        (["--set", "settings.=4"], "set"),
        (["--set", "scale.x=4"], "set"),
        (["--set", "task=parse"], "set"),
        (["--set", "model=demo"], "set"),
        (["--set", "input=other.png"], "set"),
        (["--to", __file__], "to"),
        (["--set", "scale=["], ""),
        (["--set", "scale=9"], "scale"),
        (["--set", "setting.tile=64"], "set"),
        (["--set", "settings.tile=x"], "settings.tile"),
        (["--model", "swin2sr-demmo"], "model"),
        (["--model", "demo"], "model"),
        (["--model", "swin2sr-demo=nowhere"], "model"),
        (["--model", "swin2sr-demo", "--model", "flashvsr-v1"], "model"),
    ],
)
def test_bad_options_are_one_sentence(run, picture: Path, options: list[str], field: str) -> None:
    code, [answer], problems = run("upscale", str(picture), *options)
    assert (code, answer["error"]["field"], len(problems)) == (2, field, 1)
    assert answer["error"]["message"] and answer["error"]["hint"]


def test_a_run_that_is_broken_off_says_how_to_go_on(run, tmp_path: Path) -> None:
    video = clip(tmp_path / "clip.mp4", FRAMES, size=(24, 32), audio="aac")
    home = tmp_path / "home"
    with subprocess.Popen(
        [sys.executable, "-m", "webui", "upscale", str(video), "other.png", "--set",
         "segment_frames=32", "--home", str(home)],
        text=True, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        until = time.monotonic() + WITHIN_S
        while not list(home.glob("outputs/*/video/segment_0000.json")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)  # ends it as Ctrl-C does
        _, told = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 1 and "not begun: other.png" in told
    [line] = [line for line in told.splitlines() if "go on with" in line]
    resume = shlex.split(line.partition("python -m webui ")[2])
    code, [answer], _ = run(*resume)
    facts, _ = examine(home / answer["outputs"][0])
    assert code == 0 and (facts.frames, facts.audio) == (FRAMES, 1)
    assert 0 < answer["work"]["workers"][0]["units"] < FRAMES  # the rest alone was made
    code, [answer], [problem] = run(*resume)
    assert code != 0 and "nothing to go on with" in problem
