"""Every endpoint through gradio_client, against the running app."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.app.running import has_colour

PLAN_KEYS = {"model", "card", "settings", "fits", "reasons", "alternatives", "phases",
             "peak_allocated_bytes", "peak_reserved_bytes", "peak_device_bytes", "margin_bytes",
             "limit_bytes", "host_bytes", "seconds", "versions"}  # fmt: skip
RECEIPT_KEYS = {"id", "request", "plan", "measurement", "outputs", "versions", "device", "error"}
SHORT: dict[str, Any] = {"prompt": "a red circle moves to the right", "frames": 5, "steps": 8}


def test_the_documented_endpoints_are_exactly_ours(client: Client) -> None:
    described = client.view_api(return_format="dict", print_info=False)
    assert described is not None
    assert set(described["named_endpoints"]) == {
        "/plan", "/estimate", "/generate", "/upscale", "/parse", "/resume", "/devices", "/runs",
        "/cancel",
    }  # fmt: skip
    parameters = described["named_endpoints"]["/plan"]["parameters"]
    names = {parameter["parameter_name"] for parameter in parameters}
    assert {"model", "prompt", "frames", "height", "width", "steps", "card", "vram_gib", "settings",
            "platform", "seed", "solver", "flow_shift", "guidance", "fps"} <= names  # fmt: skip


def test_plan_needs_nothing_and_gives_the_contract(client: Client) -> None:
    plan = client.predict(api_name="/plan")
    assert plan.keys() >= PLAN_KEYS
    assert plan["model"] == "demo" and plan["fits"] is True
    assert [phase["name"] for phase in plan["phases"]] == ["encode", "denoise", "decode"]
    assert all(
        phase["allocated_bytes"] == phase["resident_bytes"] + phase["activation_bytes"]
        for phase in plan["phases"]
    )


def test_plan_keeps_what_is_fixed_and_answers_for_any_card(client: Client) -> None:
    plan = client.predict(
        model="wan2.1-t2v-1.3b", card="rtx-3060-12gb", settings={"offload": "leaf"},
        api_name="/plan",
    )  # fmt: skip
    assert plan["card"] == "rtx-3060-12gb" and plan["settings"]["offload"] == "leaf"
    capped = client.predict(
        model="wan2.1-t2v-1.3b", card="rtx-3060-12gb", vram_gib=6, api_name="/plan"
    )
    assert capped["limit_bytes"] == 6 * 2**30


@pytest.mark.parametrize(
    ("keys", "phase"),
    [
        ({"task": "parse", "model": "logics-parsing-v1", "pages": "1-3, 7", "new_tokens": 64,
          "max_pixels": 500_000}, "generate"),
        ({"model": "qwen3-4b", "prompt_tokens": 100, "new_tokens": 64, "batch": 2}, "generate"),
        ({"task": "train", "model": "qwen2.5-vl-3b", "image_size": 336, "sequence_length": 512,
          "batch": 1, "gradient_accumulation": 2, "lora_rank": 16}, "optimizer"),
    ],
    ids=["parse", "text", "train"],
)  # fmt: skip
def test_all_tasks_are_planned_and_estimated(
    client: Client, keys: dict[str, Any], phase: str
) -> None:
    for endpoint in ("/plan", "/estimate"):
        answer = client.predict(**keys, card="h200", api_name=endpoint)
        assert answer["fits"] is True and answer["model"] == keys["model"]
        assert phase in [found["name"] for found in answer["phases"]]


@pytest.mark.parametrize("key", ["input", "data"])
def test_paths_are_not_for_the_network(client: Client, key: str) -> None:
    with pytest.raises(TypeError, match=key):
        client.predict(**{key: "/etc/passwd"}, api_name="/plan")


def test_estimate_takes_the_defaults_for_what_is_open(client: Client) -> None:
    estimate = client.predict(
        model="wan2.1-t2v-1.3b", card="rtx-3060-12gb", settings={"vae_tiling": True},
        api_name="/estimate",
    )  # fmt: skip
    assert estimate.keys() >= PLAN_KEYS
    assert estimate["settings"]["vae_tiling"] is True


@pytest.mark.parametrize(
    ("keys", "field"),
    [
        ({"frames": 80}, "frames"),
        ({"model": "wan-of-tomorrow"}, "model"),
        ({"card": "rtx-9999"}, "card"),
        ({"width": 100}, "width"),
        ({"steps": 0}, "steps"),
        ({"solver": "euler"}, "solver"),
        ({"vram_gib": -1}, "vram_gib"),
        ({"settings": {"offload": "everything"}}, "settings.offload"),
        ({"settings": {"ofload": "leaf"}}, "settings.ofload"),
        ({"settings": [1]}, "settings"),
        ({"prompt": ["a list"]}, "prompt"),
    ],
)
def test_bad_input_is_answered_with_field_message_and_hint(
    client: Client, keys: dict[str, Any], field: str
) -> None:
    for endpoint in ("/plan", "/estimate"):
        error = client.predict(**keys, api_name=endpoint)["error"]
        assert error["field"] == field
        assert error["message"] and (error["hint"] or field == "prompt")


def test_generate_refuses_bad_input_with_message_and_hint(client: Client) -> None:
    with pytest.raises(AppError, match=r"4k\+1 frames.*Use 77 or 81"):
        client.predict(**{**SHORT, "frames": 80}, api_name="/generate")
    with pytest.raises(AppError, match="prompt is empty"):
        client.predict(prompt=" ", api_name="/generate")


def test_generate_gives_the_clip_and_its_receipt(client: Client) -> None:
    began = time.monotonic()
    job = client.submit(prompt="a red circle moves to the right", seed=3, api_name="/generate")
    seen = set()
    while not job.done():
        status = job.status()
        for unit in status.progress_data or ():
            seen.add(unit.desc)
        time.sleep(0.1)
    result = job.result()
    assert time.monotonic() - began < 90
    assert "Denoise" in seen
    assert has_colour(Path(result["video"]))
    receipt = result["receipt"]
    assert receipt.keys() >= RECEIPT_KEYS
    assert receipt["request"]["seed"] == 3
    measured = receipt["measurement"]
    assert measured["source"] == "cpu"
    assert [phase["name"] for phase in measured["phases"]] == ["encode", "denoise", "decode"]
    assert receipt["plan"]["peak_allocated_bytes"] > 0

    runs = client.predict(limit=5, api_name="/runs")
    assert runs[0]["id"] == receipt["id"] and runs[0]["state"] == "done"
    assert runs[0]["measurement"] == measured


def test_one_frame_gives_a_picture(client: Client) -> None:
    result = client.predict(**{**SHORT, "frames": 1, "seed": 5}, api_name="/generate")
    assert result["video"].endswith(".png")


def test_several_clips_come_together(client: Client) -> None:
    keys = {**SHORT, "frames": 1, "seed": 5, "batch": 2}
    result = client.predict(**keys, api_name="/generate")
    first, second = result["outputs"]
    assert result["video"] == first and first.endswith("image-1.png")
    assert second.endswith("image-2.png")
    assert result["receipt"]["request"]["batch"] == 2
    one = client.predict(model="demo", card="rtx-3060-12gb", api_name="/plan")
    more = client.predict(model="demo", card="rtx-3060-12gb", batch=8, api_name="/plan")
    assert more["peak_allocated_bytes"] > one["peak_allocated_bytes"]
    assert more["seconds"] > one["seconds"]


def test_cancel_by_id_and_by_the_client(client: Client) -> None:
    long = {**SHORT, "steps": 200, "frames": 33}
    first = client.submit(**long, api_name="/generate")
    _wait_for(first.outputs)
    second = client.submit(**long, api_name="/generate")
    _wait_for(second.outputs)
    waiting = second.outputs()[0]
    assert waiting["state"] == "queued" and waiting["place"] >= 1

    cancelled = client.predict(id=first.outputs()[0]["id"], api_name="/cancel")
    assert cancelled["id"] == first.outputs()[0]["id"]
    with pytest.raises(AppError, match="cancelled"):
        first.result()
    second.cancel()
    _wait_for(lambda: _state(client, waiting["id"]) == "cancelled")
    with pytest.raises(AppError, match=r"no such|no run|No run|There is no"):
        client.predict(id="not-a-job", api_name="/cancel")


def test_planning_goes_on_while_jobs_wait(client: Client) -> None:
    jobs = [client.submit(**{**SHORT, "steps": 200}, api_name="/generate") for _ in range(6)]
    _wait_for(lambda: all(job.outputs() for job in jobs))
    began = time.monotonic()
    client.predict(api_name="/plan")
    assert time.monotonic() - began < 3
    for job in reversed(jobs):
        client.predict(id=job.outputs()[0]["id"], api_name="/cancel")
    _wait_for(lambda: not _live(client))


def test_devices(client: Client) -> None:
    devices = client.predict(api_name="/devices")
    assert devices["card"]["kind"] == "cpu"
    assert devices["card"]["vram_bytes"] > 0


def _state(client: Client, job_id: str) -> str:
    runs = client.predict(limit=50, api_name="/runs")
    return next((run["state"] for run in runs if run["id"] == job_id), "")


def _live(client: Client) -> list[str]:
    runs = client.predict(limit=50, api_name="/runs")
    return [run["id"] for run in runs if run["state"] in ("queued", "running")]


def _wait_for(condition: Any, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_plan_answers_backwards(client: Client) -> None:
    asked = {"model": "wan2.1-t2v-1.3b", "card": "rtx-3060-12gb", "vram_gib": 6}
    most = client.predict(**asked, most="frames", api_name="/plan")
    assert most["fits"] is True and most["answer"]["found"] is True
    assert most["answer"]["request"]["frames"] == most["answer"]["frames"] > 81
    small = client.predict(**asked, smallest="card", explain=True, api_name="/plan")
    assert small["card"] == small["answer"]["card"]
    assert [phase["name"] for phase in small["explanation"]["phases"]] == [
        phase["name"] for phase in small["phases"]
    ]
    drawn = client.predict(**asked, frontier=True, api_name="/plan")
    assert sum(point["chosen"] for point in drawn["frontier"]) == 1
    wrong = client.predict(**asked, most="cats", api_name="/plan")
    assert wrong["error"]["field"] == "most" and "frames" in wrong["error"]["hint"]
    both = client.predict(**asked, most="size", smallest="card", api_name="/plan")
    assert both["error"]["field"] == "smallest"
