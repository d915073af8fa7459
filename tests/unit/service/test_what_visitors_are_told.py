"""Who does not own the machine is not told where it keeps things."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.core.errors import MissingWeights
from webui.service import Access, Studio
from webui.service.access import LOCAL

ASKED = {"model": "wan2.1-t2v-1.3b", "prompt": "a boat", "frames": 5, "height": 128, "width": 128}


def refusal(home: Path, loopback: bool, asks: str) -> str:
    studio = Studio(home, access=Access(loopback=loopback), resume=False)
    try:
        with pytest.raises(MissingWeights) as refused:
            studio.submit(studio.parse(ASKED), asks)
    finally:
        studio.close()
    error = refused.value
    return " ".join([error.message.en, error.message.zh, error.hint.en, error.hint.zh])


def test_missing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    hub = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    assert str(hub) in refusal(tmp_path / "owner", loopback=True, asks=LOCAL)
    told = refusal(tmp_path / "visitor", loopback=False, asks="browser:abc")
    assert str(tmp_path) not in told and "studio.yaml" not in told
