"""A tiny Wan checkpoint, made with the real classes, in both layouts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_wan_transformer_to_diffusers,
    convert_wan_vae_to_diffusers,
)
from PIL import Image
from safetensors.torch import save_file

import webui.demo
from webui.catalogue import models_of
from webui.core.clip import ClipCard, ClipRequest
from webui.core.parse import parse_request
from webui.core.settings import Settings, with_defaults
from webui.pipelines import wan
from webui.pipelines.wan import original, placement
from webui.pipelines.wan.components import components_of, new_module

DEMO = Path(webui.demo.__file__).parent / "checkpoint"


@pytest.fixture(scope="session")
def tiny_card() -> ClipCard:
    demo = models_of(ClipCard)["demo"]
    changes: dict[str, dict[str, Any]] = {
        "transformer": {
            "num_layers": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "ffn_dim": 64,
            "text_dim": 32,
            "cross_attn_norm": True,
        },
        # The converter of the original layout knows two residual blocks a level.
        "vae": {"base_dim": 4, "num_res_blocks": 2},
        "text_encoder": {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_heads": 2, "num_layers": 2},
        "scheduler": {},
    }
    configs = {name: {**demo.configs[name], **change} for name, change in changes.items()}
    return replace(demo, configs=configs, max_sequence_length=16)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For models so small that handing work to threads takes longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def settings(tiny_card: ClipCard) -> Settings:
    return with_defaults({"precision": "fp32", "text_encoder": "gpu"}, tiny_card.settings)


@pytest.fixture
def request_(tiny_card: ClipCard) -> ClipRequest:
    workload = {
        "prompt": "a red circle moves to the right",
        "frames": 5,
        "height": 64,
        "width": 64,
        "steps": 2,
        "seed": 7,
    }
    request = parse_request(workload, lambda *_: tiny_card)
    assert isinstance(request, ClipRequest)
    return request


@pytest.fixture
def as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Components live where they would on a GPU; the device stays the processor."""
    residency = wan.residency
    monkeypatch.setattr(
        placement, "residency", lambda card, chosen, _: residency(card, chosen, "cuda")
    )


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of the pictures that requests name, by key."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = {}
    for seed, key in enumerate(("image", "last_image")):
        pixels = np.random.default_rng(seed).integers(0, 255, (64, 96, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{key}.png")
        paths[key] = str(folder / f"{key}.png")
    return paths


@pytest.fixture(scope="session")
def modules(tiny_card: ClipCard) -> dict[str, torch.nn.Module]:
    """The components, with weights large enough that every one matters."""
    torch.manual_seed(0)
    made = {name: new_module(name, tiny_card).eval() for name in components_of(tiny_card)}
    for module in made.values():
        for parameter in module.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return made


@pytest.fixture(scope="session")
def diffusers_folder(
    tmp_path_factory: pytest.TempPathFactory, modules: dict[str, torch.nn.Module]
) -> Path:
    folder = tmp_path_factory.mktemp("diffusers")
    for name, module in modules.items():
        module.save_pretrained(str(folder / name))
    shutil.copytree(DEMO / "tokenizer", folder / "tokenizer")
    shutil.copy(DEMO / "model_index.json", folder)
    return folder


@pytest.fixture(scope="session")
def original_folder(
    tmp_path_factory: pytest.TempPathFactory, modules: dict[str, torch.nn.Module]
) -> Path:
    """The same weights under the authors' names, by turning the converters around."""
    folder = tmp_path_factory.mktemp("original")
    transformer = _renamed(
        modules["transformer"], _transformer_names(), convert_wan_transformer_to_diffusers
    )
    half = len(transformer) // 2
    keys = sorted(transformer)
    for index, part in enumerate((keys[:half], keys[half:]), 1):
        values = {key: transformer[key].contiguous() for key in part}
        save_file(values, folder / f"diffusion_pytorch_model-{index:05d}-of-00002.safetensors")
    vae = _renamed(modules["vae"], _vae_names(), convert_wan_vae_to_diffusers)
    torch.save(vae, folder / original.VAE_FILE)
    encoder = _renamed(
        modules["text_encoder"], _text_encoder_names(), original.convert_text_encoder
    )
    torch.save(encoder, folder / original.TEXT_ENCODER_FILE)
    shutil.copytree(DEMO / "tokenizer", folder / original.TOKENIZER_FOLDER)
    return folder


def _renamed(module: torch.nn.Module, names: list[str], convert: Any) -> dict[str, torch.Tensor]:
    """The state dict under the names that the converter turns into the module's own."""
    origin = {new: old for new, old in convert({name: name for name in names}).items()}
    state = module.state_dict()
    renamed = {}
    for key, value in state.items():
        renamed[origin[key]] = value.clone()
    return renamed


def _transformer_names() -> list[str]:
    parts = ["patch_embedding", "time_embedding.0", "time_embedding.2", "text_embedding.0"]
    parts += ["text_embedding.2", "time_projection.1", "head.head"]
    names = ["head.modulation"]
    for block in range(2):
        names.append(f"blocks.{block}.modulation")
        inner = ["norm3", "ffn.0", "ffn.2"]
        for attention in ("self_attn", "cross_attn"):
            inner += [f"{attention}.{part}" for part in ("q", "k", "v", "o", "norm_q", "norm_k")]
        parts += [f"blocks.{block}.{part}" for part in inner]
    return names + [f"{part}.{kind}" for part in parts for kind in ("weight", "bias")]


def _vae_names() -> list[str]:
    parts = ["conv1", "conv2"]
    for side, levels in (("encoder", "downsamples"), ("decoder", "upsamples")):
        parts += [f"{side}.conv1", f"{side}.head.0", f"{side}.head.2"]
        blocks = [f"{side}.middle.0", f"{side}.middle.2"]
        blocks += [f"{side}.{levels}.{index}" for index in range(16)]
        for block in blocks:
            parts += [f"{block}.residual.{index}" for index in (0, 2, 3, 6)]
            parts += [f"{block}.shortcut", f"{block}.resample.1", f"{block}.time_conv"]
        parts += [f"{side}.middle.1.{part}" for part in ("norm", "to_qkv", "proj")]
    return [f"{part}.{kind}" for part in parts for kind in ("weight", "bias", "gamma")]


def _text_encoder_names() -> list[str]:
    inner = ["norm1", "norm2", "pos_embedding.embedding", "ffn.gate.0", "ffn.fc1", "ffn.fc2"]
    inner += [f"attn.{part}" for part in "qkvo"]
    blocks = [f"blocks.{block}.{part}.weight" for block in range(2) for part in inner]
    return ["token_embedding.weight", "norm.weight", *blocks]
