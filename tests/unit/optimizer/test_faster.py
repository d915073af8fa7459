"""Where streamed weights make writing slow, quantised ones are offered and never taken."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.optimizer.test_plan import plan
from webui.optimizer.faster import MUCH_FASTER

PAGE: dict[str, Any] = {"task": "parse", "model": "logics-parsing-v1"}


def test_the_offer_is_as_fast_as_it_says_and_fits() -> None:
    slow = plan("rtx-3060-ti", **PAGE)
    assert slow.fits and slow.settings["offload"] == "leaf"
    assert slow.settings["quantization"] == "none"
    (offer,) = slow.alternatives
    fast = plan("rtx-3060-ti", **{**PAGE, **offer.changes})
    assert fast.fits and fast.estimate.seconds * MUCH_FASTER <= slow.estimate.seconds
    assert "4 bits" in offer.text.en and "4 位" in offer.text.zh


@pytest.mark.parametrize(
    ("card", "data"),
    [
        ("rtx-4090", PAGE),  # nothing is streamed
        ("rtx-3060-ti", {**PAGE, "settings": {"quantization": "none"}}),  # it was decided
        ("rtx-3060-ti", {"model": "wan2.1-t2v-14b", "frames": 33}),  # clips hide the transfers
        ("cpu", PAGE),
    ],
    ids=str,
)
def test_nothing_is_offered_where_it_would_not_help(card: str, data: dict[str, Any]) -> None:
    made = plan(card, **data)
    assert made.fits and made.alternatives == ()


def test_eight_bits_are_not_offered_to_a_card_that_has_no_such_products() -> None:
    data = {"task": "generate", "model": "qwen3-4b", "vram_gib": 6}
    (newer,) = plan("rtx-4060", **data).alternatives
    (older,) = plan("gtx-1080-ti", **data).alternatives
    kinds = [offer.changes["settings"]["quantization"] for offer in (newer, older)]
    assert kinds == ["int8", "nf4"]
