"""Clips that the studio writes, in a real browser: they play, with their frames and colours."""

from __future__ import annotations

import base64
import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from tests.unit.video.clips import HEIGHT, WIDTH, numbered, numbers_of
from webui.video.writing import Encoding, Writer

TIMES = [number * 3003 + (number % 4) * 500 for number in range(40)]


@pytest.mark.browser
@pytest.mark.parametrize("bits", [8, 10])
def test_a_browser_plays_it(bits: int, tmp_path: Path, browser: Browser) -> None:
    path = tmp_path / "a.mp4"
    base = Fraction(1, 90000)
    encoding = Encoding(height=HEIGHT, width=WIDTH, rate=Fraction(30), time_base=base, bits=bits)
    with Writer(path, encoding) as writer:
        for number, time in enumerate(TIMES):
            writer.write(numbered(number), time)
    page = browser.new_page()
    try:
        data = base64.b64encode(path.read_bytes()).decode()
        page.set_content("<video muted></video>")
        shown = page.evaluate(
            """async data => {
                const video = document.querySelector("video");
                if (!video.canPlayType('video/mp4; codecs="avc1.64001f"')) return null;
                // "seeked" may come before the frame is there to be drawn.
                const presented = new Promise((done, fail) => {
                    const look = (now, frame) =>
                        frame.mediaTime > 0 ? done() : video.requestVideoFrameCallback(look);
                    video.requestVideoFrameCallback(look);
                    video.onerror = () => fail(video.error.message);
                });
                video.src = "data:video/mp4;base64," + data;
                video.currentTime = 0.75;
                await presented;
                const canvas = document.createElement("canvas");
                canvas.width = video.videoWidth; canvas.height = video.videoHeight;
                canvas.getContext("2d").drawImage(video, 0, 0);
                return [video.duration, canvas.toDataURL("image/png").split(",")[1]];
            }""",
            data,
        )
    finally:
        page.close()
    if shown is None:
        pytest.skip("this Chromium has no H.264")
    duration, png = shown
    assert duration == pytest.approx((TIMES[-1] + 3003) / 90000, abs=0.02)
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))
    at = max(number for number, time in enumerate(TIMES) if time <= 0.75 * 90000)
    assert numbers_of([seen]) == [at]
    assert np.abs(seen.astype(int)[:, -2:] - (200, 60, 90)).max() <= 6
