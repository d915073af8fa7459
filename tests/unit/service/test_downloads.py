"""Downloads: of each model one at a time, whoever clicks when."""

from __future__ import annotations

import threading
import time

import pytest

from tests.unit.service.following import WAN
from webui.service import downloads
from webui.storage import Download, StudioConfig


def test_two_clicks_give_one_download(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Slow(Download):
        """Takes its time to start, and fetches nothing."""

        def start(self) -> None:
            time.sleep(0.1)
            started.append(self)

    monkeypatch.setattr(downloads, "Download", Slow)
    one = downloads.Downloads(StudioConfig)
    clicks = [threading.Thread(target=one.start, args=(WAN,)) for _ in range(2)]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join()
    assert len(started) == 1
