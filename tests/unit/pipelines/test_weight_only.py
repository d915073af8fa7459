"""Weights in 8 bits by torchao on small real classes, on a processor: bits, values, places."""

from __future__ import annotations

import sys

import diffusers
import pytest
import torch
import torchao.quantization
from diffusers.quantizers.torchao import TorchAoHfQuantizer

from tests.unit.pipelines.test_quantization import (
    CPU,
    distance,
    inputs_of,
    linear_layers,
    settings_of,
    wan_card,
)
from webui.core.errors import MissingDependency
from webui.pipelines import wan
from webui.pipelines.modules import owned_tensors
from webui.pipelines.quantization import check_quantization
from webui.pipelines.wan.pieces import set_pieces
from webui.pipelines.weight_only import CONFIGS
from webui.tracing.recording import weight_sizes

NEAR = {"int8wo": 0.02, "fp8wo": 0.06}
"""Distance of an answer from the one in full width, as a share of its length: 0.005 and 0.024 were
seen."""


@pytest.fixture(params=list(CONFIGS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def answer(transformer, card) -> torch.Tensor:
    with torch.no_grad():
        return transformer(**inputs_of(card), return_dict=False)[0]


def is_narrow(layer) -> bool:
    return hasattr(layer.weight, "qdata")


def test_weights_take_a_byte_a_value_and_answer_nearly_the_same(name) -> None:
    card = wan_card()
    plain = wan.build_random(card, settings_of(card, text_encoder="absent"), CPU).transformer
    settings = settings_of(card, text_encoder="absent", quantization=name)
    narrow = wan.build_random(card, settings, CPU).transformer
    layers = {p: layer for p, layer in linear_layers(narrow).items() if is_narrow(layer)}
    for path, layer in layers.items():
        assert layer.weight.qdata.nbytes == plain.get_submodule(path).weight.numel(), path
    left = set(linear_layers(narrow)) - set(layers)
    assert {path.split(".")[1] for path in left} == {"time_embedder"}
    expected, found = answer(plain, card), answer(narrow, card)
    assert found.dtype is torch.bfloat16
    assert 0 < distance(found, expected) < NEAR[name]
    set_pieces(narrow, 4)
    assert distance(answer(narrow, card), found) < 0.01


def test_the_layers_and_values_are_those_of_diffusers(name) -> None:
    card = wan_card()
    plain = wan.build_random(card, settings_of(card, text_encoder="absent"), CPU).transformer
    config = diffusers.TorchAoConfig(getattr(torchao.quantization, CONFIGS[name])())
    quantizer = TorchAoHfQuantizer(config, pre_quantized=False)
    kept = list(plain._keep_in_fp32_modules)
    quantizer._process_model_before_weight_loading(plain, None, keep_in_fp32_modules=kept)
    quantizer.offload = False
    settings = settings_of(card, text_encoder="absent", quantization=name)
    ours = wan.build_random(card, settings, CPU).transformer
    for path, value in list(plain.named_parameters()):
        layer = ours.get_submodule(path.rpartition(".")[0])
        theirs = quantizer.check_if_quantized_param(plain, value, path, {})
        assert theirs == (path.endswith("weight") and is_narrow(layer)), path
        if theirs:
            quantizer.create_quantized_param(plain, value, path, CPU, {}, [])
            other = plain.get_submodule(path.rpartition(".")[0]).weight
            assert torch.equal(other.qdata.float(), layer.weight.qdata.float())


def test_meta_and_real_weights_have_the_same_bytes(name) -> None:
    card = wan_card("pair")
    settings = settings_of(card, text_encoder="absent", quantization=name)
    real, meta = wan.build_random(card, settings, CPU), wan.build_meta(card, settings)
    for part in ("transformer", "transformer_2"):
        sizes = weight_sizes(getattr(real, part))
        assert sizes.tolist() == weight_sizes(getattr(meta, part)).tolist()


def test_a_component_moves_whole(name) -> None:
    """What is computed with is what a placement moves: nothing of the old storages is read."""
    card = wan_card()
    settings = settings_of(card, text_encoder="absent", quantization=name)
    transformer = wan.build_random(card, settings, CPU).transformer
    before = answer(transformer, card)
    for tensor in owned_tensors(transformer):
        old = tensor.data
        tensor.data = old.clone()
        old.zero_()
    assert torch.equal(answer(transformer, card), before)


def test_without_torchao_one_sentence(name, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(MissingDependency) as caught:
        check_quantization(name, CPU)
    assert caught.value.field == "settings.quantization"
    assert "torchao" in caught.value.message.en and ".[gpu]" in caught.value.hint.en
