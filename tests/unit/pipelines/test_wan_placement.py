"""The card's placement, rehearsed with the processor as the card: every mode, same result."""

from __future__ import annotations

import pytest
import torch

from webui.core.clip import ClipCard, ClipRequest
from webui.core.errors import Cancelled
from webui.core.settings import Settings
from webui.pipelines import wan
from webui.pipelines.wan import placement as module


def run(pipe: object, request: ClipRequest, settings: Settings) -> torch.Tensor:
    pipe.placement.enter_phase("encode")
    embeddings = wan.encode(pipe, request, settings)
    pipe.placement.enter_phase("denoise")
    return wan.denoise(pipe, embeddings, request)


@pytest.mark.parametrize(
    ("offload", "encoder"), [("model", "gpu"), ("leaf", "stream"), ("block", "cpu")]
)
def test_modes_of_a_card(
    offload: str,
    encoder: str,
    tiny_card: ClipCard,
    settings: Settings,
    request_: ClipRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = run(wan.build_random(tiny_card, settings, "cpu"), request_, settings)
    as_on_a_card = wan.residency
    monkeypatch.setattr(
        module, "residency", lambda card, chosen, _: as_on_a_card(card, chosen, "cuda")
    )
    changed = {**settings, "offload": offload, "text_encoder": encoder}
    pipe = wan.build_random(tiny_card, changed, "cpu")
    left: list[str] = []
    pipe.placement.enter_phase("encode", after_leaving=lambda: left.append("empty"))
    assert left == ["empty"]
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Cancelled()

    embeddings = wan.encode(pipe, request_, changed)
    with pytest.raises(Cancelled):
        wan.denoise(pipe, embeddings, request_, check_cancel=check)
    pipe.placement.recover()
    assert torch.equal(run(pipe, request_, changed), expected)
    pipe.placement.leave()
