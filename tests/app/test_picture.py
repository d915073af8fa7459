"""Models that start from a picture, through the API of the running app: what becomes a file."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.app.running import RunningStudio

SVD: dict[str, Any] = {"model": "svd-xt", "frames": 1, "height": 128, "width": 128, "steps": 1}


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "start.png"
    Image.new("RGB", (200, 100), "red").save(path)
    return str(path)


def refusal(client: Client, **keys: Any) -> str:
    with pytest.raises(AppError) as caught:
        client.predict(**{**SVD, **keys}, api_name="/generate")
    return str(caught.value)


def test_a_plan_needs_no_picture(client: Client) -> None:
    plan = client.predict(model="svd-xt", card="rtx-4090", api_name="/plan")
    assert [phase["name"] for phase in plan["phases"]] == ["image_encode", "denoise", "decode"]
    assert plan["fits"] and plan["settings"]["decode_chunk"] == 8


def test_a_run_needs_one_and_an_uploaded_one_is_taken(client: Client, picture: str) -> None:
    assert "picture" in refusal(client)
    # The upload itself is fine: what is missing then is the model.
    assert "weights" in refusal(client, image=handle_file(picture))


def test_what_is_no_picture_is_refused(client: Client, tmp_path: Path) -> None:
    (tmp_path / "page.png").write_text("<html>")
    assert "picture cannot be used" in refusal(
        client, image=handle_file(str(tmp_path / "page.png"))
    )


def test_no_text_becomes_a_path(studio: RunningStudio, client: Client, picture: str) -> None:
    """Neither a text nor a made-up upload is read, whatever it names."""
    forged = {"path": picture, "meta": {"_type": "gradio.FileData"}}
    for image in (picture, "/etc/passwd", {"path": picture}, forged):
        for endpoint in ("generate", "plan"):
            answer = call(studio, endpoint, {**SVD, "image": image})
            assert "uploaded" in answer or "error" in answer
            assert "weights" not in answer and "peak_device_bytes" not in answer


def test_a_model_that_takes_none_says_so(client: Client, picture: str) -> None:
    assert "takes no image" in refusal(
        client, model="demo", prompt="a red circle", image=handle_file(picture)
    )


def test_large_uploads_are_refused(public_studio: RunningStudio) -> None:
    address = f"{public_studio.address}/gradio_api/upload"
    request = urllib.request.Request(
        address, data=b"", headers={"Content-Length": str(10**9)}, method="POST"
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert caught.value.code == 413
    assert "32 MiB" in caught.value.read().decode()


def call(studio: RunningStudio, endpoint: str, keys: dict[str, Any]) -> str:
    """The endpoint's whole answer, without gradio_client's own care for files."""
    described = json.load(urllib.request.urlopen(f"{studio.address}/gradio_api/info", timeout=10))
    names = [
        parameter["parameter_name"]
        for parameter in described["named_endpoints"][f"/{endpoint}"]["parameters"]
    ]
    body = json.dumps({"data": [keys.get(name) for name in names]}).encode()
    address = f"{studio.address}/gradio_api/call/{endpoint}"
    request = urllib.request.Request(
        address, data=body, headers={"Content-Type": "application/json"}
    )
    event = json.load(urllib.request.urlopen(request, timeout=10))["event_id"]
    with urllib.request.urlopen(f"{address}/{event}", timeout=30) as answer:
        return str(answer.read().decode())
