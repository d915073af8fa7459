"""Who sees what: loopback against the web, and visitors of a public server against each other."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.app.running import RunningStudio, running_studio
from webui.core.units import MIB
from webui.ui.launch import read_arguments
from webui.ui.uploading import VISITORS_DAY_BYTES, UploadBounds

Connect = Callable[[RunningStudio], Client]


def fetch(address: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(
        address, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_the_ui_process_starts_fast_and_small(studio: RunningStudio) -> None:
    # The issue allows 5 s on an idle machine; tests share it with others.
    assert studio.startup_s < 12
    assert studio.rss_bytes() < 350 * 2**20


def test_loopback_refuses_other_sites(studio: RunningStudio) -> None:
    assert fetch(studio.address)[0] == 200
    assert fetch(studio.address, Host="studio.attacker.example")[0] == 403
    assert fetch(studio.address, Origin="https://attacker.example")[0] == 403
    assert fetch(studio.address, Origin=studio.address)[0] == 200


def test_a_public_studio_refuses_other_sites_and_uploads(public_studio: RunningStudio) -> None:
    address = public_studio.address
    assert fetch(address, Origin=address)[0] == 200
    status, _, body = fetch(address, Origin="https://attacker.example")
    assert status == 403 and "其他网站" in body.decode()
    assert fetch(f"{address}/gradio_api/upload")[0] == 404
    # What is too large is refused unread.
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Length", "40000000")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and "32 MiB" in answer.read().decode()
    connection.close()


def test_a_days_uploads_are_bounded() -> None:
    now = [0.0]
    bounds = UploadBounds(clock=lambda: now[0])
    assert bounds.refusal(200 * MIB, owner=True) is None
    status, why = bounds.refusal(33 * MIB, owner=False) or (None, None)
    assert status == 413 and why is not None and "32 MiB" in why.en
    taken = 0
    while (refused := bounds.refusal(32 * MIB, owner=False)) is None:
        taken += 32 * MIB
        now[0] += 60
    assert taken == VISITORS_DAY_BYTES and refused[0] == 429
    assert bounds.refusal(32 * MIB, owner=True) is None, "the owner may still"
    now[0] = 24 * 3600
    assert bounds.refusal(32 * MIB, owner=False) is None, "the first is a day old"
    assert bounds.refusal(32 * MIB, owner=False) is not None


def test_a_sign_in_without_a_password_is_refused() -> None:
    for wrong in ("secret", "owner:", ":secret"):
        with pytest.raises(SystemExit):
            read_arguments([], {"STUDIO_AUTH": wrong})
    assert read_arguments([], {"STUDIO_AUTH": "owner:secret"}).sign_in == ("owner", "secret")


def test_the_page_follows_the_language_and_asks_nobody_else(studio: RunningStudio) -> None:
    for headers, locale in (
        ({"Accept_Language": "zh-CN,zh;q=0.9,en;q=0.8"}, b'"zh-CN"'),
        ({"Accept_Language": "de,en;q=0.5"}, b'"en"'),
        ({"Accept_Language": "zh", "Cookie": "studio_lang=en"}, b'"en"'),
    ):
        body = fetch(studio.address, **headers)[2]
        assert b"document.documentElement.lang=" + locale in body
    assert b"fonts.googleapis" not in body


def test_visitors_see_only_their_own_runs(public_studio: RunningStudio, connect: Connect) -> None:
    mine, other = connect(public_studio), connect(public_studio)
    result: dict[str, Any] = mine.predict(
        prompt="a red circle", frames=1, steps=4, api_name="/generate"
    )
    run_id = result["receipt"]["id"]
    assert [run["id"] for run in mine.predict(api_name="/runs")] == [run_id]
    assert other.predict(api_name="/runs") == []
    with pytest.raises(AppError):
        other.predict(id=run_id, api_name="/cancel")
    for name in ("thumbnail", "picture.png", "..%2Fledger.sqlite"):
        assert fetch(f"{public_studio.address}/studio/files/{run_id}/{name}")[0] in (403, 404)


def test_the_visitor_cookie_is_random_and_hidden_from_scripts(public_studio: RunningStudio) -> None:
    cookies = [fetch(public_studio.address)[1]["set-cookie"] for _ in range(2)]
    assert cookies[0] != cookies[1]
    assert all("studio_visitor=" in cookie and "HttpOnly" in cookie for cookie in cookies)
    assert all("SameSite" in cookie for cookie in cookies)


def test_files_outside_the_outputs_are_not_served(studio: RunningStudio) -> None:
    for path in ("app.py", "studio.yaml", "pyproject.toml", str(studio.log)):
        assert fetch(f"{studio.address}/gradio_api/file={path}")[0] in (403, 404)
    assert fetch(f"{studio.address}/studio/files/../app.log")[0] == 404


def test_sign_in_keeps_strangers_out(tmp_path: Path) -> None:
    with running_studio(tmp_path / "home", host="0.0.0.0", STUDIO_AUTH="owner:secret") as running:
        page = fetch(running.address)[2]
        assert b'"auth_required":true' in page.replace(b" ", b"")
        with pytest.raises(ValueError, match=r"login|auth|credentials"):
            Client(running.address, verbose=False)
        client = Client(running.address, verbose=False, auth=("owner", "secret"))
        assert client.predict(api_name="/plan")["fits"] is True
        client.close()
        assert fetch(f"{running.address}/studio/files/any/thumbnail")[0] == 404


def test_what_belongs_to_the_owner_is_refused_in_the_handler(
    public_studio: RunningStudio, connect: Connect
) -> None:
    """A hidden button protects nothing: the event is posted by hand."""
    config: dict[str, Any] = connect(public_studio).config
    weights = next(
        part["id"] for part in config["components"]
        if part["props"].get("elem_id") == "generate-weights"
    )  # fmt: skip
    event = next(
        entry for entry in config["dependencies"] if [weights, "click"] in entry["targets"]
    )
    model = next(
        part["id"] for part in config["components"]
        if part["props"].get("elem_id") == "generate-model"
    )  # fmt: skip
    sent = {"fn_index": event["id"], "session_hash": "stranger"}

    def press(button: str, stray: Any = None) -> str:
        values = {model: "wan2.1-t2v-1.3b", event["inputs"][0]: stray}
        data = [values.get(part) for part in event["inputs"]]
        body = {**sent, "data": data, "event_data": {"action": button}}
        return post(f"{public_studio.address}/gradio_api/run/predict", body)

    assert "Only the owner" in press("download")
    # A mapping that gradio would take for one of its files is not handed back as one.
    stray = {"path": str(public_studio.log), "meta": {"_type": "gradio.FileData"}}
    assert "app.log" not in press("example", stray)


def post(address: str, body: dict[str, Any]) -> str:
    request = urllib.request.Request(
        address, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())
