"""`python -m webui.worker`: opens the device, says that it is ready, and takes commands."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from webui.worker.protocol import Channel

if TYPE_CHECKING:
    from webui.worker.runner import Runner

BROKEN_DEVICE = 3
"""Exit code after a fault that only a new process can clear."""


def main() -> int:
    channel = Channel.on_standard_streams()
    # Ctrl-C in a terminal reaches the whole group; the app decides when the worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel.start()
    try:
        runner = _open_runner(channel)
    except Exception as error:
        # Left to the interpreter this ends in an abort, since a thread waits for the input.
        traceback.print_exc()
        # The texts of others may hold paths, and visitors see this.
        missing = isinstance(error, ModuleNotFoundError)
        channel.emit("broken", reason=str(error) if missing else type(error).__name__)
        return 1
    for command in channel.commands():
        op = command["op"]
        if op == "run":
            if not runner.run(command.get("job", {})):
                return BROKEN_DEVICE
        elif op == "unload":
            runner.unload()
            channel.emit("unloaded", held_bytes=runner.held_bytes(command))
        elif op == "empty_cache":
            channel.emit("cache_emptied", freed_bytes=runner.empty_cache())
        else:
            channel.emit("log", text=f"unknown command: {op}")
    return 0


def _open_runner(channel: Channel) -> Runner:
    # Heavy imports only now: a command to exit is heard meanwhile.
    from webui.worker.device import open_device, read_versions
    from webui.worker.runner import Runner

    device = open_device()
    runner = Runner(device, channel)
    channel.emit(
        "ready",
        pid=os.getpid(),
        device=device.name,
        kind=device.kind,
        versions=read_versions(),
    )
    return runner


if __name__ == "__main__":
    # os._exit: nothing is left to save, and tearing CUDA down can hang.
    code = main()
    sys.stderr.flush()
    os._exit(code)
