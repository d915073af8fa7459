"""Fewer frames than a fixed `decode_chunk`: what is offered or found still is a request."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.optimizer.test_plan import changed, parse, plan, target_of
from webui.catalogue import find_model
from webui.optimizer.inverse import find_most

PICTURE = {"model": "svd-xt", "image": "a", "frames": 25, "height": 576, "width": 1024}


@pytest.mark.parametrize(
    ("card", "data"),
    [
        ("rtx-3060-12gb", {"settings": {"decode_chunk": 20}}),
        ("rtx-4090", {"vram_gib": 4, "settings": {"decode_chunk": 25}}),
        ("rtx-4090", {"vram_gib": 3, "settings": {"decode_chunk": 2}}),
    ],
    ids=str,
)
def test_offers_fit_when_they_are_taken(card: str, data: dict[str, Any]) -> None:
    made = plan(card, **PICTURE, **data)
    assert not made.fits and any("frames" in offer.changes for offer in made.alternatives)
    for offer in made.alternatives:
        assert plan(card, **changed(made.request, offer.changes)).fits, offer.text.en


def test_a_fixed_chunk_follows_the_offered_frames_and_is_said() -> None:
    made = plan("rtx-4090", **PICTURE, vram_gib=5, settings={"decode_chunk": 20})
    offer = next(offer for offer in made.alternatives if "frames" in offer.changes)
    frames = offer.changes["frames"]
    assert frames < 20 and offer.changes["settings"] == {"decode_chunk": frames}
    for words in (offer.text.en, offer.text.zh):
        assert f", decode_chunk: {frames}" in words
    short = plan("rtx-4090", **PICTURE, vram_gib=3, settings={"decode_chunk": 1})
    (offer,) = [offer for offer in short.alternatives if "frames" in offer.changes]
    assert offer.changes.keys() == {"frames"} and "decode_chunk" not in offer.text.en


@pytest.mark.parametrize("vram_gib", [5, 0.25])
def test_the_most_frames_come_with_a_chunk_that_goes_with_them(vram_gib: float) -> None:
    data = {**PICTURE, "vram_gib": vram_gib, "settings": {"decode_chunk": 20}}
    request = parse(**data)
    model, target = find_model(request.model), target_of(request, "rtx-4090")
    answer = find_most(model, request, target, "frames")
    frames = answer.request.frames
    assert answer.found == (vram_gib == 5) and frames < 20
    assert parse(**answer.request.to_json()).settings == {"decode_chunk": frames}
    told = answer.to_json()
    assert told["frames"] == (frames if answer.found else None)
    assert told.get("settings") == ({"decode_chunk": frames} if answer.found else None)
