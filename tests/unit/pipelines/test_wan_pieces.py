"""The settings `ffn_chunks` and `precision: fp8` on the real classes."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock

from webui.core.clip import ClipCard, ClipRequest
from webui.core.settings import Settings
from webui.pipelines import wan
from webui.pipelines.live_bytes import LiveBytes
from webui.pipelines.pieces import spans
from webui.pipelines.wan.pieces import make_splittable


def latents_of(pipe: object, request: ClipRequest, settings: Settings) -> torch.Tensor:
    pipe.placement.enter_phase("encode")
    embeddings = wan.encode(pipe, request, settings)
    pipe.placement.enter_phase("denoise")
    return wan.denoise(pipe, embeddings, request, settings)


def test_spans_cover_every_token_once() -> None:
    for tokens in (1, 7, 16, 33):
        for pieces in (1, 2, 8, 64):
            covered = [index for span in spans(tokens, pieces) for index in range(tokens)[span]]
            assert covered == list(range(tokens))


@pytest.mark.parametrize("pieces", [2, 3, 8, 64])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_pieces_give_the_same_latents(
    pieces: int, precision: str, tiny_card: ClipCard, settings: Settings, request_: ClipRequest
) -> None:
    settings = {**settings, "precision": precision}
    pipe = wan.build_random(tiny_card, settings, "cpu")
    whole = latents_of(pipe, request_, settings)
    split = latents_of(pipe, request_, {**settings, "ffn_chunks": pieces})
    # Matrix products of other heights may add in another order; nothing else can differ.
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    torch.testing.assert_close(split, whole, rtol=tolerance, atol=tolerance)
    assert torch.equal(latents_of(pipe, request_, settings), whole), "it can be switched back"


@pytest.mark.parametrize("temb_shape", [(1, 6, 32), (1, 24, 6, 32)], ids=["one", "each token"])
def test_a_block_in_pieces_is_the_librarys_block(temb_shape: tuple[int, ...]) -> None:
    """Also with a modulation of its own for each token, as Wan2.2 has it."""
    torch.manual_seed(0)
    block = WanTransformerBlock(32, 64, 2, cross_attn_norm=True).eval().requires_grad_(False)
    angles = torch.rand(1, 24, 1, 16)
    given = (torch.randn(1, 5, 32), torch.randn(temb_shape), (angles.cos(), angles.sin()))
    tokens = torch.randn(1, 24, 32)
    expected = block(tokens, *given)
    holder = torch.nn.Module()
    holder.blocks, holder.norm_out = torch.nn.ModuleList([block]), None
    make_splittable(holder)
    block.pieces = 5
    torch.testing.assert_close(block(tokens.clone(), *given), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_pieces_need_less_than_half_the_memory() -> None:
    block = WanTransformerBlock(128, 512, 2, cross_attn_norm=True).bfloat16().eval()
    holder = torch.nn.Module()
    holder.blocks, holder.norm_out = torch.nn.ModuleList([block]), None
    make_splittable(holder)
    angles = torch.rand(1, 600, 1, 64)
    text, table = torch.randn(1, 5, 128).bfloat16(), torch.randn(1, 6, 128)
    peaks = []
    for pieces in (1, 8):
        block.pieces = pieces
        tokens = torch.randn(1, 600, 128).bfloat16()
        with LiveBytes() as live:
            block(tokens, text, table, (angles.cos(), angles.sin()))
        peaks.append(live.peak_bytes)
    assert peaks[1] < peaks[0] / 2


@pytest.mark.parametrize("offload", ["model", "leaf", "block"])
@pytest.mark.parametrize("precision", ["fp32", "fp8"])
def test_pieces_and_fp8_with_every_way_of_offloading(
    offload: str,
    precision: str,
    tiny_card: ClipCard,
    settings: Settings,
    request_: ClipRequest,
    as_on_a_card: None,
) -> None:
    chosen = {**settings, "precision": precision, "ffn_chunks": 4}
    expected = latents_of(wan.build_random(tiny_card, chosen, "cpu"), request_, chosen)
    moved = {**chosen, "offload": offload}
    pipe = wan.build_random(tiny_card, moved, "cpu")
    for _ in range(2):
        assert torch.equal(latents_of(pipe, request_, moved), expected)
    pipe.placement.leave()


def test_fp8_is_how_the_large_layers_are_stored(
    tiny_card: ClipCard, settings: Settings, request_: ClipRequest
) -> None:
    settings = {**settings, "precision": "fp8"}
    pipe = wan.build_random(tiny_card, settings, "cpu")

    def stored() -> dict[str, torch.dtype]:
        return {name: value.dtype for name, value in pipe.transformer.named_parameters()}

    before = stored()
    assert before["blocks.0.ffn.net.2.weight"] == torch.float8_e4m3fn
    assert before["blocks.1.attn1.to_q.weight"] == torch.float8_e4m3fn
    assert before["patch_embedding.weight"] == torch.bfloat16
    assert before["condition_embedder.time_embedder.linear_1.weight"] == torch.float32
    assert pipe.text_encoder.dtype == torch.bfloat16
    latents = latents_of(pipe, request_, settings)
    assert torch.isfinite(latents).all()
    assert stored() == before
    half = {**settings, "precision": "bf16"}
    exact = latents_of(wan.build_random(tiny_card, half, "cpu"), request_, half)
    difference = (latents - exact).abs().mean() / exact.abs().mean()
    assert 0 < difference < 0.1
