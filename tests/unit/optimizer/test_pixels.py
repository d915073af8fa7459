"""`max_pixels: auto`: the most pixels that fit, and no more than the page has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from webui.catalogue import find_model
from webui.core.pages import PageRequest
from webui.core.parse import parse_request
from webui.estimator.target import Target
from webui.hardware import find_card
from webui.optimizer.pixels import STEP, with_pixels
from webui.optimizer.search import can_fit

MODEL = find_model("logics-parsing-v1", "parse")


def ask(**keys: object) -> PageRequest:
    data = {"task": "parse", "model": MODEL.name, "max_pixels": "auto", "new_tokens": 256, **keys}
    request = parse_request(data, find_model)
    assert isinstance(request, PageRequest)
    return request


def target(gib: float) -> Target:
    host, card = find_card("cpu"), find_card("rtx-3090")
    return Target(card=replace(card), limit_bytes=int(gib * 2**30), host=host)


def test_more_would_not_fit() -> None:
    settings = {"offload": "none", "page_batch": 1}
    room = target(17.5)
    request, why = with_pixels(MODEL, ask(height=4000, width=3000, settings=settings), room)
    assert why is not None and isinstance(request.max_pixels, int)
    assert 100_000 < request.max_pixels < 12_000_000
    assert can_fit(MODEL, request, room)
    more = request.with_changes(max_pixels=int(request.max_pixels * STEP**4))
    assert not can_fit(MODEL, more, room)
    assert "the most that fits" in why.en


@pytest.mark.parametrize("gib", [24.0, 8.0])
def test_no_page_is_made_larger(gib: float) -> None:
    request, why = with_pixels(MODEL, ask(height=1200, width=900), target(gib))
    assert request.max_pixels == 1_080_000
    assert why is not None and "all that the page has" in why.en


def test_a_number_stays() -> None:
    request = ask(max_pixels=500_000)
    assert with_pixels(MODEL, request, target(8)) == (request, None)
