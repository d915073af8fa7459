"""Clips that the studio writes, in a real browser: they play, with their frames and colours."""

from __future__ import annotations

import base64
import io
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.unit.video.clips import HEIGHT, WIDTH, numbered, numbers_of
from webui.video.writing import Encoding, Writer

TIMES = [number * 3003 + (number % 4) * 500 for number in range(40)]
SEEK_S, DRAWN_S = 0.75, 60

LOAD = """async data => {
    const video = document.querySelector("video");
    if (!video.canPlayType('video/mp4; codecs="avc1.64001f"')) return null;
    const sought = new Promise((done, fail) => {
        video.onseeked = done;
        video.onerror = () => fail(video.error.message);
    });
    video.onloadedmetadata = () => { video.currentTime = SEEK_S; };
    video.src = "data:video/mp4;base64," + data;
    await sought;
    return video.duration;
}""".replace("SEEK_S", str(SEEK_S))

DRAW = """() => {
    const video = document.querySelector("video");
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth; canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    return canvas.toDataURL("image/png").split(",")[1];
}"""


def drawn(page: Page) -> np.ndarray:
    """What the player shows now (H W 3, uint8)."""
    png = base64.b64decode(page.evaluate(DRAW))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.browser
@pytest.mark.parametrize("bits", [8, 10])
def test_a_browser_plays_it(bits: int, tmp_path: Path, browser: Browser) -> None:
    path = tmp_path / "a.mp4"
    base = Fraction(1, 90000)
    encoding = Encoding(height=HEIGHT, width=WIDTH, rate=Fraction(30), time_base=base, bits=bits)
    with Writer(path, encoding) as writer:
        for number, at in enumerate(TIMES):
            writer.write(numbered(number), at)
    sought = max(number for number, at in enumerate(TIMES) if at <= SEEK_S * 90000)
    page = browser.new_page()
    try:
        page.set_content("<video muted></video>")
        duration = page.evaluate(LOAD, base64.b64encode(path.read_bytes()).decode())
        if duration is None:
            pytest.skip("this Chromium has no H.264")
        # On a busy machine "seeked" may come before the frame is there to be drawn.
        until = time.monotonic() + DRAWN_S
        while numbers_of([seen := drawn(page)]) != [sought] and time.monotonic() < until:
            page.wait_for_timeout(100)
    finally:
        page.close()
    assert duration == pytest.approx((TIMES[-1] + 3003) / 90000, abs=0.02)
    assert numbers_of([seen]) == [sought]
    assert np.abs(seen.astype(int)[:, -2:] - (200, 60, 90)).max() <= 6
