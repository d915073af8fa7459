"""Measures the figures of the README and the guides: `python -m tests.figures [--write]`.

`--write` puts them between `<!-- figure: NAME -->` and `<!-- /figure -->` of the pages. What
needs a GPU (accuracy) or long runs (the demo's marks) comes from the files that those runs left.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.contract.project import ROOT, pages
from webui.core.text import Text
from webui.core.units import GIB, MIB

EVALUATION = ROOT / "webui" / "demo" / "evaluation.json"
MARK = re.compile(r"(<!-- figure: ([a-z0-9-]+) -->).*?(<!-- /figure -->)", re.DOTALL)

Figures = dict[str, str | Text]
"""By name; a `Text` where the languages differ."""

NAMES = (
    "machine", "start-seconds", "ui-rss", "ui-torch", "estimate-p95", "plan-p95", "plan-cold",
    "demo-cold", "demo-warm", "dashboard-refresh", "sampler-share", "history-size",
    "demo-accuracy", "demo-colour", "demo-motion", "demo-shape",
    "pages-at-once", "cells", "allocated-error", "reserved-error", "device-error", "seconds-within",
    "capped-plans", "tight-plans", "failed-plans", "verified-cards", "claims", "claims-tally",
)  # fmt: skip
"""What the pages may ask for."""
MOVES = 300
"""Requests that are timed, each new to the process."""
COLD_PLANS = 5

_TORCH_AFTER_BUILDING = """
import sys
sys.path.insert(0, sys.argv[1])
import app
print("torch" in sys.modules)
app.studio.close()
"""
_ANSWER_TIMES = """
import json, random, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from webui.service import Access, Studio
from tests.random_requests import random_request
studio = Studio(Path.cwd(), access=Access(loopback=True))
answer = getattr(studio, sys.argv[2])
draw = random.Random(1)
for _ in range(50):
    answer(studio.parse(random_request(draw)))
draw = random.Random(0)
seconds = []
for _ in range(int(sys.argv[3])):
    request = studio.parse(random_request(draw))
    began = time.perf_counter()
    answer(request)
    seconds.append(time.perf_counter() - began)
studio.close()
print(json.dumps(seconds))
"""


def measured_figures() -> Figures:
    """Start, memory, planning and demo clips of the app on this machine."""
    from gradio_client import Client

    from tests.app.running import running_studio

    figures: Figures = {"machine": _machine()}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        has_torch = _child(_TORCH_AFTER_BUILDING, home) == "True"
        figures["ui-torch"] = Text("yes", "是") if has_torch else Text("no", "否")
        for answer in ("estimate", "plan"):
            seconds = sorted(json.loads(_child(_ANSWER_TIMES, home, answer, str(MOVES))))
            figures[f"{answer}-p95"] = f"{1000 * seconds[int(0.95 * len(seconds))]:.0f} ms"
        figures.update(_dashboard_figures())
        figures["plan-cold"] = f"{max(_cold_plan_seconds() for _ in range(COLD_PLANS)):.1f} s"
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


def _dashboard_figures() -> Figures:
    """Of the dashboard with eight cards that a stand-in for the driver shows."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.dashboard_figures", "--stand-in", "8"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    return {
        "dashboard-refresh": f"{found['refresh_ms']['p95']:.0f} ms",
        "sampler-share": f"{100 * found['sampler_cpu_s_per_s']:.2f} %",
        "history-size": f"{found['history_bytes'] / MIB:.2f} MiB",
    }


def accuracy_figures() -> Figures:
    """Errors of today's estimates of the receipts that `verify --save` left, and their number."""
    from webui.estimator.verified import read_receipts
    from webui.service.recorded import recorded
    from webui.service.writing_speed import writing_speeds

    receipts = read_receipts()
    runs = list(recorded(receipts))
    phases = [phase for run in runs for phase in run.phases]
    errors = {
        "allocated-error": [phase.error for phase in phases],
        "reserved-error": [p.reserved_error for p in phases if p.reserved_error is not None],
        "device-error": [run.device_error for run in runs],
    }
    capped = [receipt for receipt in receipts if receipt.request.get("vram_gib")]
    figures: Figures = {name: _spread(values) for name, values in errors.items()}
    figures["cells"] = str(len(runs))
    figures["capped-plans"] = str(len(capped))
    figures["tight-plans"] = str(sum(run.tight for run in runs))
    figures["failed-plans"] = str(sum(receipt.error is not None for receipt in capped))
    # Under a cap they ran in one go; others would compare the hosts of different days.
    capped_speeds = [speed for speed in writing_speeds(receipts) if speed.cap_gib]
    figures["pages-at-once"] = " / ".join(
        f"{speed.times_one:.0f}x" for speed in capped_speeds if speed.times_one
    )
    within = sum(run.within_range for run in runs) / len(runs)
    figures["seconds-within"] = f"{100 * within:.0f} %"
    return figures


def demo_figures(path: Path = EVALUATION) -> Figures:
    """What the demo's evaluation found on prompts that it was never trained on."""
    if not path.is_file():
        return {}
    generated = json.loads(path.read_text(encoding="utf-8"))["generated"]
    right, clips = generated["accuracy"], generated["clips"]
    names = ("colour", "motion", "shape")
    traits = {f"demo-{name}": f"{100 * right[name]:.1f} %" for name in names}
    share = f"{100 * right['all']:.1f} %"
    return {"demo-accuracy": Text(f"{share} of {clips} clips", f"{clips} 段中的 {share}"), **traits}


def verified_table() -> Text:
    """Plans that ran under a cap, for each model and cap the one with the most work, as a Markdown
    table in both languages; the app and `verified_runs` have all of them."""
    from webui.estimator.verified import verified_runs

    heads = Text(
        "| card memory | model | work | settings | planned then | measured | time there |",
        "| 显存 | 模型 | 工作量 | 设置 | 当时的预计 | 实测 | 用时 |",
    )
    # Of a model and a cap the last is the one with the most work.
    runs = list({(run.model, run.cap_gib): run for run in verified_runs()}.values())
    runs.sort(key=lambda run: (run.model, run.cap_gib))
    rows = {
        language: [
            f"| {run.cap_gib:g} GiB | `{run.model}` | {run.size} | {run.means} "
            f"| {run.estimated_bytes / GIB:.2f} GiB "
            f"| {run.measured_bytes / GIB:.2f} GiB ({run.difference:+.1%}) "
            f"| {run.seconds:.2f} s{a_step if run.steps else ''} |"
            for run in runs
        ]
        for language, a_step in (("en", " a step"), ("zh", "/步"))
    }
    line = "|---|---|---|---|---|---|---|"
    tables = {language: "\n".join([line, *found]) for language, found in rows.items()}
    return Text(f"\n\n{heads.en}\n{tables['en']}\n\n", f"\n\n{heads.zh}\n{tables['zh']}\n\n")


def claims_figures() -> Figures:
    """The guides' claims with our figures and verdicts, as a Markdown table, and their counts."""
    from webui.service.claims import VERDICTS, by_guide, check_shipped, tally

    checked = check_shipped()
    heads = Text(
        "| what is said | our figure | verdict | runs |", "| 说法 | 我们的数字 | 结论 | 运行记录 |"
    )

    def table(language: str) -> str:
        lines = [heads.in_language(language), "|---|---|---|---|"]
        for claims in by_guide(checked).values():
            lines.append(f"| **{claims[0].guide.title.in_language(language)}** | | | |")
            for one in claims:
                found = one.found
                figure = found.measured or found.estimate
                shown = figure.in_language(language) if figure else ""
                runs = " ".join(f"`{each}`" for each in found.receipts)
                said, verdict = (
                    text.in_language(language) for text in (one.claim.says, found.shown)
                )
                cells = (said, shown, verdict, runs)
                lines.append(f"| {' | '.join(cells)} |")
        return "\n\n" + "\n".join(lines) + "\n\n"

    counts = tally(checked)
    tallied = {
        language: mark.join(
            f"{VERDICTS[verdict].in_language(language)} {count}"
            for verdict, count in counts.items()
        )
        for language, mark in (("en", ", "), ("zh", "，"))
    }
    return {
        "claims": Text(table("en"), table("zh")),
        "claims-tally": Text(tallied["en"], tallied["zh"]),
    }


def write_figures(text: str, figures: Figures, language: str = "en") -> str:
    """A page with the figures between their marks; what was not measured stays."""

    def written(mark: re.Match[str]) -> str:
        figure = figures.get(mark[2])
        if figure is None:
            return mark[0]
        shown = figure.in_language(language) if isinstance(figure, Text) else figure
        return mark[1] + shown + mark[3]

    return MARK.sub(written, text)


def _spread(errors: list[float]) -> str:
    """The mean size of errors, the size that all but one in a hundred stay within, the worst."""
    sizes = sorted(abs(error) for error in errors)
    most = sizes[int(0.99 * len(sizes))]
    return f"{100 * sum(sizes) / len(sizes):.1f} % / {100 * most:.1f} % / {100 * sizes[-1]:.1f} %"


def _child(code: str, home: Path, *arguments: str) -> str:
    """What a fresh process on the home folder prints last."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), *arguments],
        cwd=home, env={**os.environ, "STUDIO_DEVICE": "cpu"}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.strip().splitlines()[-1]


def _cold_plan_seconds() -> float:
    """From starting the command line to its answer."""
    began = time.perf_counter()
    preset = str(ROOT / "presets" / "wan-14b-24gb.yaml")
    subprocess.run(
        [sys.executable, "-m", "webui", "plan", preset], cwd=ROOT, capture_output=True, check=True
    )
    return time.perf_counter() - began


def _machine() -> Text:
    python = f"{platform.system()}, Python {platform.python_version()}"
    return Text(f"{os.cpu_count()} CPU cores, {python}", f"{os.cpu_count()} 核处理器，{python}")


def main() -> int:
    """Measures, prints, and writes when asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.figures", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the figures into the pages")
    parser.add_argument("--files-only", action="store_true", help="measure nothing here")
    given = parser.parse_args()
    figures = {**accuracy_figures(), **demo_figures(), "verified-cards": verified_table()}
    figures.update(claims_figures())
    if not given.files_only:
        figures.update(measured_figures())
    for name in NAMES:
        print(f"{name:<16} {figures.get(name, '(no file yet)')}")
    if given.write:
        for language, found in pages().items():
            for path in found:
                text = write_figures(path.read_text(encoding="utf-8"), figures, language)
                path.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
