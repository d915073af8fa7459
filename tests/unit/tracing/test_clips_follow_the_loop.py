"""Estimates for several clips against fresh traces, with more clips than the templates know of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.unit.tracing import test_svd_templates as of_svd
from tests.unit.tracing.test_templates_follow_the_loop import (
    BARE,
    all_settings,
    composed_peak,
    live_peak,
)
from webui.catalogue import find_model
from webui.estimator.wan import WanMemory, latent_shape
from webui.pipelines import svd, wan
from webui.pipelines.modules import owned_tensors
from webui.pipelines.running import decode_each
from webui.tracing.recording import record_run
from webui.tracing.svd import record_denoise
from webui.tracing.svd import request_of as svd_request
from webui.tracing.wan import single_expert
from webui.tracing.wan_conditions import GIVEN, record_conditions
from webui.tracing.wan_loop import blocks_of, kept_storage, prepared, tensors_of
from webui.tracing.wan_request import request_of

CLIPS = 3
CLOSE = 0.003
LOOPS: list[tuple[str, str, float, dict[str, Any], dict[str, Any]]] = [
    ("wan2.1-t2v-1.3b", "none", 5.0, {}, {}),
    ("wan2.1-t2v-1.3b", "leaf", 1.0, {"precision": "fp8", "ffn_chunks": 7}, {}),
    ("wan2.1-t2v-14b", "block", 5.0, {"quantization": "gguf"}, {}),
    ("wan2.1-i2v-14b-480p", "leaf", 5.0, {}, {}),
    ("wan2.1-flf2v-14b", "leaf", 1.0, {"ffn_chunks": 4}, {}),
    ("wan2.1-vace-1.3b", "none", 5.0, {}, {"image": GIVEN}),
    ("wan2.1-vace-1.3b", "leaf", 1.0, {"ffn_chunks": 3, "precision": "fp32"}, {}),
    ("wan2.2-ti2v-5b", "leaf", 5.0, {}, {"image": GIVEN}),
    ("wan2.2-ti2v-5b", "none", 5.0, {"ffn_chunks": 3}, {}),
    ("wan2.2-i2v-a14b", "leaf", 5.0, {}, {}),
    ("demo", "none", 5.0, {"step_cache": "first-block"}, {}),
]


@pytest.mark.parametrize(("model", "mode", "guidance", "changes", "pictures"), LOOPS)
def test_wan_denoises(
    model: str, mode: str, guidance: float, changes: dict[str, Any], pictures: dict[str, Any]
) -> None:
    card = find_model(model)
    settings = all_settings(card, offload=mode, **changes)
    shape = {"f": 6, "h": 28, "w": 44}
    request = request_of(card, shape, guidance=guidance, batch=CLIPS, **pictures)
    with kept_storage():
        pipe = wan.build_meta(single_expert(card), settings)
        del pipe.transformer.blocks[blocks_of(card) :]
        pipe, embeddings, conditions = prepared(pipe, request, settings)
        given = tensors_of(embeddings, conditions)
        fresh = record_run(
            pipe.transformer,
            "resident" if mode == "none" else mode,
            lambda: wan.denoise(pipe, embeddings, request, settings, conditions),
            given,
        )
    # So many that each transformer of a pair has as many as were traced.
    memory = WanMemory(card, request.with_changes(steps=50), settings, BARE)
    (phase,) = (name for name in memory.phase_names()[-2:] if name.startswith("denoise"))
    events = memory.phase(phase)
    found = events.peak_live_bytes() - events.resident_bytes
    assert found == pytest.approx(live_peak(fresh.events), rel=CLOSE)
    one = WanMemory(card, request.with_changes(batch=1), settings, BARE).phase(phase)
    assert found > 1.1 * (one.peak_live_bytes() - one.resident_bytes)
    parts = [sum(part.sizes) for part in events.parts if part.name in ("embeddings", "conditions")]
    assert sum(parts) == pytest.approx(sum(tensor.nbytes for tensor in given), rel=1e-3)


@pytest.mark.parametrize("model", ["wan2.1-i2v-14b-480p", "wan2.2-ti2v-5b", "wan2.1-vace-1.3b"])
def test_pictures_are_encoded_once(model: str) -> None:
    card = find_model(model)
    settings = all_settings(card)
    request = request_of(card, {"f": 5, "h": 10, "w": 14}, batch=CLIPS, image=GIVEN)
    fresh = live_peak(record_conditions(card, request, settings, whole=True).events)
    configs = {name: value for name, value in card.configs.items() if name != "image_encoder"}
    bare = replace(card, configs=configs)  # its tape has no shape
    assert composed_peak(bare, request, settings, "image_encode") == pytest.approx(fresh, rel=CLOSE)


@pytest.mark.parametrize(
    ("mode", "guidance", "changes"),
    [
        ("none", 3.0, {}),
        ("leaf", 3.0, {"ffn_chunks": 6}),
        ("none", 3.0, {"split_guidance": True}),
        ("block", 1.0, {}),
    ],
)
def test_svd_denoises(mode: str, guidance: float, changes: dict[str, Any]) -> None:
    settings = of_svd.settings_of(offload=mode, **changes)
    shape = {"f": 14, "h": 24, "w": 40}
    request = svd_request(of_svd.CARD, shape, guidance=guidance, batch=CLIPS)
    pipe = svd.build_meta(of_svd.CARD, settings)
    recorded_as = "resident" if mode == "none" else mode
    fresh = live_peak(record_denoise(pipe, request, recorded_as, settings).events)
    found = of_svd.composed_peak(request, settings, "denoise")
    assert found == pytest.approx(fresh, rel=CLOSE)


def test_clips_are_decoded_one_by_one() -> None:
    card = find_model("demo")
    settings = all_settings(card)
    request = request_of(card, {"f": 5, "h": 12, "w": 10}, batch=CLIPS)
    pipe = wan.build_meta(card, settings)
    shape = latent_shape(request, card)
    latents = torch.empty(CLIPS, 16, shape.f, shape.h, shape.w, device="meta")

    def decode() -> Any:
        return decode_each(latents, lambda one, _: wan.decode(pipe, one, settings), print)

    fresh = live_peak(record_run(pipe.vae, "resident", decode, (latents,)).events)
    events = WanMemory(card, request, settings, BARE).phase("decode")
    assert events.peak_live_bytes() - events.resident_bytes == pytest.approx(fresh, rel=CLOSE)
    waiting = [part for part in events.parts if part.name == "latents"]
    assert sum(waiting[0].sizes) == latents.nbytes


def test_svd_keeps_a_picture_for_each_clip() -> None:
    settings = of_svd.settings_of(vae_precision="bf16", image_encoder="cpu")
    request = svd_request(of_svd.CARD, {"f": 25, "h": 40, "w": 56}, batch=CLIPS)
    pipe = svd.build_meta(of_svd.CARD, settings)
    weights = tuple(owned_tensors(pipe.image_encoder))
    made = record_run(pipe.vae, "resident", lambda: svd.encode(pipe, request, settings), weights)
    fresh = live_peak(made.events)
    found = of_svd.composed_peak(request, settings, "image_encode")
    assert found == pytest.approx(fresh, rel=0.01)
