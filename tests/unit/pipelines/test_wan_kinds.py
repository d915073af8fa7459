"""Every kind of Wan pipeline, cut into phases: the same latents as the library's own call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.pipelines.wan_cards import NAMES, tiny_wan
from webui.catalogue import find_model
from webui.core.clip import ClipCard, ClipRequest
from webui.core.errors import Cancelled
from webui.core.parse import parse_request
from webui.core.settings import Settings, with_defaults
from webui.pipelines import wan
from webui.pipelines.wan import placement as placement_module
from webui.pipelines.wan.phases import second_guidance

WIDTH, HEIGHT, FRAMES = 96, 64, 9


def settings_of(card: ClipCard, **changes: Any) -> Settings:
    return with_defaults({"precision": "fp32", "text_encoder": "gpu", **changes}, card.settings)


def request_of(card: ClipCard, pictures: dict[str, str], **changes: Any) -> ClipRequest:
    given = {key: pictures[key] for key in card.pictures}
    keys = {
        "frames": FRAMES,
        "height": HEIGHT,
        "width": WIDTH,
        "steps": 3,
        "seed": 5,
        "prompt": "a",
    }
    request = parse_request({**keys, **given, **changes}, lambda *_: card)
    assert isinstance(request, ClipRequest)
    return request


class Report:
    """Keeps the phases, and moves the weights as the worker does."""

    def __init__(self, placement: Any) -> None:
        self.placement = placement
        self.phases: list[str] = []
        self.steps: list[int] = []
        self.checks = 0
        self.cancel_at = -1

    def begin(self, phase: str) -> None:
        self.phases.append(phase)
        self.placement.enter_phase(phase)

    def check(self) -> None:
        self.checks += 1
        if self.checks == self.cancel_at:
            raise Cancelled()

    def step(self, done: int, total: int) -> None:
        pass

    def latent_step(self, done: int, total: int, latents: torch.Tensor) -> None:
        self.steps.append(done)


def latents_of(pipe: Any, request: ClipRequest, settings: Settings) -> torch.Tensor:
    pipe = wan.pipeline_for(pipe, request)
    pipe.placement.enter_phase("encode")
    embeddings = wan.encode(pipe, request, settings)
    conditions = None
    if wan.takes_conditions(pipe):
        pipe.placement.enter_phase("image_encode")
        conditions = wan.encode_conditions(pipe, request, settings)
    pipe.placement.enter_phase(wan.denoise_phases(pipe.card)[0])
    return wan.denoise(
        pipe,
        embeddings,
        request,
        settings,
        conditions,
        on_second=lambda: pipe.placement.enter_phase("denoise_low"),
    )


def librarys_own(pipe: Any, request: ClipRequest, settings: Settings) -> torch.Tensor:
    """One call of the pipeline, which encodes and denoises by itself."""
    pipe = wan.pipeline_for(pipe, request)
    embeddings = wan.encode(pipe, request, settings)
    pipe.scheduler = wan.build_scheduler(pipe, request)
    arguments: dict[str, Any] = {}
    if pipe.transformer_2 is not None:
        arguments["guidance_scale_2"] = second_guidance(pipe.card, request.guidance)
    name = type(pipe).__name__
    if name == "PlacedWanImagePipeline":
        arguments["image"] = Image.open(request.image)
        if request.last_image:
            arguments["last_image"] = Image.open(request.last_image)
    if name == "PlacedWanControlPipeline" and request.image:
        arguments["reference_images"] = [Image.open(request.image)]
    found = pipe(
        prompt_embeds=embeddings.positive,
        negative_prompt_embeds=embeddings.negative,
        height=request.height,
        width=request.width,
        num_frames=request.frames,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="latent",
        **arguments,
    ).frames
    references = 1 if name == "PlacedWanControlPipeline" and request.image else 0
    return found[:, :, references:]


@pytest.mark.parametrize("kind", NAMES)
def test_phases_give_what_the_librarys_call_gives(kind: str, pictures: dict[str, str]) -> None:
    card = tiny_wan(kind)
    settings = settings_of(card)
    pipe = wan.build_random(card, settings, "cpu")
    request = request_of(card, pictures)
    found = latents_of(pipe, request, settings)
    ratio = card.configs["vae"].get("scale_factor_spatial", 8)
    sides = (HEIGHT // ratio, WIDTH // ratio)
    assert found.shape == (1, card.configs["vae"]["z_dim"], (FRAMES - 1) // 4 + 1, *sides)
    assert torch.equal(found, librarys_own(pipe, request, settings))


@pytest.mark.parametrize("kind", ["control", "expanded"])
def test_a_picture_may_be_left_out(kind: str, pictures: dict[str, str]) -> None:
    card = tiny_wan(kind)
    settings = settings_of(card)
    pipe = wan.build_random(card, settings, "cpu")
    with_picture = request_of(card, pictures)
    without = with_picture.with_changes(image="")
    found = latents_of(pipe, without, settings)
    assert torch.equal(found, librarys_own(pipe, without, settings))
    assert not torch.equal(found, latents_of(pipe, with_picture, settings))


@pytest.mark.parametrize("key", ["image", "last_image"])
def test_each_picture_matters(key: str, pictures: dict[str, str]) -> None:
    card = tiny_wan("frames")
    settings = settings_of(card)
    pipe = wan.build_random(card, settings, "cpu")
    request = request_of(card, pictures)
    other = request.with_changes(**{key: pictures["last_image" if key == "image" else "image"]})
    found, changed = (latents_of(pipe, asked, settings) for asked in (request, other))
    assert not torch.equal(found, changed)


@pytest.mark.parametrize("kind", [kind for kind in NAMES if kind != "text"])
def test_pieces_give_the_same_latents(kind: str, pictures: dict[str, str]) -> None:
    card = tiny_wan(kind)
    settings = settings_of(card)
    pipe = wan.build_random(card, settings, "cpu")
    request = request_of(card, pictures)
    whole = latents_of(pipe, request, settings)
    for pieces in (2, 5):
        split = latents_of(pipe, request, {**settings, "ffn_chunks": pieces})
        assert torch.allclose(whole, split, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["image", "control", "image pair"])
def test_offloading_gives_the_same_frames(
    kind: str, pictures: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = tiny_wan(kind)
    settings = settings_of(card)
    request = request_of(card, pictures, steps=4)
    plain = wan.build_random(card, settings, "cpu")
    expected = wan.run(plain, request, settings, Report(plain.placement))
    residency = placement_module.residency
    monkeypatch.setattr(
        placement_module, "residency", lambda card, chosen, _: residency(card, chosen, "cuda")
    )
    names = ["denoise_high", "denoise_low"] if "pair" in kind else ["denoise"]
    high = int((pipe_times(plain, request) >= 900).sum()) if "pair" in kind else 4
    for offload in ("model", "leaf", "block"):
        settings |= {"offload": offload}
        pipe = wan.build_random(card, settings, "cpu")
        report = Report(pipe.placement)
        assert np.array_equal(wan.run(pipe, request, settings, report), expected), offload
        assert report.phases == ["encode", "image_encode", *names, "decode"], offload
        assert report.steps == [*range(1, high + 1), *range(1, 5 - high)], offload


def pipe_times(pipe: Any, request: ClipRequest) -> torch.Tensor:
    scheduler = wan.build_scheduler(pipe, request)
    scheduler.set_timesteps(request.steps)
    return scheduler.timesteps


def test_cancel_is_seen_while_pictures_are_encoded(pictures: dict[str, str]) -> None:
    card = tiny_wan("image")
    settings = settings_of(card)
    pipe = wan.build_random(card, settings, "cpu")
    request = request_of(card, pictures)
    report = Report(pipe.placement)
    report.cancel_at = 6  # two blocks of the text encoder for each prompt come first
    with pytest.raises(Cancelled):
        wan.run(pipe, request, settings, report)
    assert report.phases[-1] == "image_encode"
    again = Report(pipe.placement)
    (frames,) = wan.run(pipe, request, settings, again)
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3)


def test_one_expert_may_do_all_steps(pictures: dict[str, str]) -> None:
    card = tiny_wan("pair")
    settings = settings_of(card)
    pipe = wan.build_random(card, settings, "cpu")
    report = Report(pipe.placement)
    wan.run(pipe, request_of(card, pictures, steps=1), settings, report)
    assert report.phases == ["encode", "denoise_high", "decode"]


@pytest.mark.parametrize(("name", "authors"), [("wan2.2-t2v-a14b", 3.0), ("wan2.2-i2v-a14b", 3.5)])
def test_the_second_transformers_guidance_is_the_authors(name: str, authors: float) -> None:
    card = find_model(name)
    assert second_guidance(card, card.defaults.guidance) == pytest.approx(authors)
    assert second_guidance(card, 1.0) == 1.0
