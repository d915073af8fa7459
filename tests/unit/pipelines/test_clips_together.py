"""Several clips of one run: each is what a run of its own gives with its seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.pipelines.svd_card import tiny_svd
from tests.unit.pipelines.test_wan_kinds import Report, request_of, settings_of
from tests.unit.pipelines.wan_cards import tiny_wan
from webui.core.clip import ClipRequest
from webui.core.parse import parse_request
from webui.core.settings import with_defaults
from webui.pipelines import svd, wan

SEED, CLIPS = 5, 3


def frames_alone(family: Any, pipe: Any, request: ClipRequest, settings: Any) -> list[np.ndarray]:
    """The clips of runs with one seed each."""
    found = []
    for seed in range(SEED, SEED + CLIPS):
        one = request.with_changes(seed=seed, batch=1)
        found += family.run(pipe, one, settings, Report(pipe.placement))
    return found


def check_same(family: Any, pipe: Any, request: ClipRequest, settings: Any) -> None:
    together = family.run(pipe, request, settings, Report(pipe.placement))
    alone = frames_alone(family, pipe, request, settings)
    assert len(together) == CLIPS
    for found, expected in zip(together, alone, strict=True):
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    assert not np.array_equal(together[0], together[1])


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("text", {}),
        ("text", {"ffn_chunks": 3}),
        ("image", {}),
        ("image", {"ffn_chunks": 3}),
        ("frames", {}),
        ("control", {}),
        ("control", {"ffn_chunks": 3}),
        ("expanded", {"ffn_chunks": 3}),
        ("pair", {"step_cache": "taylorseer"}),
    ],
)
def test_wan(kind: str, changes: dict[str, Any], pictures: dict[str, str]) -> None:
    card = tiny_wan(kind)
    settings = settings_of(card, **changes)
    pipe = wan.build_random(card, settings, "cpu")
    check_same(wan, pipe, request_of(card, pictures, seed=SEED, batch=CLIPS), settings)


def test_an_expanded_model_without_a_picture(pictures: dict[str, str]) -> None:
    card = tiny_wan("expanded")
    settings = settings_of(card)
    pipe = wan.build_random(card, settings, "cpu")
    asked = request_of(card, pictures, seed=SEED, batch=CLIPS).with_changes(image="")
    check_same(wan, pipe, asked, settings)


@pytest.mark.parametrize(
    ("guidance", "changes"),
    [(3.0, {}), (3.0, {"split_guidance": True}), (1.0, {"ffn_chunks": 3})],
)
def test_svd(guidance: float, changes: dict[str, Any], pictures: dict[str, str]) -> None:
    card = tiny_svd()
    own = {"precision": "fp32", "vae_precision": "fp32", "decode_chunk": 2, **changes}
    settings = with_defaults(own, card.settings)
    torch.manual_seed(0)
    pipe = svd.build_random(card, settings, "cpu")
    for parameter in pipe.unet.parameters():  # else the noise alone decides
        parameter.data += 0.05 * torch.randn_like(parameter)
    keys = {"frames": 3, "height": 64, "width": 64, "steps": 2, "guidance": guidance}
    keys |= {"seed": SEED, "batch": CLIPS, "image": pictures["image"]}
    request = parse_request(keys, lambda *_: card)
    assert isinstance(request, ClipRequest)
    check_same(svd, pipe, request, settings)
