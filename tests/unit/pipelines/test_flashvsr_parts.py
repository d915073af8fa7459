"""FlashVSR's projection, decoders and colours against the authors' own."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from tests.unit.pipelines.flashvsr_goldens import difference, golden, weights_of
from webui.pipelines.flashvsr.colour import HALO_ROWS, bands_of, fix_colour, fix_in_bands
from webui.pipelines.flashvsr.decoder import Decoder, DecoderState
from webui.pipelines.flashvsr.decoding import FullDecoding
from webui.pipelines.flashvsr.frames import Chunk, frames_of_latent
from webui.pipelines.flashvsr.projection import Projection, ProjectionState
from webui.pipelines.flashvsr.stream import to_levels, to_pixels

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _no_grad() -> object:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("version", ["v1", "v1.1"])
def test_projection_streams_as_the_authors(version: str) -> None:
    about, tensors = golden("lq_proj_v1_1")
    _, answers = golden("lq_proj_" + version.replace(".", "_"))
    config = about["config"]
    projection = Projection(version, config["in_dim"], config["hidden"], config["out_dim"])
    projection.load_state_dict(weights_of(tensors))
    projection.conv1.store_for_pictures()
    alone, pair = ProjectionState(), ProjectionState()
    assert projection(tensors["in.clip0"], alone) is None
    projection(torch.cat((tensors["in.clip0"].flip(-1), tensors["in.clip0"])), pair)
    for number in (1, 2, 3):
        clip, expected = tensors[f"in.clip{number}"], answers[f"out.tokens.clip{number}"]
        found = projection(clip, alone)
        assert difference(found, expected) < 1e-5
        # Two videos at once keep apart.
        both = projection(torch.cat((clip.flip(-1), clip)), pair)
        assert difference(both[1:], expected) < 1e-5
        assert difference(both[:1], expected) > 0.01


def test_tiny_decoder_streams_as_the_authors() -> None:
    about, tensors = golden("tc_decoder")
    decoder = Decoder(about["config"]["channels"])
    decoder.load_state_dict(weights_of(tensors))
    state = DecoderState()
    for number in (0, 1):
        chunk, frames = Chunk(number), []
        latents, clips = tensors[f"in.latents.chunk{number}"], tensors[f"in.cond.chunk{number}"]
        for index, latent in enumerate(chunk.latents):
            shown = frames_of_latent(latent)
            clip = clips[:, :, shown.start - chunk.frames.start :][:, :, : len(shown)]
            frames += decoder(latents[:, :, index], clip, state)
        assert difference(torch.stack(frames, 1), tensors[f"out.frames.chunk{number}"]) < 1e-4


def test_full_decoder_streams_as_the_library_decodes() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=4, num_res_blocks=1).eval()
    for parameter in vae.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    latents = torch.randn(2, 16, 3, 4, 6)
    mean, deviation = (
        torch.tensor(values).view(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    expected = vae.decode(latents * deviation + mean).sample
    decoding, frames = FullDecoding(vae), []
    for index in range(3):
        frames += decoding.frames(latents[:, :, index], torch.empty(0))
    assert difference(torch.stack(frames, 2), expected) < 1e-5
    assert expected.std() > 0.01


@pytest.mark.parametrize("kind", ["adain", "wavelet"])
def test_colours_are_those_of_the_authors(kind: str) -> None:
    _, tensors = golden("colour_fix")
    frames, reference = tensors["in.hq"][:, :, 0], tensors["in.lq"][:, :, 0]
    assert difference(fix_colour(frames, reference, kind), tensors[f"out.{kind}"][:, :, 0]) < 1e-5


@pytest.mark.parametrize("kind", ["adain", "wavelet"])
@pytest.mark.parametrize("rows", [1, 17, 40])
def test_colours_in_bands_are_those_of_the_whole_frame(kind: str, rows: int) -> None:
    generator = np.random.default_rng(1)
    height, width = 121, 50
    down = np.linspace(0, 90, height)[:, None, None]
    frame = (down + generator.integers(0, 100, (height, width, 3))).astype(np.uint8)
    reference = (120 - down + generator.integers(0, 130, (height, width, 3))).astype(np.uint8)
    cpu = torch.device("cpu")
    pixels, colours = (to_pixels([[one]], cpu)[:, :, 0] for one in (frame, reference))
    whole = fix_colour(pixels, colours, kind)
    wanted = to_levels(whole)[0].numpy().astype(int)
    found = fix_in_bands(frame, reference, kind, cpu, rows * width)
    bands = bands_of(height, width, rows * width)
    assert max(band.stop - band.start for band in bands) <= rows and len(bands) > 3
    # What lies on the edge between two levels may fall to either side.
    assert np.abs(found - wanted).max() <= 1 and np.mean(found != wanted) < 1e-3
    assert np.array_equal(fix_in_bands(frame, reference, kind, cpu), wanted)
    if kind == "wavelet" and rows == 17:
        # The halo is needed: with less of it, bands show.
        with patch("webui.pipelines.flashvsr.colour.HALO_ROWS", HALO_ROWS // 4):
            cut = fix_in_bands(frame, reference, kind, cpu, rows * width)
        assert np.mean(cut != wanted) > 0.01


def test_schedule_leaves_nothing_out() -> None:
    """Every latent and frame is in one chunk; the projection sees four frames more."""
    chunks = [Chunk(index) for index in range(4)]
    assert [n for chunk in chunks for n in chunk.latents] == list(range(12))
    assert [n for chunk in chunks for n in chunk.frames] == list(range(45))
    shown = [n for chunk in chunks for latent in chunk.latents for n in frames_of_latent(latent)]
    assert shown == list(range(45))
    clips = [n for chunk in chunks for clip in chunk.clips for n in clip]
    assert clips == list(range(49))
