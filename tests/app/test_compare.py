"""The comparison tab against the running app: its events as the page sends them."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from gradio_client import Client

from tests.app.running import RunningStudio
from tests.app.test_access import post

SMALL = {"generate-frames": 1, "generate-steps": 2, "generate-prompt": "a red circle"}


class Tab:
    """The tab of one visitor."""

    def __init__(self, studio: RunningStudio, client: Client) -> None:
        self.address = f"{studio.address}/gradio_api/run/predict"
        self.parts: dict[int, dict[str, Any]] = {
            part["id"]: part for part in client.config["components"]
        }
        self.names = {part["props"].get("elem_id"): number for number, part in self.parts.items()}
        self.events = client.config["dependencies"]
        self.session = f"tab-{time.monotonic_ns()}"

    def send(self, name: str, event: str, **values: Any) -> str:
        """One event of a component, with the values of others by their `elem_id`."""
        number = self.names[name]
        entry = next(one for one in self.events if [number, event] in one["targets"])
        return self._send(entry, values)

    def tick(self) -> str:
        """The tab's timer: the one that asks for what `compare-run` started."""
        shown = self.names["compare-result"]
        entry = next(
            one for one in self.events
            if one["targets"][0][1] == "tick" and shown in one["outputs"]
        )  # fmt: skip
        return self._send(entry, {})

    def _send(self, entry: dict[str, Any], values: dict[str, Any]) -> str:
        given = {name.replace("_", "-"): value for name, value in values.items()} | SMALL
        by_number = {self.names[name]: value for name, value in given.items()}
        data = [
            by_number.get(number, self.parts[number]["props"].get("value"))
            for number in entry["inputs"]
        ]
        return post(
            self.address,
            {"fn_index": entry["id"], "session_hash": self.session, "data": data},
        )


@pytest.fixture
def tab(studio: RunningStudio, client: Client) -> Tab:
    return Tab(studio, client)


def test_the_form_with_two_settings_and_then_its_runs_again(tab: Tab) -> None:
    assert "fp32" in tab.send("compare-setting", "input")
    assert "Choose 2 to 4 values" in tab.send("compare-run", "click", compare_values=["fp32"])
    answer = tab.send("compare-run", "click", compare_values=["fp32", "bf16"])
    deadline = time.monotonic() + 120
    while "PSNR" not in answer:
        assert time.monotonic() < deadline and "vs-alert" not in answer, answer
        time.sleep(0.3)
        answer = tab.tick()
    assert "PSNR" in answer and "SSIM" in answer and "MiB" in answer
    runs = list(dict.fromkeys(re.findall(r'data-run=\\"(\w+)\\"', answer)))
    assert len(runs) == 2
    # The other way round, without running again.
    again = tab.send("compare-show", "click", compare_past=runs[::-1])
    assert again.index(runs[1]) < again.index(runs[0]) and "dB" in again
    assert "Choose 2 to 4 runs" in tab.send("compare-show", "click", compare_past=runs[:1])
    stranger = tab.send("compare-show", "click", compare_past=[runs[0], "../../etc"])
    assert "There is no run" in stranger and "dB" not in stranger
