"""Measures the README's figures on this machine: `python -m tests.figures [--write]`.

`--write` puts them between `<!-- figure: NAME -->` and `<!-- /figure -->` of the READMEs. What
needs a GPU (accuracy) or long runs (the demo's marks) comes from the files that those runs left.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
READMES = tuple(path for path in (ROOT / "README.md", ROOT / "README.zh.md") if path.is_file())
RECEIPTS = ROOT / "webui" / "estimator" / "receipts" / "h200.json"
EVALUATION = ROOT / "webui" / "demo" / "evaluation.json"
MARK = re.compile(r"(<!-- figure: ([a-z0-9-]+) -->).*?(<!-- /figure -->)", re.DOTALL)
MIB = 2**20

NAMES = (
    "machine", "start-seconds", "ui-rss", "ui-torch", "plan-p95", "demo-cold", "demo-warm",
    "demo-accuracy", "allocated-error", "reserved-error", "seconds-error",
)  # fmt: skip
"""What the READMEs may ask for."""
MOVES = 200
"""Slider moves that are timed."""

_TORCH_AFTER_BUILDING = """
import sys
sys.path.insert(0, sys.argv[1])
import app
print("torch" in sys.modules)
app.studio.close()
"""
_PLAN_TIMES = """
import json, random, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from webui.service import Access, Studio
from tests.figures import random_request
studio = Studio(Path.cwd(), access=Access(loopback=True))
draw = random.Random(0)
studio.plan(studio.parse({}))
seconds = []
for _ in range(int(sys.argv[2])):
    request = studio.parse(random_request(draw))
    began = time.perf_counter()
    studio.plan(request)
    seconds.append(time.perf_counter() - began)
studio.close()
print(json.dumps(seconds))
"""


def random_request(draw: random.Random) -> dict[str, Any]:
    """What a slider at a random place asks for: a model, a card and a workload."""
    step = 16
    return {
        "model": draw.choice(("demo", "wan2.1-t2v-1.3b", "wan2.1-t2v-14b")),
        "card": draw.choice(("rtx-4060", "rtx-3060-12gb", "rtx-4060-ti-16gb", "rtx-4090", "h200")),
        "frames": 4 * draw.randint(0, 40) + 1,
        "height": step * draw.randint(8, 60),
        "width": step * draw.randint(8, 60),
        "steps": draw.randint(1, 60),
    }


def measured_figures() -> dict[str, str]:
    """Start, memory, planning and demo clips of the app on this machine."""
    from gradio_client import Client

    from tests.app.running import running_studio

    figures = {"machine": _machine()}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        figures["ui-torch"] = "yes" if _child(_TORCH_AFTER_BUILDING, home) == "True" else "no"
        seconds = sorted(json.loads(_child(_PLAN_TIMES, home, str(MOVES))))
        figures["plan-p95"] = f"{1000 * seconds[int(0.95 * len(seconds))]:.0f} ms"
        with running_studio(home / "app") as running:
            figures["start-seconds"] = f"{running.startup_s:.1f} s"
            time.sleep(3)
            figures["ui-rss"] = f"{running.rss_bytes() / MIB:.0f} MiB"
            client = Client(running.address, verbose=False, download_files=str(home / "files"))
            for name, seed in (("demo-cold", 1), ("demo-warm", 2)):
                began = time.perf_counter()
                client.predict(
                    prompt="a red circle moves to the right", seed=seed, api_name="/generate"
                )
                figures[name] = f"{time.perf_counter() - began:.1f} s"
            client.close()
    return figures


def accuracy_figures(path: Path = RECEIPTS) -> dict[str, str]:
    """Mean and worst error of the receipts that `python -m webui verify --save` left."""
    if not path.is_file():
        return {}
    from webui.core.receipt import Receipt
    from webui.service.verify import accuracy

    receipts = [
        Receipt.from_json(item)
        for item in json.loads(path.read_text(encoding="utf-8"))
        if item.get("measurement")
    ]
    rows = [row for receipt in receipts for row in accuracy(receipt)]
    totals = [
        receipt.plan["seconds"] / receipt.measurement.seconds - 1
        for receipt in receipts
        if receipt.measurement and receipt.error is None
    ]
    errors = {
        "allocated-error": [row.error for row in rows],
        "reserved-error": [row.reserved_error for row in rows if row.reserved_error is not None],
        "seconds-error": totals,
    }
    return {name: _mean_and_worst(values) for name, values in errors.items() if values}


def demo_figures(path: Path = EVALUATION) -> dict[str, str]:
    """What the demo's evaluation found on prompts that it was never trained on."""
    if not path.is_file():
        return {}
    generated = json.loads(path.read_text(encoding="utf-8"))["generated"]
    right, clips = generated["accuracy"]["all"], generated["clips"]
    return {"demo-accuracy": f"{100 * right:.1f} % of {clips} clips"}


def write_figures(text: str, figures: dict[str, str]) -> str:
    """The README with the figures between their marks; what was not measured stays."""
    return MARK.sub(
        lambda mark: mark[1] + figures[mark[2]] + mark[3] if mark[2] in figures else mark[0], text
    )


def _mean_and_worst(errors: list[float]) -> str:
    mean = sum(abs(error) for error in errors) / len(errors)
    return f"{100 * mean:.1f} % / {100 * max(abs(error) for error in errors):.1f} %"


def _child(code: str, home: Path, *arguments: str) -> str:
    """What a fresh process on the home folder prints last."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), *arguments],
        cwd=home, env={**os.environ, "STUDIO_DEVICE": "cpu"}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.strip().splitlines()[-1]


def _machine() -> str:
    return f"{os.cpu_count()} CPU cores, {platform.system()}, Python {platform.python_version()}"


def main() -> int:
    """Measures, prints, and writes when asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.figures", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the figures into the READMEs")
    parser.add_argument("--files-only", action="store_true", help="measure nothing here")
    given = parser.parse_args()
    figures = {**accuracy_figures(), **demo_figures()}
    if not given.files_only:
        figures.update(measured_figures())
    for name in NAMES:
        print(f"{name:<16} {figures.get(name, '(no file yet)')}")
    if given.write:
        for path in READMES:
            text = write_figures(path.read_text(encoding="utf-8"), figures)
            path.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
