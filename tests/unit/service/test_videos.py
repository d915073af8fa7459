"""Videos before and between runs: what is counted, who waits, what is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from webui.core.errors import BadInput
from webui.core.request import Request
from webui.service import Studio
from webui.service.videos import Videos


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
