"""What goes over a worker's line: claims in the middle of a job, and commands in order."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

import pytest

from webui.core.errors import Cancelled
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


def test_commands_come_in_order_until_the_end(
    line: tuple[Channel, BinaryIO, BinaryIO],
) -> None:
    channel, commands, _ = line
    for job in (1, 2):
        tell(commands, op="run", job=job)
    tell(commands, op="exit")
    tell(commands, op="run", job=3)
    assert [command["job"] for command in channel.commands()] == [1, 2]
