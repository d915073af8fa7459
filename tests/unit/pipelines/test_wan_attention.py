"""The setting `attention`: kernels are tried on the device, and only the transformers get them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from tests.unit.pipelines.test_wan_kinds import latents_of, request_of, settings_of
from tests.unit.pipelines.wan_cards import tiny_wan
from webui.core.clip import ClipCard, ClipRequest
from webui.core.errors import BadInput, MissingDependency
from webui.core.settings import Settings
from webui.pipelines import wan
from webui.pipelines.wan.attention import check_attention

CPU = torch.device("cpu")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The backend `flash` as if its package were there: PyTorch's kernels, counted."""
    shapes: list[torch.Size] = []

    def attend(query: Any, key: Any, value: Any, **_: Any) -> torch.Tensor:
        shapes.append(query.shape)
        return _AttentionBackendRegistry._backends[AttentionBackendName.NATIVE](query, key, value)

    provide(monkeypatch, attend)
    return shapes


def provide(monkeypatch: pytest.MonkeyPatch, kernel: Any) -> None:
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_FLASH_ATTN", True)
    monkeypatch.setitem(_AttentionBackendRegistry._backends, AttentionBackendName.FLASH, kernel)
    names = {"query", "key", "value"}
    monkeypatch.setitem(
        _AttentionBackendRegistry._supported_arg_names, AttentionBackendName.FLASH, names
    )


@pytest.mark.parametrize("name", ["flash", "sage", "xformers"])
def test_what_is_not_installed_is_refused_before_anything_is_read(
    name: str, tiny_card: ClipCard, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for flag in ("FLASH", "SAGE", "XFORMERS"):
        monkeypatch.setattr(attention_dispatch, f"_CAN_USE_{flag}_ATTN", False)
    with pytest.raises(MissingDependency) as caught:
        wan.build_random(tiny_card, {**settings, "attention": name}, "cpu")
    error = caught.value
    assert error.field == "settings.attention" and "sdpa" in error.hint.en and error.hint.zh


def test_a_folder_is_not_read_either(
    tiny_card: ClipCard, settings: Settings, diffusers_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_SAGE_ATTN", False)
    weights = {"kind": "diffusers", "folder": diffusers_folder}
    chosen = {**settings, "attention": "sage"}
    with pytest.raises(MissingDependency):
        wan.load(tiny_card, chosen, weights, "cpu", lambda *_: pytest.fail("weights are read"))


def refuses(query: Any, key: Any, value: Any) -> torch.Tensor:
    raise NotImplementedError("no kernel for this device")


def wrong(query: Any, key: Any, value: Any) -> torch.Tensor:
    return torch.zeros_like(query)


def not_a_number(query: Any, key: Any, value: Any) -> torch.Tensor:
    return torch.full_like(query, float("nan"))


@pytest.mark.parametrize("kernel", [refuses, wrong, not_a_number])
def test_importing_is_not_enough(
    kernel: Any, tiny_card: ClipCard, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide(monkeypatch, kernel)
    with pytest.raises(BadInput, match="flash does not compute float32 on this device") as caught:
        check_attention(tiny_card, {**settings, "attention": "flash"}, CPU)
    assert caught.value.field == "settings.attention" and caught.value.hint.zh


@pytest.mark.parametrize("pieces", [1, 4])
def test_the_transformers_get_it_and_nothing_else(
    pieces: int, installed: list[torch.Size], pictures: dict[str, str]
) -> None:
    card = tiny_wan("pair")
    plain = settings_of(card, ffn_chunks=pieces)
    asked = request_of(card, pictures).with_changes(steps=6)
    expected = latents_of(wan.build_random(card, plain, "cpu"), asked, plain)
    assert not installed
    chosen = plain | {"attention": "flash"}
    pipe = wan.build_random(card, chosen, "cpu")
    installed.clear()
    assert torch.equal(latents_of(pipe, asked, chosen), expected)
    # Two attentions of each block, to the text in as many pieces; no other model asks for it.
    blocks = len(pipe.transformer.blocks)
    assert len(installed) == 6 * 2 * blocks * (1 + pieces)
    assert _AttentionBackendRegistry.get_active_backend()[0] == AttentionBackendName.NATIVE


def test_the_next_pipeline_has_its_own(
    installed: list[torch.Size], tiny_card: ClipCard, settings: Settings, request_: ClipRequest
) -> None:
    wan.build_random(tiny_card, {**settings, "attention": "flash"}, "cpu")
    installed.clear()
    latents_of(wan.build_random(tiny_card, settings, "cpu"), request_, settings)
    assert not installed
