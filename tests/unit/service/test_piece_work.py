"""Pieces that workers share, while the disk that keeps them fails."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from webui.core.errors import StudioError, WorkerLost
from webui.core.text import Text
from webui.service.piece_work import PieceWork

WITHIN_S = 20.0


class Pages:
    """Two pieces on a disk that is read until it breaks."""

    key, event, unit = "pages", "page", "pages"
    numbers, units, claims, notes = (0, 1), 2, False, ()

    def __init__(self, fails: int) -> None:
        self.fails, self.broken = fails, threading.Event()
        self.kept: set[int] = set()

    def units_of(self, number: int) -> int:
        return 1

    def done(self) -> set[int]:
        if self.broken.is_set() and self.fails:
            self.fails -= 1
            raise OSError("Input/output error")
        return set(self.kept)

    def most(self, waiting: int, workers: int, settings: Mapping[str, Any]) -> int:
        return waiting

    def give_up(self, number: int, lost: WorkerLost) -> None:
        self.kept.add(number)

    def put_together(self) -> list[str]:
        return [f"{number}.txt" for number in sorted(self.done())]

    def failed(self) -> None:
        return None


class Hands:
    """Makes its pieces, or is lost, and then the disk breaks."""

    def __init__(self, pages: Pages, lost: bool) -> None:
        self.pages, self.lost = pages, lost

    def send(self, command: Mapping[str, Any]) -> None:
        raise AssertionError("nothing was claimed")

    def run(self, job: Mapping[str, Any], on_event: Any = None) -> Mapping[str, Any]:
        self.pages.kept.add(job["pages"][0])
        self.pages.broken.set()
        if self.lost:
            raise WorkerLost(Text("lost", "丢失"))
        return {"event": "result", "id": "job", "measurement": None, "waits": {"luck": 1.0}}


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("fails", [1, 99])
def test_a_disk_that_cannot_be_read_ends_the_work_and_holds_nobody(lost: bool, fails: int) -> None:
    pages = Pages(fails)
    work = PieceWork(pages, [lambda: Hands(pages, lost)] * 2)
    ends: list[Any] = []

    def run() -> None:
        try:
            ends.append(work.run({"id": "job"})["error"]["message"]["en"])
        except StudioError as error:
            ends.append(error.message.en)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WITHIN_S)
    assert ends == ["The studio itself failed: OSError."]
