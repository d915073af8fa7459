"""The profiler's tab: the owner's alone, checked where the event and the file are served."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from gradio_client import Client

from tests.app.running import RunningStudio
from tests.app.test_access import fetch, post

Connect = Callable[[RunningStudio], Client]
MATRIX = "[{model: demo, prompt: x, frames: 1, height: 64, width: 64, steps: 1}, {model: nope}]"


class Tab:
    """Posts the tab's events by hand, as a script would."""

    def __init__(self, client: Client, studio: RunningStudio) -> None:
        self.config: dict[str, Any] = client.config
        self.address = f"{studio.address}/gradio_api/run/predict"
        self.ids = {part["props"].get("elem_id"): part["id"] for part in self.config["components"]}

    def press(self, elem_id: str, values: list[Any], data: dict[str, str] | None = None) -> str:
        event = next(
            entry
            for entry in self.config["dependencies"]
            if [self.ids[elem_id], "click"] in entry["targets"]
        )
        body = {"fn_index": event["id"], "session_hash": "x", "data": values, "event_data": data}
        return post(self.address, body)

    def tick(self, seen: str) -> str:
        event = next(
            entry
            for entry in self.config["dependencies"]
            if entry["targets"][0][1] == "tick" and self.ids["profiler-rows"] in entry["outputs"]
        )
        body = {"fn_index": event["id"], "session_hash": "x", "data": [None, seen]}
        return post(self.address, body)


def test_visitors_get_neither_runs_nor_files(
    public_studio: RunningStudio, connect: Connect
) -> None:
    folder = public_studio.home / "outputs" / "profiles" / "secret-2026-11-27"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text('{"rows": [], "name": "secret"}')
    tab = Tab(connect(public_studio), public_studio)
    assert "Only the owner" in tab.press("profiler-run", [MATRIX])
    for action in ("open", "row", "compare", "cancel", "delete"):
        asked = {"action": action, "profile": folder.name, "row": "x", "other": "y"}
        answer = tab.press("profiler-rows", [None], asked)
        assert "belongs to the owner" in answer and "2026-11-27" not in answer
    file = f"{public_studio.address}/studio/profiles/{folder.name}/-/summary.json"
    assert fetch(file)[0] == 404
    assert list(folder.parent.iterdir()) == [folder]


def test_the_owner_runs_a_matrix_and_fetches_its_files(
    studio: RunningStudio, connect: Connect
) -> None:
    tab = Tab(connect(studio), studio)
    profiles = studio.home / "outputs" / "profiles"
    broken, earlier = profiles / "broken", profiles / "earlier"
    for folder, summary in (
        (broken, {"rows": [{"row": "x"}], "name": "broken"}),
        (earlier, {"name": "earlier", "created": "2026-01-02T03:04:05", "rows": [],
                   "environment": {"card": "an old card", "processes": []}}),
    ):  # fmt: skip
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps(summary))
    told = tab.press("profiler-rows", [None], {"action": "open", "profile": "broken"})
    assert "cannot be read" in told and "broken" in told
    started = tab.press("profiler-run", [MATRIX])
    assert "cannot be run" not in started and "vs-alert" not in started
    assert "an old card" in tab.press(
        "profiler-rows", [None], {"action": "open", "profile": "earlier"}
    )
    # The tick of a page that looks at another profile leaves it there.
    ticked = tab.tick("open")
    assert '"data"' in ticked and "transformer" not in ticked and "data-row" not in ticked
    assert '"active": false' not in tab.tick("hidden").replace('":false', '": false')
    assert '"active": false' in tab.tick("left").replace('":false', '": false')
    deadline = time.monotonic() + 120
    rows: list[Any] = []
    while len(rows) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.3)
        for path in profiles.glob("*-20*/summary.json"):
            rows = json.loads(path.read_text())["rows"]
    assert [row["state"] for row in rows] == ["done", "refused"]
    name = path.parent.name
    shown = tab.press("profiler-rows", [None], {"action": "open", "profile": name})
    assert "row-1" in shown and "transformer" in shown
    detail = tab.press("profiler-rows", [None], {"action": "row", "profile": name, "row": "row-1"})
    assert "vae.decoder" in detail
    status, headers, body = fetch(f"{studio.address}/studio/profiles/{name}/row-1/receipt.json")
    assert status == 200 and json.loads(body)["id"] == rows[0]["run"]
    assert headers["content-disposition"].startswith("attachment")
    for wrong in (f"{name}/row-1/none.json", f"{name}/-/receipt.json", f"..%2f{name}/-/report.md"):
        assert fetch(f"{studio.address}/studio/profiles/{wrong}")[0] == 404
    assert "vs-button" in tab.press("profiler-rows", [None], {"action": "open", "profile": name})
    while (profiles / name).exists():  # it is refused until the last row's report is written
        assert time.monotonic() < deadline
        tab.press("profiler-rows", [None], {"action": "delete", "profile": name})
    assert not (profiles / name).exists() and (studio.home / "outputs").is_dir()
