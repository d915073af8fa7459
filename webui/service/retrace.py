"""Makes the estimator's templates again where other libraries are installed than they came from.

The tracing runs in a process of its own, at low priority, once for each model and set of
versions; until it is done, the templates that ship are used and the plan says so.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from webui.catalogue.own import own_models
from webui.core.errors import NotFound
from webui.core.model import ModelCard
from webui.core.text import Text
from webui.estimator.answers import use_templates
from webui.estimator.templates import model_versions

DECISIVE = ("diffusers", "transformers")
"""Whose versions change what is traced. torch does not: templates made with 2.13 held on 2.11 to
0.2 % (receipts/h200.json), so another torch is only mentioned."""


def installed_versions() -> dict[str, str]:
    """The decisive libraries as pip knows them; nothing is imported."""
    found = {}
    for name in DECISIVE:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Retracer:
    """Watches over the templates of one home folder.

    Args:
        folder: where templates of other versions are kept, one folder for each set of versions,
            and beside those `MODEL.log`, why a model could not be traced.
        traces: whether tracing may be started; a command that ends in seconds only says so.
        versions: what is installed; read from the packages when left out.
        command: starts the tracer; a model's name and `--output FOLDER` are appended.
    """

    def __init__(
        self,
        folder: Path,
        traces: bool = True,
        versions: Mapping[str, str] | None = None,
        command: tuple[str, ...] = (sys.executable, "-m", "webui.tracing"),
    ) -> None:
        self._versions = dict(installed_versions() if versions is None else versions)
        text = ",".join(f"{name}={self._versions[name]}" for name in sorted(self._versions))
        self._logs = folder
        self._folder = folder / hashlib.sha256(text.encode()).hexdigest()[:10]
        self._command = command
        self._traces = traces
        self._current: set[tuple[str, str]] = set()
        """Name and task of models whose templates are of the installed versions."""
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._failed: set[str] = set()
        self._closed = False
        if self._folder.is_dir():
            use_templates(self._folder)

    def check(self, model: ModelCard) -> Text | None:
        """Starts tracing a model whose templates are of other versions; what the plan says of it.

        Returns:
            None where the templates are of the installed versions.

        Raises:
            NotFound: there are none; they are made, or the hint says how.
        """
        if (model.name, model.task) in self._current:
            return None
        try:
            made_with = model_versions(model)
        except NotFound:
            raise self._untraced(model) from None
        differing = sorted(
            {
                f"{name} {found} ({traced.get(name, '?')})"
                for traced in made_with
                for name, found in self._versions.items()
                if traced.get(name) != found
            }
        )
        if not differing:
            self._current.add((model.name, model.task))
            return None
        listed = ", ".join(differing)
        if self._start(model.name):
            return Text(
                f"The estimate is being renewed for the installed {listed}; "
                "this takes some minutes.",
                f"正在为已安装的 {listed} 更新估算，需要几分钟。",
            )
        return Text(
            f"The estimate is for other versions than the installed {listed}.",
            f"估算所用的版本与已安装的不同：{listed}。",
        )

    def _untraced(self, model: ModelCard) -> NotFound:
        """What is said of a model that was never traced: one that the owner has just added."""
        if self._start(model.name):
            return NotFound(
                Text(
                    f"{model.title} is new here. What it allocates is being recorded, without "
                    "its weights; this takes some minutes.",
                    f"{model.title} 是新加入的模型，正在记录它的显存分配（不需要权重），需几分钟。",
                ),
                Text("Ask again then.", "请稍后再试。"),
            )
        command = f"python -m webui.tracing {model.name}"
        cards = own_models()
        if model.name in self._failed:  # in the app, whose visitors learn no folders
            command += " --own HOME/models" if cards else ""
            command += f" --output HOME/outputs/templates/{self._folder.name}"
            log = f"HOME/outputs/templates/{model.name}.log"
            return NotFound(
                Text(
                    f"What {model.title} allocates could not be recorded.",
                    f"未能记录 {model.title} 的显存分配。",
                ),
                Text(
                    f"The owner finds why in {log}. To try again: {command}, then start the app "
                    "anew.",
                    f"所有者可在 {log} 中查看原因。重试：{command}，然后重新启动应用。",
                ),
            )
        command += (f" --own {cards}" if cards else "") + f" --output {self._folder}"
        return NotFound(
            Text(
                f"What {model.title} allocates was never recorded.",
                f"还没有记录过 {model.title} 的显存分配。",
            ),
            Text(
                f"Open the app, which does it, or run: {command}",
                f"请打开应用（它会自动记录），或运行：{command}",
            ),
        )

    def close(self) -> None:
        """Ends what is still being traced."""
        with self._lock:
            self._closed = True
            for process in self._running.values():
                process.kill()

    def _start(self, name: str) -> bool:
        """Whether the model is being traced, or will be: one at a time."""
        with self._lock:
            if not self._traces or name in self._failed or self._closed:
                return False
            if self._running:
                return True
            with self._open_log(name) as log:
                process = subprocess.Popen(
                    [*self._command, name, "--output", str(self._folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
            with suppress(OSError, AttributeError):  # no such call on Windows
                os.setpriority(os.PRIO_PROCESS, process.pid, 10)
            self._running[name] = process
        threading.Thread(
            target=self._wait, args=(name, process), name=f"tracing {name}", daemon=True
        ).start()
        return True

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"  # the name is that of a card's file

    def _open_log(self, name: str) -> IO[bytes]:
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            return self._log(name).open("wb")
        except OSError:  # a full disk, which the tracer will report by its status
            return open(os.devnull, "wb")

    def _wait(self, name: str, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        with self._lock:
            del self._running[name]
            if status != 0:
                self._failed.add(name)
                if not self._closed:
                    logging.getLogger(__name__).warning(
                        "%s could not be traced; %s says why", name, self._log(name)
                    )
                return
        with suppress(OSError):  # warnings of the libraries, which nobody needs
            self._log(name).unlink()
        use_templates(self._folder)
