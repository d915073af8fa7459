"""Stable Video Diffusion's phases on small real components, beside the library's own pipeline."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from PIL import Image

from tests.unit.pipelines.svd_card import tiny_svd
from webui.core.clip import ClipCard, ClipRequest
from webui.core.errors import BadInput, Cancelled, MissingWeights
from webui.core.parse import parse_request
from webui.core.settings import Settings, with_defaults
from webui.pipelines import svd
from webui.pipelines.preview import preview_jpeg
from webui.pipelines.svd.components import ClipNormalizer

FRAMES, SIDE = 3, 128


@pytest.fixture(scope="module")
def card() -> ClipCard:
    return tiny_svd()


@pytest.fixture(scope="module")
def settings(card: ClipCard) -> Settings:
    own = {"precision": "fp32", "vae_precision": "fp32", "decode_chunk": FRAMES}
    return with_defaults(own, card.settings)


@pytest.fixture(scope="module")
def pipe(card: ClipCard, settings: Settings) -> Any:
    torch.manual_seed(0)
    made = svd.build_random(card, settings, "cpu")
    for component in (made.unet, made.vae, made.image_encoder):
        for parameter in component.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return made


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "input.png")
    return tmp_path / "input.png"


def request_of(card: ClipCard, **changes: Any) -> ClipRequest:
    keys = {"frames": FRAMES, "height": SIDE, "width": SIDE, "steps": 2, "seed": 7}
    request = parse_request(keys | changes, lambda *_: card)
    assert isinstance(request, ClipRequest)
    return request


def run(pipe: Any, request: ClipRequest, settings: Settings) -> tuple[torch.Tensor, np.ndarray]:
    encoded = svd.encode(pipe, request, settings)
    latents = svd.denoise(pipe, encoded, request)
    return latents, svd.decode(pipe, latents, settings)


def library_latents(pipe: Any, request: ClipRequest) -> torch.Tensor:
    theirs = StableVideoDiffusionPipeline(
        vae=pipe.vae,
        image_encoder=pipe.image_encoder,
        unet=pipe.unet,
        scheduler=EulerDiscreteScheduler.from_config(
            {k: v for k, v in pipe.card.configs["scheduler"].items() if k[0] != "_"}
        ),
        feature_extractor=None,
    )
    theirs.feature_extractor = ClipNormalizer()
    theirs.set_progress_bar_config(disable=True)
    return theirs(
        Image.open(request.image),
        height=request.height,
        width=request.width,
        num_frames=request.frames,
        num_inference_steps=request.steps,
        max_guidance_scale=request.guidance,
        fps=request.fps,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="latent",
    ).frames


@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_the_phases_are_the_librarys_pipeline(pipe, card, settings, picture, guidance):
    request = request_of(card, image=str(picture), guidance=guidance)
    ours, frames = run(pipe, request, settings)
    assert torch.equal(ours, library_latents(pipe, request))
    assert frames.shape == (FRAMES, SIDE, SIDE, 3) and frames.std() > 0


def test_the_picture_matters_and_the_seed_too(pipe, card, settings, picture):
    with_picture = run(pipe, request_of(card, image=str(picture)), settings)[0]
    grey = run(pipe, request_of(card), settings)[0]
    other_seed = run(pipe, request_of(card, image=str(picture), seed=8), settings)[0]
    assert not torch.equal(with_picture, grey)
    assert not torch.equal(with_picture, other_seed)


def test_chunks_change_the_smoothing_only_where_they_are_smaller(pipe, card, settings):
    latents = run(pipe, request_of(card), settings)[0]
    whole = svd.decode(pipe, latents, settings | {"decode_chunk": FRAMES})
    larger = svd.decode(pipe, latents, settings | {"decode_chunk": FRAMES + 5})
    one = svd.decode(pipe, latents, settings | {"decode_chunk": 1})
    assert np.array_equal(whole, larger)
    assert one.shape == whole.shape and not np.array_equal(whole, one)


def test_a_vae_in_half_encodes_in_full_and_is_half_again(card, settings):
    half = svd.build_random(card, settings | {"vae_precision": "fp16"}, "cpu")
    before = copy.deepcopy(half.vae.state_dict())
    seen = []
    half.vae.encoder.register_forward_pre_hook(
        lambda module, _: seen.append(next(module.parameters()).dtype)
    )
    encoded = svd.encode(half, request_of(card), settings)
    assert seen == [torch.float32]
    assert encoded.latents.dtype == torch.float32  # as the image encoder's
    assert half.vae.dtype == torch.float16
    assert all(torch.equal(before[key], value) for key, value in half.vae.state_dict().items())


@pytest.mark.parametrize("phase", ["encode", "denoise", "decode"])
def test_a_cancel_is_seen_in_every_phase(pipe, card, settings, phase):
    def stop() -> None:
        raise Cancelled

    request = request_of(card)
    encoded = svd.encode(pipe, request, settings)
    latents = torch.zeros(1, FRAMES, 4, SIDE // 8, SIDE // 8)
    calls = {
        "encode": lambda: svd.encode(pipe, request, settings, check_cancel=stop),
        "denoise": lambda: svd.denoise(pipe, encoded, request, check_cancel=stop),
        "decode": lambda: svd.decode(pipe, latents, settings, check_cancel=stop),
    }
    with pytest.raises(Cancelled):
        calls[phase]()


def test_steps_and_chunks_are_reported_with_a_preview(pipe, card, settings):
    steps, chunks, pictures = [], [], []

    def on_step(step: int, count: int, latents: torch.Tensor) -> None:
        steps.append((step, count))
        pictures.append(preview_jpeg(latents, card))

    request = request_of(card)
    latents = svd.denoise(pipe, svd.encode(pipe, request, settings), request, on_step=on_step)
    svd.decode(
        pipe, latents, settings | {"decode_chunk": 2}, on_progress=lambda *at: chunks.append(at)
    )
    assert steps == [(1, 2), (2, 2)] and all(jpeg[:2] == b"\xff\xd8" for jpeg in pictures)
    assert chunks == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_a_folder_of_the_library_is_loaded(tmp_path, pipe, card, settings, picture, variant):
    for name in ("unet", "vae", "image_encoder"):
        component = copy.deepcopy(getattr(pipe, name))
        component.half() if variant else component
        component.save_pretrained(str(tmp_path / name), variant=variant)
    weights = {"kind": "diffusers", "folder": str(tmp_path)}
    loaded = svd.load(card, settings, weights, "cpu")
    request = request_of(card, image=str(picture))
    ours, theirs = run(loaded, request, settings)[0], run(pipe, request, settings)[0]
    assert torch.equal(ours, theirs) if variant is None else ours.shape == theirs.shape


def test_a_folder_with_something_else_is_refused(tmp_path, pipe, card, settings):
    with pytest.raises(MissingWeights):
        svd.load(card, settings, {"kind": "diffusers", "folder": str(tmp_path / "no")}, "cpu")
    for name in ("unet", "vae", "image_encoder"):
        getattr(pipe, name).save_pretrained(str(tmp_path / name))
    (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    weights = {"kind": "diffusers", "folder": str(tmp_path)}
    with pytest.raises(MissingWeights, match="vae"):
        svd.load(card, settings, weights, "cpu")
    config = tmp_path / "unet" / "config.json"
    config.write_text(config.read_text().replace('"in_channels": 8', '"in_channels": 9'))
    with pytest.raises(BadInput, match="in_channels"):
        svd.load(card, settings, weights, "cpu")


@pytest.mark.parametrize(
    ("changes", "modes"),
    [
        ({}, ("always", "always", "always")),
        ({"offload": "model"}, ("phase", "phase", "phase")),
        ({"offload": "leaf"}, ("phase", "leaf", "phase")),
        ({"offload": "block", "image_encoder": "cpu"}, ("host", "block", "phase")),
    ],
)
def test_where_components_live_on_a_card(settings, changes, modes):
    assert tuple(svd.residency(settings | changes, "cuda").values()) == modes
    assert set(svd.residency(settings | changes, "cpu").values()) == {"always"}


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("pieces", [1, 3, 8])
def test_lossless_means_give_the_same_latents(pipe, card, settings, picture, pieces, guidance):
    request = request_of(card, image=str(picture), guidance=guidance)
    encoded = svd.encode(pipe, request, settings)
    draws = encoded.generators[0].get_state()

    def latents(**changes: Any) -> torch.Tensor:
        encoded.generators[0].set_state(draws)
        return svd.denoise(pipe, encoded, request, settings | changes)

    whole = latents()
    for split in (False, True):
        found = latents(ffn_chunks=pieces, split_guidance=split)
        # The noise that the loop starts from is about 700 times as large as what it ends with.
        assert torch.allclose(whole, found, rtol=0, atol=4 * torch.finfo(whole.dtype).eps * 700)
    assert torch.equal(latents(), whole)


def test_guidance_in_two_passes_runs_the_model_twice(pipe, card, settings):
    request = request_of(card)
    encoded = svd.encode(pipe, request, settings)
    batches: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(
        lambda _, given: batches.append(len(given[0]) if given else -1)
    )
    try:
        svd.denoise(pipe, encoded, request, settings | {"split_guidance": True})
    finally:
        handle.remove()
    assert batches == [1] * 2 * request.steps
