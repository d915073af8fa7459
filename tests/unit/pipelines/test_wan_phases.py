"""The phases: the same code on meta and the processor, settings that change what they should."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from webui.core.clip import ClipCard, ClipRequest
from webui.core.errors import Cancelled, RunFailed
from webui.core.settings import Settings
from webui.pipelines import wan
from webui.pipelines.live_bytes import LiveBytes
from webui.pipelines.preview import preview_jpeg
from webui.pipelines.running import check_finite
from webui.pipelines.wan.phases import decoder_calls, set_tiling


@pytest.fixture(scope="module")
def pipe(tiny_card: ClipCard) -> object:
    return wan.build_random(
        tiny_card, {"precision": "fp32", "vae_precision": "fp32", "text_encoder": "gpu"}, "cpu"
    )


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return torch.randn(1, 16, 2, 16, 16, generator=torch.Generator().manual_seed(1))


def peaks(pipe: object, request: ClipRequest, settings: Settings, kind: str) -> list[int]:
    """Activation peaks of the three phases, in bytes of live tensors."""
    found = []
    with LiveBytes((kind,)) as live:
        for part in (pipe.text_encoder, pipe.transformer, pipe.vae):
            live.track_module(part)
        live.reset_peak()
        embeddings = wan.encode(pipe, request, settings)
        found.append(live.peak_bytes)
        live.reset_peak()
        latents = wan.denoise(pipe, embeddings, request)
        found.append(live.peak_bytes)
        live.reset_peak()
        wan.decode(pipe, latents, settings)
        found.append(live.peak_bytes)
    return found


def test_meta_counts_what_the_processor_counts(
    pipe: object, tiny_card: ClipCard, settings: Settings, request_: ClipRequest
) -> None:
    meta = wan.build_meta(tiny_card, settings)
    traced = peaks(meta, request_, settings, "meta")
    measured = peaks(pipe, request_, settings, "cpu")
    # Attention decomposes on meta (the tracer routes it), so only the decoder must agree.
    assert traced[2] == pytest.approx(measured[2], rel=0.02)


@pytest.mark.parametrize("encoder", ["cpu", "absent"])
def test_meta_without_an_encoder_on_the_card(
    encoder: str, tiny_card: ClipCard, settings: Settings, request_: ClipRequest
) -> None:
    settings["text_encoder"] = encoder
    pipe = wan.build_meta(tiny_card, settings)
    assert pipe.text_encoder is None
    embeddings = wan.encode(pipe, request_, settings)
    assert embeddings.positive.is_meta and embeddings.positive.shape == (1, 16, 32)


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_seed_and_solver(
    pipe: object, settings: Settings, request_: ClipRequest, solver: str
) -> None:
    request_ = request_.with_changes(solver=solver)
    embeddings = wan.encode(pipe, request_, settings)
    steps: list[tuple[int, int]] = []

    def on_step(step: int, total: int, latent: torch.Tensor) -> None:
        steps.append((step, total))
        assert latent.shape == (1, 16, 2, 8, 8)

    first = wan.denoise(pipe, embeddings, request_, on_step=on_step)
    assert steps == [(1, 2), (2, 2)]
    assert torch.equal(first, wan.denoise(pipe, embeddings, request_))
    other = request_.with_changes(seed=8)
    assert not torch.equal(first, wan.denoise(pipe, embeddings, other))
    shifted = request_.with_changes(flow_shift=9.0)
    assert not torch.equal(first, wan.denoise(pipe, embeddings, shifted))
    assert pipe.scheduler is None


def test_guidance_of_one_means_one_pass_a_step(
    pipe: object, settings: Settings, request_: ClipRequest
) -> None:
    calls = []
    handle = pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        for guidance, passes in ((5.0, 4), (1.0, 2)):
            calls.clear()
            changed = request_.with_changes(guidance=guidance)
            embeddings = wan.encode(pipe, changed, settings)
            assert (embeddings.negative is None) == (guidance == 1.0)
            wan.denoise(pipe, embeddings, changed)
            assert len(calls) == passes
    finally:
        handle.remove()


def test_tiling_saves_memory_and_keeps_the_picture(pipe: object, settings: Settings) -> None:
    noise = torch.randn(1, 16, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(noise, size=(2, 16, 16), mode="trilinear")

    def decoded(
        latents: torch.Tensor = smooth, **changes: object
    ) -> tuple[np.ndarray, int, list[tuple[int, int]]]:
        progress: list[tuple[int, int]] = []
        with LiveBytes() as live:
            frames = wan.decode(
                pipe,
                latents,
                {**settings, **changes},
                on_progress=lambda done, total: progress.append((done, total)),
            )
        return frames.astype(int), live.peak_bytes, progress

    whole, whole_peak, whole_progress = decoded()
    tiled, tiled_peak, tiled_progress = decoded(vae_tiling=True, vae_tile=96, vae_tile_overlap=48)
    assert whole.shape == tiled.shape == (5, 128, 128, 3)
    assert tiled_peak < 0.8 * whole_peak
    another, _, _ = decoded(smooth.flip(-1))
    # The weights are random here; the measure is how far another picture would be.
    assert 0 < np.abs(whole - tiled).mean() < 0.75 * np.abs(whole - another).mean()
    assert whole_progress == [(0, 2), (1, 2), (2, 2)]
    # One call a latent frame and tile: 3 x 3 tiles of 12 x 12 latents, 6 apart.
    assert tiled_progress[-1] == (18, 18) and len(tiled_progress) == 19
    again, _, _ = decoded()
    assert np.array_equal(whole, again)


def test_decoder_calls_match_the_library(pipe: object, latents: torch.Tensor) -> None:
    set_tiling(pipe.vae, {"vae_tiling": True, "vae_tile": 96, "vae_tile_overlap": 16})
    calls = []
    handle = pipe.vae.decoder.register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        pipe.vae.decode(latents)
    handle.remove()
    assert len(calls) == decoder_calls(pipe.vae, latents.shape)


def test_offloading_means_nothing_on_a_processor(
    tiny_card: ClipCard, settings: Settings, request_: ClipRequest
) -> None:
    results = []
    for offload in ("none", "model", "block", "leaf"):
        changed = {**settings, "offload": offload, "text_encoder": "stream", "channels_last": True}
        pipe = wan.build_random(tiny_card, changed, "cpu")
        for phase in ("encode", "denoise", "decode"):
            pipe.placement.enter_phase(phase)
        results.append(wan.denoise(pipe, wan.encode(pipe, request_, changed), request_))
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_residency_on_a_card(tiny_card: ClipCard) -> None:
    def modes(offload: str, encoder: str) -> list[str]:
        return list(
            wan.residency(tiny_card, {"offload": offload, "text_encoder": encoder}, "cuda").values()
        )

    assert modes("none", "gpu") == ["always", "always", "always"]
    assert modes("none", "cpu") == ["host", "always", "always"]
    assert modes("model", "gpu") == ["phase", "phase", "phase"]
    assert modes("leaf", "stream") == ["leaf", "leaf", "phase"]
    assert modes("block", "absent") == ["absent", "block", "phase"]


@pytest.mark.parametrize("phase", ["encode", "denoise", "decode"])
def test_cancel_is_seen_in_every_phase(
    phase: str, pipe: object, settings: Settings, request_: ClipRequest, latents: torch.Tensor
) -> None:
    seen = []

    def check() -> None:
        seen.append(phase)
        if len(seen) == 2:
            raise Cancelled()

    embeddings = wan.encode(pipe, request_, settings)
    with pytest.raises(Cancelled):
        if phase == "encode":
            wan.encode(pipe, request_, settings, check_cancel=check)
        elif phase == "denoise":
            wan.denoise(pipe, embeddings, request_, check_cancel=check)
        else:
            wan.decode(pipe, latents, settings, check_cancel=check)
    assert len(seen) == 2
    # Nothing of the broken pass stays behind.
    wan.denoise(pipe, embeddings, request_)
    assert len(seen) == 2


def test_overflow_is_an_error_not_a_black_clip() -> None:
    with pytest.raises(RunFailed, match="overflowed"):
        check_finite(torch.tensor([1.0, float("nan")]))


def test_preview(tiny_card: ClipCard, latents: torch.Tensor) -> None:
    for card in (tiny_card, replace(tiny_card, preview_factors=())):
        picture = Image.open(io.BytesIO(preview_jpeg(latents, card)))
        assert picture.format == "JPEG" and picture.size == (128, 128)
