"""The API's questions take every key of every request, and old clients' calls stay as they were."""

from __future__ import annotations

import inspect
from typing import Any

import gradio as gr
import pytest

from webui.core.parse import KEYS, REQUESTS
from webui.core.request import Request
from webui.ui.api import Endpoints
from webui.ui.parameters import OWNER_KEYS, with_request_keys

KNOWN: dict[str, Any] = {
    "model": None, "prompt": None, "negative_prompt": None, "image": None, "last_image": None,
    "frames": None, "height": None, "width": None, "steps": None, "guidance": None,
    "flow_shift": None, "solver": None, "fps": None, "seed": None, "card": None, "vram_gib": None,
    "platform": None, "settings": None, "task": None,
}  # fmt: skip
QUESTIONS: dict[str, Any] = {"most": None, "smallest": None, "explain": False, "frontier": False}
"""Parameters with their defaults, in the order in which clients may give them since 0.1.0."""
ONLY_ON_THE_COMMAND_LINE = {"input", "data"}
"""Keys that may be paths."""
ENDPOINTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plan": (Endpoints.plan, KNOWN | QUESTIONS),
    "estimate": (Endpoints.estimate, KNOWN),
}


def parameters(endpoint: str) -> dict[str, inspect.Parameter]:
    method, _ = ENDPOINTS[endpoint]
    return dict(inspect.signature(with_request_keys(method)).parameters)


@pytest.mark.parametrize("kind", [Request, *REQUESTS], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_key_of_a_request_is_taken_or_the_owners(endpoint: str, kind: Any) -> None:
    taken, keys = set(parameters(endpoint)), set(kind.__dataclass_fields__)
    assert keys <= taken | ONLY_ON_THE_COMMAND_LINE
    assert not taken & ONLY_ON_THE_COMMAND_LINE


def test_the_owners_keys_are_those_of_requests() -> None:
    assert set(OWNER_KEYS) == ONLY_ON_THE_COMMAND_LINE <= set(KEYS)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_what_clients_know_keeps_its_place_and_default(endpoint: str) -> None:
    _, known = ENDPOINTS[endpoint]
    found = parameters(endpoint)
    first = list(found.values())[: len(known)]
    assert [(item.name, item.default) for item in first] == list(known.items())
    others = [item for item in found.values() if item.name not in known]
    assert all(item.default is None for item in others)
    events = [item.name for item in found.values() if item.annotation is gr.Request]
    assert events == (["request"] if endpoint == "plan" else [])


def test_types_are_those_of_the_request() -> None:
    types = {name: item.annotation for name, item in parameters("plan").items()}
    assert types["frames"] == int | None and types["guidance"] == float | None
    assert types["pages"] == int | str | None and types["max_pixels"] == int | str | None
    assert types["image"] == types["settings"] == dict[str, Any] | None


def test_keys_come_by_position_or_by_name() -> None:
    def told(*, most: str | None = None, **keys: Any) -> dict[str, Any]:
        return {"most": most, **keys}

    endpoint = with_request_keys(told)
    assert endpoint("demo", "a circle", lora_rank=8) == {
        "most": None, "model": "demo", "prompt": "a circle", "lora_rank": 8,
    }  # fmt: skip
    assert endpoint(*KNOWN, "frames")["most"] == "frames"
    with pytest.raises(TypeError):
        endpoint(input="/etc/passwd")
