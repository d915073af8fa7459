"""What the dashboard costs on this machine: `python -m tests.dashboard_figures [--stand-in N]`.

Prints the time of a refresh (reading all cards and drawing all panels), the processor time of the
sampler, and the size of eight hours of readings. Without `--stand-in` it reads the machine's own
cards through NVML. `--watch FILE.yaml` runs the file's requests with random weights instead, and
prints what the dashboard showed of each while it ran, beside its receipt.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

from tests.stand_in_driver import StandInCard, stand_in_driver

REFRESHES = 100


def dashboard_figures(home: Path, seconds: float) -> dict[str, Any]:
    """Measures on the cards that the driver shows.

    Args:
        home: for a studio of its own.
        seconds: how long the sampler is watched.
    """
    import gradio as gr

    from webui.service import Access, Studio
    from webui.service.history import HOURS_S
    from webui.storage import StudioConfig
    from webui.ui.dashboard import DashboardTab
    from webui.ui.page import Page, Visit

    studio = Studio(home, access=Access(), config=StudioConfig(), resume=False)
    monitor = studio.dashboard.monitor
    now = monitor.snapshot()
    for ago in range(HOURS_S, 0, -1):
        monitor.history.add(now.at_s - ago, now.devices, now.host)
    with gr.Blocks():
        tab = DashboardTab(Page(studio=studio, access=studio.access), gr.Tabs())
    time.sleep(seconds)
    sampler_share = monitor.cpu_share
    visit = Visit(visitor="local", language="en", owner=True)
    reading, drawing, size = [], [], 0
    for _ in range(REFRESHES):
        began = time.perf_counter()
        monitor.sample()
        read = time.perf_counter()
        panels = tab.refreshed(visit, {"span": "8h"})
        drawing.append(time.perf_counter() - read)
        reading.append(read - began)
        size = sum(len(str(panel)) for panel in panels.values())
    studio.close()
    return {
        "cards": [device.name for device in now.devices],
        "refresh_ms": _spread([sum(both) for both in zip(reading, drawing, strict=True)]),
        "reading_ms": _spread(reading),
        "drawing_ms": _spread(drawing),
        "refresh_bytes": size,
        "sampler_cpu_s_per_s": round(sampler_share, 5),
        "history_bytes": monitor.history.nbytes,
    }


def watched(home: Path, path: str) -> list[dict[str, Any]]:
    """Runs requests under the dashboard's eyes.

    Args:
        home: for a studio of its own.
        path: of the file with the requests.
    """
    from webui.commands.inputs import read_requests
    from webui.service import Access, Studio
    from webui.service.access import LOCAL

    studio = Studio(home, access=Access(), random_weights=True, resume=False)
    studio.dashboard.monitor.start()
    found = []
    for data in read_requests(path):
        job_id = studio.submit(studio.parse(data), LOCAL)
        shown = None
        for _ in studio.watch(job_id, LOCAL, 0.2):
            job = studio.dashboard.job(LOCAL)
            shown = job if job is not None and not job.state.final else shown
        receipt = studio.run(job_id, LOCAL).receipt
        assert shown is not None and receipt is not None and receipt.measurement is not None
        seen = {row.name: row for row in shown.phases}
        found.append(
            {
                "model": receipt.request["model"],
                "samples": len(shown.samples),
                "seconds": receipt.measurement.seconds,
                "sampler_cpu_s_per_s": studio.dashboard.monitor.cpu_share,
                "phases": [
                    {
                        **phase.to_json(),
                        "shown_s": seen[phase.name].measured_s,
                        "shown_allocated_bytes": seen[phase.name].measured_allocated_bytes,
                        "shown_reserved_bytes": seen[phase.name].measured_reserved_bytes,
                    }
                    for phase in receipt.measurement.phases
                ],
            }
        )
    studio.close()
    return found


def _spread(seconds: list[float]) -> dict[str, float]:
    ranked = sorted(seconds)
    found = {"median": median(ranked), "p95": ranked[int(0.95 * len(ranked))]}
    return {name: round(1000 * value, 2) for name, value in found.items()}


def main() -> int:
    """Measures and prints one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.dashboard_figures", description=__doc__)
    parser.add_argument("--stand-in", type=int, metavar="N", help="N cards that are not there")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to sample")
    parser.add_argument("--watch", metavar="FILE.yaml", help="run these under its eyes")
    given = parser.parse_args()
    cards = [StandInCard(index) for index in range(given.stand_in or 0)]
    with (
        stand_in_driver(*cards) if given.stand_in else nullcontext(),
        tempfile.TemporaryDirectory() as home,
    ):
        figures: Any = (
            watched(Path(home), given.watch)
            if given.watch
            else dashboard_figures(Path(home), given.seconds)
        )
        print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
