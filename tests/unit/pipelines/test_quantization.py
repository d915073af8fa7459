"""Quantised weights on small real classes, on a processor: bits, values, places, refusals."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import bitsandbytes
import diffusers
import pytest
import torch
import transformers
from diffusers.quantizers.bitsandbytes import BnB4BitDiffusersQuantizer

from tests.unit.pipelines.text_cards import tiny_language, tiny_qwen25
from tests.unit.pipelines.wan_cards import tiny_wan
from webui.core.clip import ClipCard
from webui.core.errors import MissingDependency
from webui.core.parse import parse_request
from webui.core.settings import Settings, with_defaults
from webui.pipelines import language, text_model, wan
from webui.pipelines.modules import owned_tensors
from webui.pipelines.pretrained import model_class, new_model
from webui.pipelines.quantization import check_quantization, quantize
from webui.tracing.recording import weight_sizes

CPU = torch.device("cpu")
NEAR = {"int8": 0.03, "nf4": 0.2}
"""Distance of an answer from the unquantised one, as a share of its length; seen on these models:
0.002 to 0.013 and 0.03 to 0.12."""
NEAR_FILES = {"int8": 0.05, "nf4": 0.3}
"""The same for single layers of a folder whose weights are made to be far from each other."""
BITS = {"int8": 8, "nf4": 4}


@pytest.fixture(params=("int8", "nf4"))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def packed_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some processors (AVX512 with bf16) pack 4-bit weights anew when they are first used."""
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)


def wan_card(kind: str = "text") -> ClipCard:
    """A small transformer whose layers are as wide as whole blocks of 4-bit values."""
    card = tiny_wan(kind)
    wider = {"attention_head_dim": 32, "ffn_dim": 128, "text_dim": 64}
    configs = dict(card.configs)
    for part in ("transformer", "transformer_2"):
        if part in configs:
            configs[part] = {**configs[part], **wider}
    configs["text_encoder"] = {**configs["text_encoder"], "d_model": 64}
    return replace(card, configs=configs)


def settings_of(card, **changes) -> Settings:
    return with_defaults(changes, card.settings)


def linear_layers(module):
    return {p: layer for p, layer in module.named_modules() if isinstance(layer, torch.nn.Linear)}


def narrow_layers(module):
    kinds = (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt)
    return {p: layer for p, layer in linear_layers(module).items() if isinstance(layer, kinds)}


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def inputs_of(card: ClipCard, shape=(3, 4, 4)):
    torch.manual_seed(1)
    config = card.configs["transformer"]
    text = torch.randn(1, 512, config["text_dim"], dtype=torch.bfloat16)
    latent = torch.randn(1, config["in_channels"], *shape, dtype=torch.bfloat16)
    return {"hidden_states": latent, "timestep": torch.tensor([500]), "encoder_hidden_states": text}


def test_a_transformer_is_stored_in_so_many_bits_and_answers_nearly_the_same(name) -> None:
    card = wan_card()
    plain = wan.build_random(card, settings_of(card, text_encoder="absent"), CPU).transformer
    settings = settings_of(card, text_encoder="absent", quantization=name)
    narrow = wan.build_random(card, settings, CPU).transformer
    for path, layer in narrow_layers(narrow).items():
        wide = plain.get_submodule(path).weight
        assert layer.weight.nbytes * 8 == wide.numel() * BITS[name], path
    left = set(linear_layers(narrow)) - set(narrow_layers(narrow))
    assert {path.split(".")[1] for path in left} == {"time_embedder"}
    with torch.no_grad():
        expected = plain(**inputs_of(card), return_dict=False)[0]
        found = narrow(**inputs_of(card), return_dict=False)[0]
    assert found.dtype is torch.bfloat16
    assert 0 < distance(found, expected) < NEAR[name]


def test_the_layers_are_those_that_diffusers_would_replace() -> None:
    card = wan_card()
    options = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    theirs = wan.build_meta(card, settings_of(card, text_encoder="absent")).transformer
    quantizer = BnB4BitDiffusersQuantizer(diffusers.BitsAndBytesConfig(**options))
    kept = list(theirs._keep_in_fp32_modules)
    quantizer._process_model_before_weight_loading(theirs, None, keep_in_fp32_modules=kept)
    settings = settings_of(card, text_encoder="absent", quantization="nf4")
    ours = wan.build_meta(card, settings).transformer
    assert set(narrow_layers(ours)) == set(narrow_layers(theirs))


@pytest.mark.parametrize("kind", ["text", "image", "control", "pair"])
def test_meta_and_real_weights_have_the_same_bytes(kind, name) -> None:
    card = wan_card(kind)
    settings = settings_of(card, text_encoder="absent", quantization=name)
    real, meta = wan.build_random(card, settings, CPU), wan.build_meta(card, settings)
    for part in ("transformer", "transformer_2"):
        if part in card.configs:
            module = getattr(real, part)
            assert narrow_layers(module)
            assert weight_sizes(module).tolist() == weight_sizes(getattr(meta, part)).tolist()


def test_work_in_pieces_gives_the_same(name) -> None:
    card = wan_card()
    settings = settings_of(card, text_encoder="absent", quantization=name)
    transformer = wan.build_random(card, settings, CPU).transformer
    with torch.no_grad():
        whole = transformer(**inputs_of(card), return_dict=False)[0]
        for block in transformer.blocks:
            block.pieces = 4
        in_pieces = transformer(**inputs_of(card), return_dict=False)[0]
    assert distance(in_pieces, whole) < 0.01


def test_a_quantised_component_moves_whole(name) -> None:
    """What is computed with is what a placement moves: nothing of the old storages is read."""
    card = wan_card()
    settings = settings_of(card, text_encoder="absent", quantization=name)
    transformer = wan.build_random(card, settings, CPU).transformer
    with torch.no_grad():
        before = transformer(**inputs_of(card), return_dict=False)[0]
        for _ in range(2):
            for tensor in owned_tensors(transformer):
                old = tensor.data
                tensor.data = old.clone()
                old.zero_()
            after = transformer(**inputs_of(card), return_dict=False)[0]
            assert torch.equal(before, after)


@pytest.mark.parametrize("layout", ["diffusers", "original"])
def test_folders_of_both_layouts(layout, name, tiny_card, request) -> None:
    folder: Path = request.getfixturevalue(f"{layout}_folder")
    card = replace(tiny_card, settings=(*tiny_card.settings, "quantization"))
    weights = {"kind": layout, "folder": str(folder)}
    plain = settings_of(card, text_encoder="gpu")
    expected = wan.load(card, plain, weights, CPU).transformer
    found = wan.load(card, plain | {"quantization": name}, weights, CPU).transformer
    for path, layer in narrow_layers(found).items():
        wide = expected.get_submodule(path)
        values = torch.eye(wide.in_features, dtype=torch.bfloat16)
        with torch.no_grad():
            assert distance(layer(values), wide(values)) < NEAR_FILES[name], path


@pytest.mark.parametrize("model", ["qwen3-4b", "glm-edge-1.5b"])
def test_a_language_model_is_what_the_library_makes_of_its_files(model, name, tmp_path) -> None:
    card = tiny_language(model)
    torch.manual_seed(0)
    new_model(card.configs["model"]).to(torch.bfloat16).save_pretrained(str(tmp_path))
    options = {
        "int8": {"load_in_8bit": True},
        "nf4": {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": torch.bfloat16,
        },
    }
    kind = model_class(card.configs["model"])
    files = {"dtype": torch.bfloat16, "local_files_only": True}
    config = transformers.BitsAndBytesConfig(**options[name])
    theirs = kind.from_pretrained(str(tmp_path), quantization_config=config, **files).eval()
    ours = kind.from_pretrained(str(tmp_path), **files).eval()
    quantize(ours, settings_of(card, quantization=name), CPU)
    assert set(narrow_layers(ours)) == set(narrow_layers(theirs))
    assert "lm_head" not in narrow_layers(ours)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)


def test_a_quantised_language_model_writes(name) -> None:
    card = tiny_language("qwen3-4b")
    settings = settings_of(card, quantization=name)
    pipe = language.build_random(card, settings, CPU)
    asked = {"model": card.name, "prompt_tokens": 20, "new_tokens": 6, "batch": 2}
    request = parse_request({"task": card.task, **asked}, lambda *_: card)
    assert len(language.run(pipe, request, settings, _Silent())) == 2


def test_documents_have_the_same_bytes_on_meta(name) -> None:
    card = tiny_qwen25()
    settings = settings_of(card, quantization=name)
    real = text_model.build_random(card, settings, CPU).model
    meta = text_model.build_meta(card, settings).model
    layers = narrow_layers(real)
    assert any("visual" in path for path in layers)
    assert not any("lm_head" in path for path in layers)
    assert weight_sizes(real).tolist() == weight_sizes(meta).tolist()


def test_without_bitsandbytes_one_sentence(name, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingDependency) as caught:
        check_quantization(name, CPU)
    assert caught.value.field == "settings.quantization"
    assert ".[gpu]" in caught.value.hint.en


def test_a_library_that_does_not_compute_here_is_found_out(name, monkeypatch) -> None:
    def broken(*_args, **_kwargs):
        raise RuntimeError("no kernel image is available for execution on the device")

    kind = {"int8": "Linear8bitLt", "nf4": "Linear4bit"}[name]
    monkeypatch.setattr(getattr(bitsandbytes.nn, kind), "forward", broken)
    with pytest.raises(MissingDependency):
        check_quantization(name, CPU)


class _Silent:
    """A report that nobody reads."""

    def begin(self, phase: str, continues: bool = False) -> None: ...

    def warmed_up(self) -> None: ...

    def check(self) -> None: ...

    def step(self, done: int, total: int) -> None: ...

    def latent_step(self, done: int, total: int, latents: torch.Tensor) -> None: ...
