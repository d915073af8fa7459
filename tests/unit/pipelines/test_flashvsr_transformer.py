"""FlashVSR's transformer, the library's with additions, against the authors' own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

from tests.unit.pipelines.flashvsr_goldens import (
    Tensors,
    difference,
    golden,
    transformer_config,
    weights_of,
)
from webui.pipelines.flashvsr.attention import Rule, kept_pairs
from webui.pipelines.flashvsr.transformer import (
    TextKeys,
    TransformerState,
    make_streaming,
    predict,
)
from webui.pipelines.flashvsr.windows import from_windows, local_mask, to_windows

pytestmark = pytest.mark.usefixtures("one_thread")
CHUNKS = range(3)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def case() -> tuple[dict[str, Any], Tensors]:
    return golden("dit_stream")


@pytest.fixture(scope="module")
def transformer(case: tuple[dict[str, Any], Tensors]) -> Any:
    about, tensors = case
    with torch.device("meta"):
        made = WanTransformer3DModel(**transformer_config(about["config"]))
    make_streaming(made)
    values = convert_wan_transformer_to_diffusers(weights_of(tensors))
    made.load_state_dict(values, assign=True)
    return made.eval()


@pytest.fixture(scope="module")
def rule(case: tuple[dict[str, Any], Tensors]) -> Rule:
    about, _ = case
    rows, columns = (side // 8 for side in about["tokens_hw"])
    return Rule(
        local=local_mask(rows, columns, about["local_range"], "cpu"),
        keep=kept_pairs(rows * columns, about["topk_ratio"]),
        kv_ratio=about["kv_ratio"],
    )


def inputs(tensors: Tensors, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = tensors[f"in.lq_base.chunk{chunk}"].repeat(1, 1, 8)
    return tensors[f"in.latents.chunk{chunk}"], tokens


def test_chunks_and_choices_are_those_of_the_authors(
    case: tuple[dict[str, Any], Tensors], transformer: Any, rule: Rule
) -> None:
    _, tensors = case
    state = TransformerState(2, rule, TextKeys())
    for chunk in CHUNKS:
        state.kept = []
        found = predict(transformer, state, *inputs(tensors, chunk), tensors["in.context"])
        assert difference(found, tensors[f"out.pred.chunk{chunk}"]) < 1e-4
        for layer, kept in enumerate(state.kept):
            assert torch.equal(kept[0], tensors[f"aux.mask.chunk{chunk}.layer{layer}"].bool())
        if chunk == 0:
            assert not state.kept[0].any(-1).all(), "the case with an empty window is gone"


def test_tiles_of_a_batch_choose_for_themselves(
    case: tuple[dict[str, Any], Tensors], transformer: Any, rule: Rule
) -> None:
    _, tensors = case
    text = TextKeys()
    alone, other, both = (TransformerState(2, rule, text) for _ in range(3))
    for chunk in CHUNKS:
        latents, tokens = inputs(tensors, chunk)
        singles = [
            predict(transformer, state, sign * latents, sign * tokens, tensors["in.context"])
            for state, sign in ((alone, 1), (other, -0.5))
        ]
        joined = predict(
            transformer,
            both,
            torch.cat((latents, -0.5 * latents)),
            torch.cat((tokens, -0.5 * tokens)),
            tensors["in.context"],
        )
        assert difference(joined, torch.cat(singles)) < 1e-4
        assert difference(*singles) > 0.1


def test_layers_are_called_in_one_order(
    case: tuple[dict[str, Any], Tensors], transformer: Any, rule: Rule
) -> None:
    """Streaming fetches the next layer ahead, by the order of the first pass."""
    _, tensors = case
    names = {
        module: name for name, module in transformer.named_modules() if not any(module.children())
    }
    called: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda module, _: called.append(names[module]))
        for module in names
    ]
    try:
        state, orders = TransformerState(2, rule, TextKeys()), []
        for chunk in CHUNKS:
            called.clear()
            predict(transformer, state, *inputs(tensors, chunk), tensors["in.context"])
            orders.append(list(called))
    finally:
        for handle in handles:
            handle.remove()
    assert orders[0] == orders[1] == orders[2]
    assert "blocks.1.attn2.to_k" in orders[0]


def test_remembered_slabs_do_not_grow(
    case: tuple[dict[str, Any], Tensors], transformer: Any, rule: Rule
) -> None:
    _, tensors = case
    state = TransformerState(2, rule, TextKeys())
    predict(transformer, state, *inputs(tensors, 0), tensors["in.context"])
    storages = [cache.keys.data_ptr() for cache in state.caches if cache.keys is not None]
    # Far beyond the 1024 places in time of the library's table.
    state.done = 5000
    for _ in range(2):
        found = predict(transformer, state, *inputs(tensors, 1), tensors["in.context"])
    assert torch.isfinite(found).all()
    assert [cache.keys.data_ptr() for cache in state.caches if cache.keys is not None] == storages
    for cache in state.caches:
        assert cache.keys is not None
        assert cache.keys.shape[1] == 3 * len(rule.local) * 128


def test_places_in_time_count_from_the_video_s_start(
    case: tuple[dict[str, Any], Tensors], transformer: Any, rule: Rule
) -> None:
    """Attention is of distances in time: a video that starts later gives the same."""
    _, tensors = case
    found = []
    for start in (0, 2000):
        state = TransformerState(2, replace(rule, dense=True), TextKeys())
        state.done = start
        predict(transformer, state, *inputs(tensors, 0), tensors["in.context"])
        found.append(predict(transformer, state, *inputs(tensors, 1), tensors["in.context"]))
    assert difference(*found) < 1e-3
    # A gap between the chunks is seen.
    state = TransformerState(2, replace(rule, dense=True), TextKeys())
    predict(transformer, state, *inputs(tensors, 0), tensors["in.context"])
    state.done += 50
    gap = predict(transformer, state, *inputs(tensors, 1), tensors["in.context"])
    assert difference(gap, found[0]) > 1e-3


def test_order_of_windows_comes_back() -> None:
    grid = (2, 16, 24)
    tokens = torch.arange(2 * 16 * 24.0)[None, :, None]
    windows = to_windows(tokens, grid)
    assert torch.equal(from_windows(windows, grid), tokens)
    first = windows[0, :128, 0].view(2, 8, 8)
    assert torch.equal(first, tokens.view(2, 16, 24)[:, :8, :8])
    second = windows[0, 128:256, 0].view(2, 8, 8)
    assert torch.equal(second, tokens.view(2, 16, 24)[:, :8, 8:16])


def test_pairs_are_counted_in_the_authors_order() -> None:
    """One more or less in exact arithmetic; 640 x 1408 is such a size."""
    assert kept_pairs(5 * 11, 2.0 * 768 * 1280 / (640 * 1408)) == 6598
    assert kept_pairs(6 * 10, 2.0) == 7199
