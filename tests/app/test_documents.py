"""Documents through the API of the running app."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image, ImageDraw, ImageFont

from tests.app.running import RunningStudio


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    pages = []
    for text in ("First page here", "And the second"):
        page = Image.new("RGB", (420, 160), "white")
        font = ImageFont.load_default(40)
        ImageDraw.Draw(page).text((30, 50), text, fill="black", font=font)
        pages.append(page)
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    return tmp_path / "scan.tif"


def test_a_document_comes_page_by_page(client: Client, studio: RunningStudio, scan: Path) -> None:
    job = client.submit(input=handle_file(scan), api_name="/parse")
    result: dict[str, Any] = job.result(timeout=240)
    pages = [page for answer in job.outputs() for page in answer.get("pages", ())]
    assert [page["number"] for page in pages] == [1, 2]
    text = [block["text"] for page in pages for block in page["blocks"]]
    assert text == ["First page here", "And the second"]
    assert result["state"] == "done" and result["pages_failed"] == []
    names = [Path(file).name for file in result["outputs"]]
    assert "document.zip" in names and "document.html" in names
    receipt = result["receipt"]
    assert receipt["request"]["pages"] == "1-2" and receipt["measurement"]["phases"]
    assert "/" not in receipt["request"]["input"]
    picture = f"{studio.address}/studio/pages/{result['id']}/2"
    with urllib.request.urlopen(picture) as answer, Image.open(answer) as page:
        assert page.format == "JPEG" and page.size == (420, 160)
    files = f"{studio.address}/studio/files/{result['id']}"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{files}/document.html")
    with urllib.request.urlopen(f"{files}/document.zip?download=1") as answer:
        assert f'filename="{scan.stem}-document.zip"' in answer.headers["Content-Disposition"]


@pytest.mark.parametrize("given", ["/etc/passwd", {"path": "/etc/passwd"}])
def test_no_text_becomes_a_path(client: Client, given: Any) -> None:
    with pytest.raises((AppError, ValueError)) as caught:
        client.predict(input=given, api_name="/parse")
    assert "uploaded file" in str(caught.value) or "passwd" not in str(caught.value)


def test_a_bad_document_is_refused_with_a_clear_word(client: Client, tmp_path: Path) -> None:
    with pytest.raises(AppError, match="no document to read"):
        client.predict(input=None, api_name="/parse")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    with pytest.raises(AppError, match="not a whole PDF"):
        client.predict(input=handle_file(tmp_path / "broken.pdf"), api_name="/parse")
