"""One worker process: start it, give it jobs, hear its events, know when and why it died."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import webui
from webui.client.log import LimitedLog
from webui.core.errors import WorkerLost
from webui.core.text import Text

START_TIMEOUT_S = 180.0
"""Importing torch and diffusers takes seconds, on a cold disk a minute."""
ENDS_WITHIN_S = 10.0
"""How long a worker that says that it ends may take."""
_BROKEN_DEVICE = 3

Event = dict[str, Any]


class WorkerProcess:
    """A worker and the line to it. Safe to use from several threads; one job at a time.

    Args:
        log_path: where the worker's standard error goes (limited in size).
        allocator: `expandable` or `default`; fixed for the life of the process.
        device: CUDA_VISIBLE_DEVICES for the worker (`0`, a UUID), `cpu`, or None to inherit.
        threads: processor threads for torch, or None for its default.
        python: the interpreter.
    """

    def __init__(
        self,
        log_path: Path,
        *,
        allocator: str = "expandable",
        device: str | None = None,
        threads: int | None = None,
        python: str = sys.executable,
    ) -> None:
        self.allocator = allocator
        self.device = device
        self.ready: Event | None = None
        """The worker's first event: device, kind, versions."""
        self._log_path = log_path
        self._threads = threads
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._log: LimitedLog | None = None
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._write_lock = threading.Lock()
        self._run_lock = threading.Lock()
        self._start_lock = threading.Lock()

    def __enter__(self) -> WorkerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def last_lines(self) -> list[str]:
        """The newest lines of the worker's log."""
        return self._log.last_lines() if self._log else []

    def start(self, timeout_s: float = START_TIMEOUT_S) -> Event:
        """Starts the process and waits until it is ready; does nothing when it is already.

        Returns:
            The `ready` event.

        Raises:
            WorkerLost: it ended, or was not ready in time.
        """
        with self._start_lock:
            if self.alive and self.ready is not None:
                return self.ready
            return self._start(timeout_s)

    def _start(self, timeout_s: float) -> Event:
        self.kill()
        self.ready = None
        self._events = queue.Queue()
        self._log = LimitedLog(self._log_path)
        self._process = subprocess.Popen(
            [self._python, "-m", "webui.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment(),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        readers = (
            (self._read_events, (self._process, self._events)),
            (self._read_log, (self._process, self._log)),
        )
        for target, arguments in readers:
            threading.Thread(target=target, args=arguments, daemon=True).start()
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self.kill()
                raise WorkerLost(
                    Text(
                        f"The worker was not ready after {timeout_s:.0f} s.",
                        f"工作进程在 {timeout_s:.0f} 秒内没有就绪。",
                    ),
                    _see_log(),
                ) from None
            if event is None:
                raise self._lost()
            if event["event"] == "broken":
                self._wait_or_kill(ENDS_WITHIN_S)
                reason = str(event["reason"]).rstrip(".")
                raise WorkerLost(
                    Text(
                        f"The worker could not start: {reason}.",
                        f"工作进程无法启动：{reason}。",
                    ),
                    _see_log(),
                )
            if event["event"] == "ready":
                self.ready = event
                return event

    def send(self, command: Mapping[str, Any]) -> None:
        """Sends one command.

        Raises:
            WorkerLost: there is no worker to hear it.
        """
        process = self._process
        if process is None or process.stdin is None:
            raise self._lost()
        line = json.dumps(command).encode() + b"\n"
        try:
            with self._write_lock:
                process.stdin.write(line)
                process.stdin.flush()
        except (OSError, ValueError):
            raise self._lost() from None

    def events(self) -> Iterator[Event]:
        """Events as they come, until the process ends. For use without `run`."""
        events = self._events
        while (event := events.get()) is not None:
            yield event
        events.put(None)

    def run(self, job: Mapping[str, Any], on_event: Callable[[Event], None] | None = None) -> Event:
        """Runs a job to its end; blocks.

        Args:
            job: see webui/worker/runner.py; `id` names it.
            on_event: called with every event of the job, the last one included.

        Returns:
            The last event: `result` or `failed`.

        Raises:
            WorkerLost: the process died; the message says of what.
        """
        with self._run_lock:
            self.send({"op": "run", "job": dict(job)})
            for event in self.events():
                if event.get("id") != job["id"]:
                    continue
                if on_event is not None:
                    try:
                        on_event(event)
                    except BaseException:  # nobody hears of the job any more
                        self.cancel(str(job["id"]))
                        raise
                if event.get("ends"):  # or the next job might still find it alive
                    self._wait_or_kill(ENDS_WITHIN_S)
                if event["event"] in ("result", "failed"):
                    return event
            raise self._lost()

    def cancel(self, job_id: str) -> None:
        """Asks the job to stop; it ends with a `failed` event of type Cancelled."""
        with suppress(WorkerLost):  # whoever waits in `run` hears of it
            self.send({"op": "cancel", "id": job_id})

    def unload(self, count_held: bool = False) -> int | None:
        """Drops the loaded model between jobs.

        Args:
            count_held: count on a processor too what is left, which takes some tenths of a second.

        Returns:
            What tensors still take on the device (0 on a processor where it is not counted); None
            where a job has the worker, which is not waited for.

        Raises:
            WorkerLost: the process died.
        """
        return self._between_jobs(
            {"op": "unload", "count_held": count_held}, "unloaded", "held_bytes"
        )

    def empty_cache(self) -> int | None:
        """Has the allocator give back what it holds and nothing uses, between jobs.

        Returns:
            How many bytes that were; None where a job has the worker.

        Raises:
            WorkerLost: the process died.
        """
        return self._between_jobs({"op": "empty_cache"}, "cache_emptied", "freed_bytes")

    def _between_jobs(self, command: Mapping[str, Any], answer: str, key: str) -> int | None:
        """The bytes of the answer to a command that is never sent during a job."""
        if not self._run_lock.acquire(blocking=False):
            return None
        try:
            self.send(command)
            for event in self.events():
                if event["event"] == answer:
                    return int(event[key])
            raise self._lost()
        finally:
            self._run_lock.release()

    def close(self, timeout_s: float = 10.0) -> None:
        """Ends the process: asks first, kills after the timeout."""
        process = self._process
        if process is None:
            return
        try:
            self.send({"op": "exit"})
            if process.stdin is not None:
                process.stdin.close()
        except (WorkerLost, OSError, ValueError):
            pass
        self._wait_or_kill(timeout_s)

    def _wait_or_kill(self, timeout_s: float) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends the process at once; its memory is the system's again when this returns."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdin is not None:
            with suppress(OSError, ValueError):
                process.stdin.close()

    def _environment(self) -> dict[str, str]:
        """The worker's environment; the allocator reads its part before torch is imported."""
        env = dict(os.environ)
        config = f"expandable_segments:{self.allocator == 'expandable'}"
        env["PYTORCH_ALLOC_CONF"] = config
        env["PYTORCH_CUDA_ALLOC_CONF"] = config  # the name before torch 2.9
        # CUDA numbers the fastest first, NVML by bus: make them agree.
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        if self.device is not None:
            env["CUDA_VISIBLE_DEVICES"] = "" if self.device == "cpu" else self.device
        if self.device == "cpu":
            # Threads that spin while they wait for others take the cores from those: beside a busy
            # browser a run takes 2.5 times as long so, and alone it gains 3 %.
            env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if self._threads is not None:
            env["STUDIO_THREADS"] = str(self._threads)
        root = str(Path(next(iter(webui.__path__))).resolve().parent)
        others = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
        env["PYTHONPATH"] = os.pathsep.join([root, *others])
        # Weights are local files by the time a worker is asked: it never needs the network.
        env["HF_HUB_OFFLINE"] = "1"
        env["PYTHONUNBUFFERED"] = "1"
        env["PYTHONIOENCODING"] = "utf-8"
        return env

    @staticmethod
    def _read_events(process: subprocess.Popen[bytes], events: queue.Queue[Event | None]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if isinstance(event, dict) and "event" in event:
                    events.put(event)
        process.wait()
        events.put(None)

    @staticmethod
    def _read_log(process: subprocess.Popen[bytes], log: LimitedLog) -> None:
        assert process.stderr is not None
        with process.stderr as lines, log:
            for line in lines:
                log.write(line)

    def _lost(self) -> WorkerLost:
        code = self._process.poll() if self._process else None
        if self._process is not None and code is None:
            # Its output ended, so it is about to; give it a moment to tell how.
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(5.0)
        return WorkerLost(*_cause(code))


def _cause(code: int | None) -> tuple[Text, Text]:
    """What an exit code says, and what to do."""
    if code is None:
        return Text("There is no worker process.", "没有工作进程。"), _see_log()
    if code < 0:
        number = -code
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "?"
        message = Text(
            f"The worker process was killed by signal {number} ({name}).",
            f"工作进程被信号 {number}（{name}）终止。",
        )
        if name == "SIGKILL":
            return message, Text(
                "Perhaps the system ran out of memory: close other programs, or choose a lower "
                "precision. The next job starts a new worker.",
                "可能是系统内存不足：请关闭其他程序，或降低精度。下一个任务会启动新的工作进程。",
            )
        return message, _see_log()
    if code == _BROKEN_DEVICE:
        return (
            Text("The worker ended after a fault of the device.", "设备故障后，工作进程已结束。"),
            _see_log(),
        )
    return (
        Text(f"The worker process ended with code {code}.", f"工作进程已结束，退出码 {code}。"),
        _see_log(),
    )


def _see_log() -> Text:
    return Text(
        "The worker's log has the details. The next job starts a new worker.",
        "详细信息见工作进程日志。下一个任务会启动新的工作进程。",
    )
