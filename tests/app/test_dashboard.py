"""The dashboard's page and routes: who is shown what, warnings, `/metrics`, the CSV file."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.app.running import RunningStudio
from tests.app.test_access import fetch, post
from tests.stand_in_driver import StandInCard, StandInDriver, stand_in_driver
from webui.core.units import GIB
from webui.service import Access, Studio
from webui.storage import MemoryPolicy, StudioConfig
from webui.ui.dashboard import DashboardTab
from webui.ui.monitor_routes import build_monitor_routes
from webui.ui.page import Page, Visit

OWNER = Visit(visitor="user:boss", language="en", owner=True)
GUEST = Visit(visitor="browser:" + "b" * 32, language="zh", owner=False)
VIEW = {"span": "5m", "source": "own", "quantity": "allocated", "model": ""}


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInDriver]:
    monkeypatch.delenv("STUDIO_DEVICE", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    own = ((os.getpid(), 3 * GIB),)
    cards = [StandInCard(index, name="NVIDIA <b>H200</b>", processes=own) for index in range(2)]
    with stand_in_driver(*cards) as stand_in:
        yield stand_in


@pytest.fixture
def page(driver: StandInDriver, tmp_path: Path) -> Iterator[Page]:
    access = Access(loopback=False, owner_user="boss")
    studio = Studio(tmp_path, access=access, config=StudioConfig(), resume=False)
    yield Page(studio=studio, access=access)
    studio.close()


@pytest.fixture
def tab(page: Page) -> DashboardTab:
    with gr.Blocks():
        return DashboardTab(page, gr.Tabs())


def test_visitors_see_the_cards_and_no_programs(tab: DashboardTab) -> None:
    mine, theirs = (tab.refreshed(visit, VIEW) for visit in (OWNER, GUEST))
    program = f"({os.getpid()})"
    assert mine[tab.devices].count(program) == 2 and "Programs on this card" in mine[tab.devices]
    assert program not in theirs[tab.devices] and "Programs on" not in theirs[tab.devices]
    for panels in (mine[tab.devices], theirs[tab.devices]):
        assert panels.count("data-device=") == 3
        assert "20.00 GiB / 140.00 GiB" in panels and "<b>H200" not in panels
    buttons = [tab.on_select(None, _request(visit))[tab.actions] for visit in (OWNER, GUEST)]
    assert buttons[0].count("data-action=") == 3 and buttons[1] == ""


def test_panels_are_well_formed_and_say_what_they_draw(tab: DashboardTab, page: Page) -> None:
    monitor = page.studio.dashboard.monitor
    now = monitor.snapshot()
    # Ahead of the clock: readings of the past go into the newest slot, whichever that is by now.
    for second in range(200):
        monitor.history.add(now.at_s + 1 + second, now.devices, now.host)
    for visit in (OWNER, GUEST):
        for panel in tab.on_select(None, _request(visit)).values():
            if isinstance(panel, str):
                _Balanced().check(panel)
    panels = tab.refreshed(OWNER, VIEW)[tab.devices]
    assert panels.count('role="img" aria-label="Memory over the last 5 minutes') == 3
    assert "20.00 GiB (14 %), busy 98 %" in panels


def test_the_warning_follows_the_owners_threshold(
    tab: DashboardTab, page: Page, driver: StandInDriver
) -> None:
    driver.cards[1].used_bytes = 126 * GIB
    page.studio.dashboard.monitor.sample()
    warned = tab.refreshed(OWNER, VIEW)[tab.warnings]
    assert "GPU 1 is 90 % full" in warned and "GPU 0" not in warned
    memory = MemoryPolicy(warn_threshold=0.95)
    page.studio.config = replace(page.studio.config, memory=memory)
    assert "GPU" not in tab.refreshed(OWNER, VIEW)[tab.warnings]


def test_metrics_are_off_until_the_owner_wants_them(page: Page) -> None:
    web = TestClient(Starlette(routes=build_monitor_routes(page)))
    web.app.auth = {"boss": "secret"}  # type: ignore[attr-defined]
    signed_in = {"Authorization": "Basic " + base64.b64encode(b"boss:secret").decode()}
    assert web.get("/metrics", headers=signed_in).status_code == 404
    page.studio.config = replace(page.studio.config, metrics=True)
    for wrong in (b"boss:guess", b"boss:", b"nobody:", b"nobody:secret", b"boss"):
        headers = {"Authorization": "Basic " + base64.b64encode(wrong).decode()}
        assert web.get("/metrics", headers=headers).status_code == 404
    assert web.get("/metrics").status_code == 404
    answer = web.get("/metrics", headers=signed_in)
    assert answer.status_code == 200 and str(os.getpid()) not in answer.text
    found = {family.name: family for family in text_string_to_metric_families(answer.text)}
    used = found["vram_studio_gpu_memory_used_bytes"].samples
    assert [(one.labels["gpu"], one.value) for one in used] == [
        ("0", 20.0 * GIB), ("1", 20.0 * GIB),
    ]  # fmt: skip
    assert found["vram_studio_gpu_power_watts"].samples[0].value == 512
    assert found["vram_studio_jobs"].samples[0].value == 0
    assert found["vram_studio_disk_free_bytes"].samples[0].value > 0
    open_page = replace(page, access=Access(loopback=False))
    web = TestClient(Starlette(routes=build_monitor_routes(open_page)))
    answer = web.get("/metrics")
    assert answer.status_code == 200 and "gpu_memory" in answer.text
    assert "disk" not in answer.text, "the machine's disk is its owner's"


def test_the_receipts_file_needs_a_visitor(page: Page) -> None:
    web = TestClient(Starlette(routes=build_monitor_routes(page)))
    assert web.get("/studio/receipts.csv?source=verified").status_code == 404
    open_page = replace(page, access=Access(loopback=False))
    web = TestClient(Starlette(routes=build_monitor_routes(open_page)))
    web.cookies.set("studio_visitor", "c" * 32)
    own = web.get("/studio/receipts.csv")
    assert own.status_code == 200 and own.text.count("\n") == 1
    shipped = web.get("/studio/receipts.csv?source=verified&model=svd-xt")
    assert shipped.text.count("\n") > 30 and ",svd-xt," in shipped.text
    assert "wan2.1" not in shipped.text
    assert web.get("/studio/receipts.csv?source=everybody").status_code == 404


def test_the_door_stands_before_the_routes(
    studio: RunningStudio, public_studio: RunningStudio
) -> None:
    assert fetch(f"{studio.address}/metrics")[0] == 404
    status, headers, _ = fetch(f"{studio.address}/studio/receipts.csv?source=verified")
    assert status == 200 and "attachment" in headers["content-disposition"]
    for path in ("metrics", "studio/receipts.csv"):
        assert fetch(f"{studio.address}/{path}", Host="studio.attacker.example")[0] == 403
        wrong = {"Origin": "https://attacker.example"}
        assert fetch(f"{public_studio.address}/{path}", **wrong)[0] == 403


@pytest.mark.parametrize("seen", ["open", "hidden", "left"])
def test_a_page_that_nobody_looks_at_is_answered_too(
    studio: RunningStudio, connect: Callable[[RunningStudio], Client], seen: str
) -> None:
    config: dict[str, Any] = connect(studio).config
    parts = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    event = next(
        entry for entry in config["dependencies"]
        if entry["targets"][0][1] == "tick" and parts["dashboard-devices"] in entry["outputs"]
    )  # fmt: skip
    body = {"fn_index": event["id"], "session_hash": "seen", "data": [None, seen]}
    answer = json.loads(post(f"{studio.address}/gradio_api/run/predict", body))
    assert ("data-device" in str(answer["data"])) == (seen == "open")
    assert ("'active': False" in str(answer["data"])) == (seen == "left")


def test_a_stranger_who_presses_the_owners_buttons_is_refused(
    public_studio: RunningStudio, connect: Callable[[RunningStudio], Client]
) -> None:
    config: dict[str, Any] = connect(public_studio).config
    actions = next(
        part["id"] for part in config["components"]
        if part["props"].get("elem_id") == "dashboard-actions"
    )  # fmt: skip
    event = next(
        entry for entry in config["dependencies"] if [actions, "click"] in entry["targets"]
    )
    for action in ("empty-cache", "unload", "end-worker"):
        body = {
            "fn_index": event["id"], "session_hash": "stranger", "data": [None],
            "event_data": {"action": action},
        }  # fmt: skip
        assert "Only the owner" in post(f"{public_studio.address}/gradio_api/run/predict", body)


def _request(visit: Visit) -> Any:
    """A gradio request of that visitor."""
    headers = {"accept-language": visit.language}
    if visit.owner:
        return _Request(headers, "boss")
    return _Request({**headers, "cookie": "studio_visitor=" + visit.visitor[-32:]}, "guest")


class _Request:
    def __init__(self, headers: dict[str, str], username: str) -> None:
        self.headers, self.username, self.session_hash = headers, username, "s"


class _Balanced(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def check(self, text: str) -> None:
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag
