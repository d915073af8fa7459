"""Weights in GGUF blocks on small real classes, on a processor: files, values, places, refusals."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from diffusers.hooks import apply_group_offloading
from diffusers.quantizers.gguf.utils import (
    GGUFLinear,
    _dequantize_gguf_and_restore_linear,
    dequantize_gguf_tensor,
)
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

from tests.unit.pipelines.wan_cards import tiny_wan
from webui.core.clip import ClipCard
from webui.core.errors import BadInput, MissingDependency, MissingWeights
from webui.core.gguf import GGUF_MIXES
from webui.core.settings import Settings, with_defaults
from webui.pipelines import wan
from webui.pipelines.modules import owned_tensors
from webui.pipelines.wan.gguf_files import find_gguf, read_gguf
from webui.pipelines.wan.pieces import set_pieces
from webui.tracing.recording import weight_sizes

CPU = torch.device("cpu")
BITS = {"q8_0": 8.5, "q6_k": 6.5625, "q5_k_m": 5.5, "q5_k_s": 5.5, "q4_k_m": 4.5}
"""Of a value in most layers (ggml-common.h: bytes of a block over its values)."""


def wide_card(kind: str = "text") -> ClipCard:
    """A small transformer whose layers are as wide as whole blocks of 256 values."""
    card = tiny_wan(kind)
    wider = {"attention_head_dim": 128, "ffn_dim": 512}
    configs = dict(card.configs)
    for part in ("transformer", "transformer_2"):
        if part in configs:
            configs[part] = {**configs[part], **wider}
    return replace(card, configs=configs)


def settings_of(card: ClipCard, gguf_type: str = "q8_0", **changes: Any) -> Settings:
    asked = {"text_encoder": "absent", "quantization": "gguf", "gguf_type": gguf_type}
    return with_defaults(asked | changes, card.settings)


def inputs_of(card: ClipCard, shape: tuple[int, int, int] = (3, 4, 4)) -> dict[str, Any]:
    torch.manual_seed(1)
    config = card.configs["transformer"]
    text = torch.randn(1, 8, config["text_dim"], dtype=torch.bfloat16)
    latent = torch.randn(1, config["in_channels"], *shape, dtype=torch.bfloat16)
    return {"hidden_states": latent, "timestep": torch.tensor([500]), "encoder_hidden_states": text}


def answer(transformer: Any, card: ClipCard) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = transformer(**inputs_of(card), return_dict=False)[0]
    return found


def authors_names(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """diffusers' names of a Wan transformer in the authors' layout, as files have them."""
    swaps = [
        ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
        ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
        ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("attn1", "self_attn"),
        ("attn2", "cross_attn"),
        (".to_out.0.", ".o."),
        (".to_q.", ".q."),
        (".to_k.", ".k."),
        (".to_v.", ".v."),
        ("ffn.net.0.proj", "ffn.0"),
        ("ffn.net.2", "ffn.2"),
        ("norm2", "norm3"),
        ("proj_out", "head.head"),
    ]
    named = {}
    for name, value in values.items():
        key = "head.modulation" if name == "scale_shift_table" else name
        key = key.replace("scale_shift_table", "modulation")
        for ours, theirs in swaps:
            key = key.replace(ours, theirs)
        named[key] = value
    return named


def write_file(path: Path, module: Any, card: ClipCard, said: int | None = 7) -> None:
    """A file as the converter writes it: large layers in Q8_0, BF16 and F32 for what is left."""
    writer = GGUFWriter(path, "wan")
    if said is not None:
        writer.add_file_type(said)
    for name, value in authors_names(module.state_dict()).items():
        data = value.float().numpy()
        kind = GGMLQuantizationType.F32
        if name.startswith("blocks.") and value.ndim == 2:
            kind = GGMLQuantizationType.Q8_0
        elif value.dtype is torch.bfloat16 and value.ndim > 1:
            kind = GGMLQuantizationType.BF16
        writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def card() -> ClipCard:
    return wide_card()


@pytest.fixture(scope="module")
def plain(card: ClipCard) -> Any:
    """A transformer in full width, with weights that differ from layer to layer."""
    settings = with_defaults({"text_encoder": "absent"}, card.settings)
    transformer = wan.build_random(card, settings, CPU).transformer
    torch.manual_seed(0)
    for parameter in transformer.parameters():
        parameter.data = parameter.data + torch.randn(parameter.shape).to(parameter.dtype) * 0.02
    return transformer


@pytest.fixture(scope="module")
def folder(card: ClipCard, plain: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wan")
    write_file(place / "wan2.1-t2v-1.3B-Q8_0.gguf", plain, card)
    return place


def test_a_file_gives_the_values_that_its_own_package_restores(card, plain, folder) -> None:
    settings = settings_of(card)
    path = find_gguf(folder, "transformer", card, "q8_0")
    found = read_gguf(path, "transformer", card, settings)
    layers = [layer for layer in found.modules() if isinstance(layer, GGUFLinear)]
    assert len(layers) == 20
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    expected = gguf.quants.dequantize(
        tensors["blocks.1.ffn.2.weight"].data, GGMLQuantizationType.Q8_0
    )
    layer = found.blocks[1].ffn.net[2]
    with torch.no_grad():
        restored = layer(torch.eye(layer.in_features, dtype=torch.bfloat16)) - layer.bias
    np.testing.assert_allclose(restored.T.float().numpy(), expected, atol=2e-3)
    for name, value in plain.state_dict().items():
        if name not in {f"{p}.weight" for p, m in found.named_modules() if m in layers}:
            assert torch.equal(found.state_dict()[name], value), name
    assert found.condition_embedder.time_embedder.linear_1.weight.dtype is torch.float32


def test_the_answer_is_that_of_the_restored_weights(card, plain, folder) -> None:
    found = read_gguf(
        find_gguf(folder, "transformer", card, "q8_0"), "transformer", card, settings_of(card)
    )
    narrow = answer(found, card)
    assert narrow.dtype is torch.bfloat16
    expected = answer(plain, card)
    assert 0 < float((narrow - expected).float().norm() / expected.float().norm()) < 0.03
    set_pieces(found, 3)
    pieced = answer(found, card)
    set_pieces(found, 1)
    assert float((pieced - narrow).float().norm() / narrow.float().norm()) < 0.01
    restored = _dequantize_gguf_and_restore_linear(found)
    assert not any(isinstance(layer, GGUFLinear) for layer in restored.modules())
    assert torch.equal(answer(restored, card), narrow)


@pytest.mark.parametrize(
    ("kind", "gguf_type"),
    [("text", "q5_k_s"), ("image", "q8_0"), ("control", "q6_k"), ("pair", "q5_k_m")],
)
def test_meta_and_random_weights_have_the_same_bytes(kind, gguf_type) -> None:
    card = wide_card(kind)
    settings = settings_of(card, gguf_type)
    real, meta = wan.build_random(card, settings, CPU), wan.build_meta(card, settings)
    for part in ("transformer", "transformer_2"):
        if part in card.configs:
            module = getattr(real, part)
            assert weight_sizes(module).tolist() == weight_sizes(getattr(meta, part)).tolist()
    layer = real.transformer.blocks[0].ffn.net[0].proj
    assert layer.weight.nbytes * 8 == layer.in_features * layer.out_features * BITS[gguf_type]
    assert not isinstance(real.transformer.condition_embedder.text_embedder.linear_1, GGUFLinear)


@pytest.mark.parametrize("gguf_type", list(GGUF_MIXES))
def test_random_blocks_are_small_values(card, gguf_type) -> None:
    transformer = wan.build_random(card, settings_of(card, gguf_type), CPU).transformer
    for layer in (transformer.blocks[0].ffn.net[0].proj, transformer.blocks[0].attn1.to_v):
        values = dequantize_gguf_tensor(layer.weight).float()
        assert 0.015 < float(values.std()) < 0.03 and float(values.abs().max()) < 0.2


@pytest.mark.parametrize(("mode", "pieces"), [("leaf_level", 3), ("block_level", 1)])
def test_blocks_are_streamed_and_moved(card, mode, pieces) -> None:
    """The library's streaming changes nothing, nor does a placement's way of moving weights."""
    transformer = wan.build_random(card, settings_of(card, "q4_k_m"), CPU).transformer
    set_pieces(transformer, pieces)
    before = answer(transformer, card)
    assert bool(torch.isfinite(before).all())
    for tensor in owned_tensors(transformer):
        old = tensor.data
        tensor.data = old.clone()
        old.zero_()
    apply_group_offloading(
        transformer,
        onload_device=CPU,
        offload_device=CPU,
        offload_type=mode,
        num_blocks_per_group=1 if mode == "block_level" else None,
    )
    for _ in range(2):
        assert torch.equal(answer(transformer, card), before)


def test_loading_a_folder_with_a_file(tiny_card, diffusers_folder, tmp_path) -> None:
    """A whole model from a folder in diffusers' layout with the transformer in GGUF only."""
    settings = ("quantization", "gguf_type")
    card = replace(tiny_card, settings=(*tiny_card.settings, *settings))
    weights = {"kind": "diffusers", "folder": str(diffusers_folder)}
    whole = with_defaults({"text_encoder": "gpu"}, card.settings)
    expected = wan.load(card, whole, weights, CPU).transformer
    place = tmp_path / "model"
    place.mkdir()
    for part in diffusers_folder.iterdir():
        if part.name != "transformer":
            (place / part.name).symlink_to(part)
    (place / "transformer").mkdir()
    config = (diffusers_folder / "transformer" / "config.json").read_text()
    (place / "transformer" / "config.json").write_text(config)
    asked = whole | {"quantization": "gguf"}
    here = weights | {"folder": str(place)}
    with pytest.raises(MissingWeights):
        wan.load(card, asked, here, CPU)
    write_file(place / "transformer" / "any-Q8_0.gguf", expected, card)
    found = wan.load(card, asked, here, CPU).transformer
    layers = {p: m for p, m in found.named_modules() if isinstance(m, GGUFLinear)}
    assert layers
    for path, layer in layers.items():
        wide = expected.get_submodule(path)
        values = torch.eye(wide.in_features, dtype=torch.bfloat16)
        with torch.no_grad():
            assert float((layer(values) - wide(values)).abs().max()) < 0.1, path
    with pytest.raises(BadInput) as caught:
        wan.load(card, asked | {"gguf_type": "q4_k_m"}, here, CPU)
    assert caught.value.field == "settings.gguf_type" and "q8_0" in caught.value.message.en


def test_the_files_of_a_pair_are_told_apart(tmp_path, plain, card) -> None:
    pair = wide_card("pair")
    for noise in ("HighNoise", "LowNoise"):
        write_file(tmp_path / f"Wan2.2-T2V-A14B-{noise}-Q4_K_M.gguf", plain, card, said=None)
    high = find_gguf(tmp_path, "transformer", pair, "q4_k_m")
    low = find_gguf(tmp_path, "transformer_2", pair, "q4_k_m")
    assert "HighNoise" in high.name and "LowNoise" in low.name
    said = int(LlamaFileType.MOSTLY_Q5_K_M)
    write_file(tmp_path / "HighNoise-other.gguf", plain, card, said=said)
    assert find_gguf(tmp_path, "transformer", pair, "q5_k_m").name == "HighNoise-other.gguf"


def test_files_that_are_no_such_files(tmp_path, card, plain) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(BadInput):
        find_gguf(tmp_path, "transformer", card, "q8_0")
    deeper = replace(card, configs={**card.configs})
    deeper.configs["transformer"] = {**card.configs["transformer"], "num_layers": 3}
    write_file(tmp_path / "model.gguf", plain, card)
    path = find_gguf(tmp_path, "transformer", card, "q8_0")
    with pytest.raises(BadInput) as caught:
        read_gguf(path, "transformer", deeper, settings_of(card))
    assert "blocks.2" in caught.value.message.en


def test_without_the_package_one_sentence(card, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingDependency) as caught:
        wan.build_random(card, settings_of(card), CPU)
    assert caught.value.field == "settings.quantization" and ".[gpu]" in caught.value.hint.en
