"""Several clips of one run: each is what a run of its own gives with its seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.unit.pipelines.svd_card import tiny_svd
from tests.unit.pipelines.test_wan_kinds import latents_of, request_of, settings_of
from tests.unit.pipelines.wan_cards import tiny_wan
from webui.core.clip import ClipRequest
from webui.core.parse import parse_request
from webui.core.settings import with_defaults
from webui.pipelines import svd, wan

SEED, CLIPS = 5, 2
SMALL = {"frames": 5, "height": 64, "width": 64, "steps": 2, "seed": SEED, "batch": CLIPS}


def check_same(together: torch.Tensor, alone: list[torch.Tensor], rounding: float = 5e-5) -> None:
    """Within the rounding of products over other numbers of rows."""
    assert together.shape[0] == len(alone) == CLIPS
    for index, expected in enumerate(alone):
        assert torch.allclose(together[index : index + 1], expected, rtol=0, atol=rounding)
    assert (together[0] - together[1]).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("text", {}),
        ("image", {"ffn_chunks": 3}),
        ("frames", {}),
        ("control", {"ffn_chunks": 3}),
        ("expanded", {"ffn_chunks": 3}),
        ("pair", {"step_cache": "taylorseer"}),
    ],
)
@torch.no_grad()
def test_wan(kind: str, changes: dict[str, Any], pictures: dict[str, str]) -> None:
    card = tiny_wan(kind)
    settings = settings_of(card, **changes)
    pipe = wan.build_random(card, settings, "cpu")
    request = request_of(card, pictures, **SMALL)
    alone = [
        latents_of(pipe, request.with_changes(seed=seed, batch=1), settings)
        for seed in range(SEED, SEED + CLIPS)
    ]
    check_same(latents_of(pipe, request, settings), alone)


@pytest.mark.parametrize(
    ("guidance", "changes"),
    [(3.0, {"split_guidance": True}), (3.0, {"ffn_chunks": 3})],
)
@torch.no_grad()
def test_svd(guidance: float, changes: dict[str, Any], pictures: dict[str, str]) -> None:
    card = tiny_svd()
    own = {"precision": "fp32", "vae_precision": "fp32", **changes}
    settings = with_defaults(own, card.settings)
    torch.manual_seed(0)
    pipe = svd.build_random(card, settings, "cpu")
    for parameter in pipe.unet.parameters():  # else the noise alone decides
        parameter.data += 0.05 * torch.randn_like(parameter)
    sides = {"height": 128, "width": 128}
    keys = SMALL | sides | {"frames": 3, "guidance": guidance, "image": pictures["image"]}
    request = parse_request(keys, lambda *_: card)
    assert isinstance(request, ClipRequest)

    def latents(asked: ClipRequest) -> torch.Tensor:
        return svd.denoise(pipe, svd.encode(pipe, asked, settings), asked, settings)

    seeds = range(SEED, SEED + CLIPS)
    alone = [latents(request.with_changes(seed=seed, batch=1)) for seed in seeds]
    # Its noise is 700 times as large as what is left of it.
    check_same(latents(request), alone, rounding=1e-3)
