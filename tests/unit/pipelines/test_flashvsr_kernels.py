"""Attention over chosen windows: the exact way, the compiled one, and what meta allocates."""

from __future__ import annotations

import itertools

import pytest
import torch

from webui.pipelines.flashvsr import kernels
from webui.pipelines.live_bytes import LiveBytes

pytestmark = pytest.mark.usefixtures("one_thread")
HEADS, CHANNELS = 2, 16


def case(
    batch: int, queries: int, keys: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(queries)
    query, key, value = (
        torch.randn((batch, windows * 128, HEADS, CHANNELS), generator=generator)
        for windows in (queries, keys, keys)
    )
    kept = torch.rand((batch, HEADS, queries, keys), generator=generator) > 0.6
    kept[:, 0, 1] = False
    return query, key, value, kept


def plainly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kept: torch.Tensor
) -> torch.Tensor:
    """By the definition."""
    allowed = kept.repeat_interleave(128, 2).repeat_interleave(128, 3)
    scores = torch.einsum("bnhe,bkhe->bhnk", query, key) * query.shape[-1] ** -0.5
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1).nan_to_num(0)
    return torch.einsum("bhnk,bkhe->bnhe", weights, value)


def test_exact_way_is_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value, kept = case(2, 3, 4)
    expected = plainly(query, key, value, kept)
    assert torch.allclose(kernels.attend(query, key, value, kept), expected, atol=1e-5)
    # Head by head, where no more fits.
    monkeypatch.setattr(kernels, "_MOST_SCORES_BYTES", 1)
    found = kernels.attend(query, key, value, kept)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not found[:, 128:256, 0].any()


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_attention_looks_windows_up() -> None:
    """Not compiled here: that way it goes by the lookup alone. The lists are what the compiled
    kernel goes by; a worker compares it with the exact way before it uses it."""
    query, key, value, kept = case(2, 3, 4)
    counts, order = kernels._window_lists(kept)
    listed = torch.zeros_like(kept)
    for place in itertools.product(*map(range, counts.shape)):
        listed[place][order[place][: int(counts[place])].long()] = True
    assert torch.equal(listed, kept)
    no_counts, no_order = kernels._no_lists(counts, order)
    query_, key_, value_ = (tokens.transpose(1, 2) for tokens in (query, key, value))
    found = kernels._flex(query_, key_, value_, kept, counts, order, no_counts, no_order)
    expected = plainly(query, key, value, kept)
    seen = kept.any(-1).repeat_interleave(128, 2).transpose(1, 2)[..., None]
    assert torch.allclose(found.transpose(1, 2) * seen, expected, atol=1e-5)


def test_meta_allocates_no_scores() -> None:
    query, key, value, kept = (tensor.to("meta") for tensor in case(1, 8, 32))
    with LiveBytes(("meta",)) as live:
        found = kernels.attend(query, key, value, kept)
    assert found.shape == query.shape
    scores_bytes = 4 * HEADS * (8 * 128) * (32 * 128)
    rows_bytes = 2 * 4 * HEADS * 8 * 128
    assert found.nbytes + rows_bytes < live.peak_bytes < scores_bytes / 8
