"""The setting `step_cache` on the real classes: what it leaves out, and that it leaves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.unit.pipelines.test_wan_kinds import latents_of, request_of, settings_of
from tests.unit.pipelines.wan_cards import tiny_wan
from webui.core.clip import ClipCard, ClipRequest
from webui.core.errors import Cancelled
from webui.core.settings import Settings
from webui.estimator.wan_step_cache import computed_steps, kept_bytes
from webui.pipelines import wan
from webui.pipelines.live_bytes import LiveBytes

LAYERS = 4
STEPS = 8
FIRST: Settings = {"step_cache": "first-block", "step_cache_threshold": 50}
TAYLOR: Settings = {"step_cache": "taylorseer", "step_cache_interval": 3}
NOTHING_LEFT_OUT: list[Settings] = [
    FIRST | {"step_cache_threshold": 0},
    TAYLOR | {"step_cache_interval": 1},
]


@pytest.fixture(scope="module")
def card(tiny_card: ClipCard) -> ClipCard:
    transformer = {**tiny_card.configs["transformer"], "num_layers": LAYERS}
    return replace(tiny_card, configs={**tiny_card.configs, "transformer": transformer})


@pytest.fixture
def asked(request_: ClipRequest) -> ClipRequest:
    return request_.with_changes(steps=STEPS)


def counted(pipe: Any) -> list[int]:
    """How often each block does its work; filled while the pipeline runs."""
    counts = [0] * len(pipe.transformer.blocks)

    def count(index: int) -> Any:
        def call(*_: Any) -> None:
            counts[index] += 1

        return call

    for index, block in enumerate(pipe.transformer.blocks):
        block.attn1.to_k.register_forward_hook(count(index))
    return counts


@pytest.mark.parametrize("cache", NOTHING_LEFT_OUT, ids=["first-block", "taylorseer"])
@pytest.mark.parametrize("changes", [{}, {"precision": "bf16"}, {"ffn_chunks": 4}], ids=str)
def test_where_nothing_is_left_out_the_latents_are_the_same(
    cache: Settings, changes: Settings, card: ClipCard, settings: Settings, asked: ClipRequest
) -> None:
    plain = settings | changes
    pipe = wan.build_random(card, plain, "cpu")
    expected = latents_of(pipe, asked, plain)
    counts = counted(pipe)
    assert torch.equal(latents_of(pipe, asked, plain | cache), expected)
    assert counts == [2 * STEPS] * LAYERS


@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("interval", [2, 3, 5, 20])
def test_taylorseer_computes_as_many_steps_as_the_plan_counts(
    guidance: float, interval: int, card: ClipCard, settings: Settings, asked: ClipRequest
) -> None:
    chosen = settings | TAYLOR | {"step_cache_interval": interval}
    pipe = wan.build_random(card, chosen, "cpu")
    counts = counted(pipe)
    latents_of(pipe, asked.with_changes(guidance=guidance), chosen)
    passes = 2 if guidance > 1 else 1
    assert counts == [passes * computed_steps(chosen, STEPS)] * LAYERS
    assert computed_steps(chosen, STEPS) < STEPS


@pytest.mark.parametrize("pieces", [1, 4])
def test_the_first_block_is_always_computed_and_the_others_are_not(
    pieces: int, card: ClipCard, settings: Settings, asked: ClipRequest
) -> None:
    chosen = settings | FIRST | {"ffn_chunks": pieces}
    pipe = wan.build_random(card, chosen, "cpu")
    counts = counted(pipe)
    latents = latents_of(pipe, asked, chosen)
    assert torch.isfinite(latents).all()
    assert counts[0] == 2 * STEPS
    assert len(set(counts[1:])) == 1 and 2 <= counts[1] < 2 * STEPS


@pytest.mark.parametrize("cache", [FIRST, TAYLOR], ids=["first-block", "taylorseer"])
def test_pieces_change_nothing_of_a_cache(
    cache: Settings, card: ClipCard, settings: Settings, asked: ClipRequest
) -> None:
    """They write over their input, which the first block's cache reads again."""
    whole = settings | cache
    pipe = wan.build_random(card, whole, "cpu")
    expected = latents_of(pipe, asked, whole)
    split = latents_of(pipe, asked, whole | {"ffn_chunks": 3})
    torch.testing.assert_close(split, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cache", [FIRST, TAYLOR], ids=["first-block", "taylorseer"])
@pytest.mark.parametrize("precision", ["fp32", "fp8"])
def test_with_every_way_of_offloading(
    cache: Settings,
    precision: str,
    card: ClipCard,
    settings: Settings,
    asked: ClipRequest,
    as_on_a_card: None,
) -> None:
    chosen = settings | cache | {"precision": precision, "ffn_chunks": 4}
    expected = latents_of(wan.build_random(card, chosen, "cpu"), asked, chosen)
    for offload in ("model", "leaf", "block"):
        moved = chosen | {"offload": offload}
        pipe = wan.build_random(card, moved, "cpu")
        for _ in range(2):
            assert torch.equal(latents_of(pipe, asked, moved), expected), offload
        pipe.placement.leave()


@pytest.mark.parametrize("cache", [FIRST, TAYLOR], ids=["first-block", "taylorseer"])
def test_a_warm_pipeline_forgets_the_cache(
    cache: Settings, card: ClipCard, settings: Settings, asked: ClipRequest
) -> None:
    pipe = wan.build_random(card, settings, "cpu")
    plain = latents_of(pipe, asked, settings)
    cached = latents_of(pipe, asked, settings | cache)
    assert not torch.equal(cached, plain)
    assert torch.equal(latents_of(pipe, asked, settings | cache), cached), "nothing is left of it"
    assert torch.equal(latents_of(pipe, asked, settings), plain)
    assert not any(block.keeps_input for block in pipe.transformer.blocks)


@pytest.mark.parametrize("cache", [FIRST, TAYLOR], ids=["first-block", "taylorseer"])
def test_a_cancelled_run_leaves_no_cache(
    cache: Settings, card: ClipCard, settings: Settings, asked: ClipRequest
) -> None:
    pipe = wan.build_random(card, settings, "cpu")
    plain = latents_of(pipe, asked, settings)
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 9 * LAYERS + 2:  # in the fifth step
            raise Cancelled

    embeddings = wan.encode(pipe, asked, settings)
    with pytest.raises(Cancelled):
        wan.denoise(pipe, embeddings, asked, settings | cache, check_cancel=check)
    assert not pipe.transformer.is_cache_enabled
    assert torch.equal(latents_of(pipe, asked, settings), plain)


@pytest.mark.parametrize("kind", ["image", "control", "expanded", "pair", "image pair"])
def test_every_kind_of_model(kind: str, pictures: dict[str, str]) -> None:
    card = tiny_wan(kind)
    settings = settings_of(card)
    pipe = wan.build_random(card, settings, "cpu")
    asked = request_of(card, pictures).with_changes(steps=STEPS)
    plain = latents_of(pipe, asked, settings)
    known = card.setting_values.get("step_cache", ("none", "first-block", "taylorseer"))
    for cache, exact in zip((FIRST, TAYLOR), NOTHING_LEFT_OUT, strict=True):
        if cache["step_cache"] in known:
            assert torch.equal(latents_of(pipe, asked, settings | exact), plain)
            assert not torch.equal(latents_of(pipe, asked, settings | cache), plain)


def test_the_first_of_two_transformers_gives_back_what_it_keeps(pictures: dict[str, str]) -> None:
    card = tiny_wan("pair")
    settings = settings_of(card) | FIRST
    pipe = wan.build_random(card, settings, "cpu")
    asked = request_of(card, pictures).with_changes(steps=STEPS)
    embeddings = wan.encode(pipe, asked, settings)
    seen = []

    def on_second() -> None:
        enabled = (pipe.transformer, pipe.transformer_2)
        seen.append(tuple(transformer.is_cache_enabled for transformer in enabled))

    wan.denoise(pipe, embeddings, asked, settings, on_second=on_second)
    assert seen == [(False, True)]
    assert not pipe.transformer_2.is_cache_enabled


@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("cache", [FIRST | {"step_cache_threshold": 0}, TAYLOR], ids=str)
def test_live_bytes_are_what_the_estimate_adds(
    guidance: float, cache: Settings, card: ClipCard, settings: Settings, asked: ClipRequest
) -> None:
    pipe = wan.build_random(card, settings, "cpu")
    asked = asked.with_changes(guidance=guidance)
    embeddings = wan.encode(pipe, asked, settings)

    def peak(chosen: Settings) -> int:
        with LiveBytes() as live:
            wan.denoise(pipe, embeddings, asked, chosen)
        return live.peak_bytes

    latents = 2 * (asked.height // 8) * (asked.width // 8)
    kept = kept_bytes(card, settings | cache, latents, 4, passes=2 if guidance > 1 else 1)
    assert peak(settings | cache) - peak(settings) == pytest.approx(sum(kept), rel=0.01)
