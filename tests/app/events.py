"""Posts the page's own events by hand, as a browser or an intruder would."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from tests.app.running import RunningStudio


class Refused(Exception):
    """The server answered an event with an error of its own."""


class Visitor:
    """One browser on the page: a session, and what its components hold.

    Args:
        running: the app.
        session: the session's hash; another one is another browser.
        cookie: of a visitor of a public server.
    """

    def __init__(self, running: RunningStudio, session: str, cookie: str = "") -> None:
        self.running, self.session, self.cookie = running, session, cookie
        self.values: dict[str, Any] = {}
        self._config = json.loads(self._ask("/config"))
        self._ids = {
            part["props"]["elem_id"]: part["id"]
            for part in self._config["components"]
            if part["props"].get("elem_id")
        }
        self._names = {number: name for name, number in self._ids.items()}
        for part in self._config["components"]:
            if name := part["props"].get("elem_id"):
                self.values[name] = part["props"].get("value")

    def trigger(self, name: str, event: str, /, **event_data: Any) -> dict[str, Any]:
        """Sends an event of a component; its answer by `elem_id`, kept as a browser would.

        Args:
            name: the component's `elem_id`.
            event: `click`, `input`, ...
            event_data: what the event carries.
        """
        target = [self._ids[name], event]
        known = next(one for one in self._config["dependencies"] if target in one["targets"])
        data = [self.values.get(self._names.get(part, "")) for part in known["inputs"]]
        body = {
            "fn_index": known["id"], "session_hash": self.session, "data": data,
            "event_data": event_data or None, "trigger_id": self._ids[name],
        }  # fmt: skip
        answer = json.loads(self._ask("/gradio_api/run/predict", body))
        if "data" not in answer:
            raise Refused(answer)
        shown = {}
        for part, value in zip(known["outputs"], answer["data"], strict=True):
            if (named := self._names.get(part)) is None:
                continue
            if isinstance(value, Mapping) and value.get("__type__") == "update":
                shown[named] = value
                if "value" in value:
                    self.values[named] = value["value"]
            else:
                shown[named] = self.values[named] = value
        return {name: value for name, value in shown.items() if value != {"__type__": "update"}}

    def upload(
        self, name: str, content: bytes, filename: str = "a.yaml", event: str = "upload"
    ) -> dict[str, Any]:
        """Uploads a file through a component, as the browser does in two steps."""
        self.values[name] = self.send(content, filename)
        return self.trigger(name, event)

    def send(self, content: bytes, filename: str) -> dict[str, Any]:
        """Uploads a file; gives what a component then holds."""
        mark = "----studio"
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{filename}"'
        kind = "\r\nContent-Type: application/octet-stream\r\n\r\n"
        body = (head + kind).encode() + content + f"\r\n--{mark}--\r\n".encode()
        request = urllib.request.Request(
            self.running.address + "/gradio_api/upload",
            data=body,
            headers={"Content-Type": f"multipart/form-data; boundary={mark}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            [path] = json.loads(answer.read())
        return {"path": path, "orig_name": filename, "meta": {"_type": "gradio.FileData"}}

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> str:
        request = urllib.request.Request(
            self.running.address + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Cookie": self.cookie},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.read().decode())
