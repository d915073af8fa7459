"""What goes over a worker's line: claims in the middle of a job, and commands in idle times."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

import pytest

from webui.core.errors import Cancelled
from webui.worker import protocol
from webui.worker.protocol import Channel

WITHIN_S = 20.0


@pytest.fixture
def line() -> Iterator[tuple[Channel, BinaryIO, BinaryIO]]:
    """The channel, where its commands are written to, and where its events are read."""
    (their_end, commands), (events, its_end) = os.pipe(), os.pipe()
    with (
        os.fdopen(their_end, "rb") as heard,
        os.fdopen(its_end, "wb", buffering=0) as told,
        os.fdopen(events, "rb") as read,
    ):
        channel = Channel(heard, told)
        # Not `start`: the end of the input ends the process.
        thread = threading.Thread(target=_ended_quietly, args=(channel,), daemon=True)
        thread.start()
        with os.fdopen(commands, "wb", buffering=0) as written:
            yield channel, written, read
        thread.join(WITHIN_S)


def _ended_quietly(channel: Channel) -> None:
    channel._stop = lambda: channel._queue.put(None)  # type: ignore[method-assign]
    channel._read()


def tell(commands: BinaryIO, **command: Any) -> None:
    commands.write(json.dumps(command).encode() + b"\n")


def test_the_answer_is_to_the_claim_that_was_made(
    line: tuple[Channel, BinaryIO, BinaryIO],
) -> None:
    channel, commands, events = line
    tell(commands, op="cancel", id="first")
    with pytest.raises(Cancelled):
        channel.claim("first")
    asked = json.loads(events.readline())
    tell(commands, op="claimed", claim=asked["claim"], pieces=[1])  # too late
    found: list[int] = []
    claiming = partial(channel.claim, "second")
    thread = threading.Thread(target=lambda: found.extend(claiming()), daemon=True)
    thread.start()
    asked = json.loads(events.readline())
    assert (asked["event"], asked["id"]) == ("claim", "second")
    tell(commands, op="claimed", claim=asked["claim"], pieces=[2, 3])
    thread.join(WITHIN_S)
    assert found == [2, 3]


def test_what_may_be_wanted_later_waits_for_commands(
    line: tuple[Channel, BinaryIO, BinaryIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "IDLE_S", 0.05)
    channel, commands, _ = line
    done: list[str] = []

    def steps() -> Iterator[None]:
        for name in ("one", "two", "three"):
            done.append(name)
            if name == "two":  # a command comes meanwhile
                tell(commands, op="run", job=2)
                while channel._queue.empty():
                    time.sleep(0.01)
            yield

    tell(commands, op="run", job=1)
    heard = channel.commands(steps())
    assert next(heard)["job"] == 1 and done == []
    assert next(heard)["job"] == 2 and done == ["one", "two"]
    tell(commands, op="exit")
    assert list(heard) == []
