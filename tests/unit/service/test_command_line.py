"""The command line's contract: JSON on stdout, a line a problem on stderr, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.video.clips import clip
from webui.__main__ import main
from webui.commands.output import ProgressLine
from webui.core.job import JobState, JobView

WAN = "{model: wan2.1-t2v-1.3b, frames: 81, height: 480, width: 832"


@pytest.fixture
def run(on_processor: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def call(command: str, text: str, *options: str) -> tuple[int, Any, list[str]]:
        file = tmp_path / "request.yaml"
        file.write_text(text, encoding="utf-8")
        code = main([command, str(file), "--home", str(tmp_path / "home"), "--json", *options])
        out, err = capsys.readouterr()
        return code, json.loads(out), err.splitlines()

    return call


def test_one_request_gives_a_list_of_one(run) -> None:
    for command in ("plan", "estimate"):
        code, answers, problems = run(command, WAN + ", card: h200}")
        assert (code, len(answers), problems) == (0, 1, [])
        assert answers[0]["fits"] is True and answers[0]["card"] == "h200"
        assert isinstance(answers[0]["reasons"], list)
        assert isinstance(answers[0]["alternatives"], list)


def test_answers_keep_the_order_and_bad_input_its_place(run) -> None:
    text = f"- {WAN}, card: h200}}\n- {{model: demmo}}\n- {WAN}, card: rtx-4090}}\n- {{frames: 6}}"
    code, answers, problems = run("plan", text)
    assert code == 2
    assert [answer.get("card") for answer in answers] == ["h200", None, "rtx-4090", None]
    assert [answers[i]["error"]["field"] for i in (1, 3)] == ["model", "frames"]
    assert set(answers[1]["error"]) == {"field", "message", "hint"}
    assert len(problems) == 2 and problems[0].startswith("model: ")


def test_a_plan_is_for_the_input_that_it_names(run, tmp_path: Path) -> None:
    video = clip(tmp_path / "clip.mp4", 8, size=(48, 64))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video at all")
    asked = "{{task: upscale, model: swin2sr-demo, input: '{}'{}}}"
    code, [named], _ = run("plan", asked.format(video, ""))
    spelt = "{task: upscale, model: swin2sr-demo, frames: 8, height: 48, width: 64}"
    code, [same], _ = run("plan", spelt)
    assert code == 0 and named["phases"] == same["phases"]
    for path in (bad, tmp_path / "none.mp4"):
        code, [answer], problems = run("estimate", asked.format(path, ""))
        assert (code, answer["error"]["field"], len(problems)) == (2, "input", 1)
    code, [answer], _ = run("plan", asked.format(video, ", settings: {gpus: 2}"))
    assert (code, answer["error"]["field"]) == (2, "settings.gpus")


def test_what_does_not_fit(run) -> None:
    text = WAN + ", card: rtx-3060-12gb, vram_gib: 1}"
    code, answers, problems = run("plan", text)
    assert (code, answers[0]["fits"], len(problems)) == (3, False, 1)
    assert "does not fit" in answers[0]["reasons"][0]
    code, answers, problems = run("estimate", text)
    assert (code, answers[0]["fits"], problems) == (0, False, [])


def test_run_of_what_cannot_run_here(run) -> None:
    code, answers, problems = run("run", "{prompt: x, card: rtx-4090}")
    assert (code, answers[0]["error"]["field"], len(problems)) == (2, "card", 1)


@pytest.mark.parametrize(
    "text", ["", "[]", "a: [", "\tx", "prompt: 2026-13-45", "- 3", "just words", "null"]
)
def test_files_that_hold_no_request(run, text: str) -> None:
    code, answers, problems = run("plan", text)
    assert code == 2 and len(answers) == 1 and len(problems) == 1
    assert answers[0]["error"]["message"]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(tmp_path / "no.yaml"), "--home", str(tmp_path)]) == 2
    assert "no.yaml cannot be read" in capsys.readouterr().err
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    assert main(["plan", str(tmp_path / "binary.yaml"), "--home", str(tmp_path)]) == 2


def test_a_model_folder_that_is_not_there(run, tmp_path: Path) -> None:
    for pair in ("wan2.1-t2v-1.3b", f"wan={tmp_path}", "wan2.1-t2v-1.3b=/not/there"):
        code, answers, _ = run("plan", "model: demo", "--model", pair)
        assert (code, answers[0]["error"]["field"]) == (2, "model")


def test_for_people(on_processor: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "request.yaml"
    file.write_text(WAN + ", card: rtx-3060-12gb, vram_gib: 8}", encoding="utf-8")
    assert main(["plan", str(file), "--home", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "on rtx-3060-12gb: fits" in out and "8.00 GiB" in out
    assert "leaf streaming" in out and "denoise" in out


@pytest.mark.parametrize("of", ["frames", "size"])
def test_the_most_that_fits(run, of: str) -> None:
    text = f"- {WAN}, card: rtx-3060-12gb, vram_gib: 6}}\n- {{model: nope}}\n"
    code, answers, _ = run("plan", text, "--most", of)
    assert code == 2 and "error" in answers[1]
    found = answers[0]
    assert found["fits"] is True and found["answer"]["found"] is True
    request = found["answer"]["request"]
    if of == "frames":
        assert request["frames"] == found["answer"]["frames"] > 81
    else:
        assert [request[key] for key in ("width", "height")] == [
            found["answer"][key] for key in ("width", "height")
        ]
        assert found["answer"]["listed"] == {"width": 832, "height": 480}
    code, (again,), _ = run("plan", json.dumps(request))
    assert code == 0
    assert {key: found[key] for key in again} == again


def test_the_smallest_card(run) -> None:
    code, (found,), _ = run("plan", WAN + ", card: h200}", "--smallest", "card")
    assert code == 0 and found["card"] == found["answer"]["card"] != "h200"


def test_settings_that_no_card_can_do_are_the_answer(run) -> None:
    text = WAN + ", platform: windows, settings: {allocator: expandable}}"
    code, (found,), (problem,) = run("plan", text, "--smallest", "card")
    assert code == 2 and found["error"]["field"] == "settings.allocator"
    assert "expandable segments" in found["error"]["message"] and "card ''" not in problem
    # One that only older cards cannot do is looked for among the others.
    text = WAN + ", settings: {precision: fp8}}"
    code, (found,), problems = run("plan", text, "--smallest", "card")
    assert (code, problems, found["answer"]["found"]) == (0, [], True)


def test_where_not_even_the_smallest_fits(run) -> None:
    for question in (("--most", "frames"), ("--most", "size")):
        text = WAN + ", card: rtx-4090, vram_gib: 0.3}"
        code, (found,), problems = run("plan", text, *question)
        assert (code, found["fits"], found["answer"]["found"]) == (3, False, False)
        assert len(problems) == 1
    text = "{model: wan2.1-t2v-14b, frames: 481, height: 2048, width: 2048, settings: "
    text += "{offload: none, text_encoder: gpu, precision: fp32, vae_tiling: false}}"
    code, (found,), _ = run("plan", text, "--smallest", "card")
    assert (code, found["answer"]["card"]) == (3, None)


def test_explained_and_with_its_frontier(run) -> None:
    text = WAN + ", card: rtx-3060-12gb, vram_gib: 6}"
    code, (found,), _ = run("plan", text, "--explain", "--frontier")
    assert code == 0
    for phase, told in zip(found["phases"], found["explanation"]["phases"], strict=True):
        assert sum(term["bytes"] for term in told["memory_terms"]) == phase["reserved_bytes"]
        assert told["raw_seconds"] * told["speed"] == phase["seconds"]
    device = sum(term["bytes"] for term in found["explanation"]["device_terms"])
    assert device == found["peak_device_bytes"]
    (chosen,) = [point for point in found["frontier"] if point["chosen"]]
    assert chosen["peak_device_bytes"] == found["peak_device_bytes"]
    assert chosen["settings"] == found["settings"]
    code, (plain,), _ = run("plan", text)
    assert not {"answer", "explanation", "frontier"} & set(plain)
    code, (estimated,), _ = run("estimate", WAN + ", card: h200}", "--explain")
    assert code == 0 and len(estimated["explanation"]["phases"]) == len(estimated["phases"])


@pytest.mark.parametrize(
    ("text", "field", "near"),
    [
        ("{model: wan2.1-t2v-13b}", "model", "wan2.1-t2v-1.3b"),
        ("{card: rtx-3060}", "card", "rtx-3060-12gb"),
        ("{settings: {ofload: leaf}}", "settings.ofload", "offload"),
        ("{settings: {offload: leef}}", "settings.offload", "leaf"),
        ("{settings: {vae_tile: 64, vae_tile_overlap: 64}}", "settings.vae_tile_overlap", "32"),
        ("{card: rtx-2080-ti, settings: {precision: bf16}}", "settings.precision", "fp16"),
        (
            "{card: rtx-4090, platform: windows, settings: {allocator: expandable}}",
            "settings.allocator",
            "default",
        ),
        ("{card: 5}", "card", "quotes"),
        ("{vram_gib: -3}", "vram_gib", "0.25"),
    ],
)
def test_bad_input_is_one_sentence_and_a_hint(run, text: str, field: str, near: str) -> None:
    for command in ("plan", "estimate"):
        code, (answer,), problems = run(command, text)
        error = answer["error"]
        assert (code, error["field"], len(problems)) == (2, field, 1)
        assert error["message"].endswith(".") and near in error["hint"]


TRAIN = "{task: train, model: qwen2.5-vl-3b, image_size: 336, sequence_length: 1024, batch: 1"


def test_training_is_planned_and_estimated(run) -> None:
    text = TRAIN + ", lora_rank: 16, card: rtx-3060-12gb}"
    code, (planned,), problems = run("plan", text, "--explain", "--frontier")
    assert (code, problems) == (0, []) and planned["fits"] is True
    assert [phase["name"] for phase in planned["phases"]] == ["forward", "backward", "optimizer"]
    assert planned["settings"]["gradient_checkpointing"] is True
    assert any("gradient checkpointing" in reason for reason in planned["reasons"])
    for phase, told in zip(planned["phases"], planned["explanation"]["phases"], strict=True):
        assert sum(term["bytes"] for term in told["memory_terms"]) == phase["reserved_bytes"]
        assert told["raw_seconds"] * told["speed"] == phase["seconds"]
    code, (estimated,), _ = run("estimate", TRAIN + ", card: h200}")
    assert code == 0 and estimated["settings"] == {
        "precision": "bf16",
        "gradient_checkpointing": True,
        "optimizer": "adamw-fused",
        "gpus": 1,
        "zero_stage": 0,
        "allocator": "expandable",
    }
    assert estimated["peak_allocated_bytes"] > 30e9
    code, (found,), _ = run("plan", text, "--most", "length")
    assert code == 0 and found["answer"]["sequence_length"] > 1024
    code, (found,), _ = run("plan", text, "--smallest", "card")
    assert code == 0 and found["answer"]["card"] == found["card"]


@pytest.mark.parametrize(
    ("text", "field", "near"),
    [
        (TRAIN + ", lora_rank: -1}", "lora_rank", "1024"),
        (TRAIN + ", frames: 17}", "frames", "sequence_length"),
        (TRAIN + ", settings: {zero_stage: 3}}", "settings.zero_stage", "gpus"),
        (TRAIN + ", settings: {offload: leaf}}", "settings.offload", "optimizer"),
        ("{task: train, model: svd-xt}", "model", "qwen2.5-vl-3b"),
        ("{task: train}", "model", "model"),
    ],
)
def test_bad_training_input(run, text: str, field: str, near: str) -> None:
    code, (answer,), problems = run("plan", text)
    assert (code, answer["error"]["field"], len(problems)) == (2, field, 1)
    assert near in answer["error"]["hint"]


def test_training_is_verified_and_not_run(run) -> None:
    code, (answer,), _ = run("run", TRAIN + ", lora_rank: 4}")
    assert (code, answer["error"]["field"]) == (2, "model")
    assert "planned, estimated and verified" in answer["error"]["message"]


def test_a_log_is_told_of_a_long_run(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    view = JobView(
        id="a", state=JobState.RUNNING, phase="denoise", step=3, steps=10, fraction=0.25,
        seconds_left=90.0,
    )  # fmt: skip
    lines = ProgressLine(logged=True)
    lines.show(view)
    assert capsys.readouterr().err == ""  # not before half a minute has passed
    monkeypatch.setattr("webui.commands.output.LOG_EVERY_S", 0.0)
    lines.show(view)
    assert capsys.readouterr().err == "a: denoise 3/10 25%, 1 min 30 s left\n"
    ProgressLine(logged=False).show(view)
    assert capsys.readouterr().err == ""
