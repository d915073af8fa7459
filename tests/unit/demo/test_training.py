"""The training parts at tiny size: they learn, and they equal what the library computes."""

import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline

from webui.demo import codec, drawing, networks, train_transformer, vocabulary
from webui.demo.__main__ import main
from webui.demo.drawing import draw, random_scene
from webui.demo.muon import build_optimisers, orthogonalise
from webui.demo.pool import Bucket, LatentPool, PromptBank, all_codes
from webui.demo.schedule import Progress
from webui.demo.sessions import PAUSED, train_in_sessions
from webui.demo.tokenizer import build_tokenizer
from webui.demo.train import TrainingPlan, train
from webui.demo.train_transformer import Painter, build_pools, train_painter
from webui.demo.train_vae import set_latent_statistics, train_vae
from webui.demo.vocabulary import Spec

CPU = torch.device("cpu")
MOST_FRAMES, MOST_PIXELS = 9, 48
SMALL = (Bucket(9, 48, 48, 0.5), Bucket(5, 32, 48, 0.3), Bucket(1, 32, 32, 0.2))


@pytest.fixture
def small_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training draws clips of a quarter of its sides and half of its frames."""
    whole = drawing.draw

    def draw_small(scene: drawing.Scene, frames: int, height: int, width: int) -> torch.Tensor:
        frames = min(frames, MOST_FRAMES)
        return whole(scene, frames, min(height, MOST_PIXELS), min(width, MOST_PIXELS))

    monkeypatch.setattr(drawing, "draw", draw_small)
    pools = partial(train_transformer.build_pools, buckets=SMALL)
    monkeypatch.setattr(train_transformer, "build_pools", pools)


def test_whole_clip_codec_equals_the_library(pipeline: WanPipeline) -> None:
    scene = random_scene([Spec("red", "star", "rotate")], torch.Generator().manual_seed(0))
    clip = draw(scene, 17, 32, 48)
    with torch.no_grad():
        mean, _ = codec.encode(pipeline.vae, clip)
        torch.testing.assert_close(
            mean, pipeline.vae.encode(clip).latent_dist.mean, atol=2e-4, rtol=1e-4
        )
        rebuilt = codec.decode(pipeline.vae, mean).clamp(-1, 1)
        torch.testing.assert_close(rebuilt, pipeline.vae.decode(mean).sample, atol=2e-4, rtol=1e-4)


def test_autoencoder_and_painter_learn(small_clips: None) -> None:
    torch.manual_seed(0)
    vae = networks.build_vae(base_dim=4)
    vae_losses = train_vae(
        vae,
        Progress(steps=12),
        device=CPU,
        optimisers=build_optimisers(vae, 0.03, 3e-3),
        batch_scale=0.01,
    )
    assert sum(vae_losses[-4:]) < sum(vae_losses[:4])
    set_latent_statistics(vae, CPU, clips=2)
    tokenizer = build_tokenizer()
    painter = Painter(
        networks.build_transformer(num_layers=1, num_attention_heads=1, ffn_dim=64),
        networks.build_text_encoder(len(tokenizer), num_layers=1),
    )
    average = {name: value.detach().clone() for name, value in painter.state_dict().items()}
    before = {name: value.clone() for name, value in average.items()}
    generator = torch.Generator().manual_seed(0)
    losses = train_painter(
        painter,
        average,
        build_pools(vae, generator, (Bucket(5, 32, 32, 1.0),), clips=8),
        PromptBank(tokenizer, 1, CPU),
        Progress(steps=60),
        optimisers=build_optimisers(painter, 0.02, 1.5e-3),
        generator=generator,
        step_tokens=64,
    )
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])
    assert any(not torch.equal(before[name], average[name]) for name in average)


def test_pools_hold_no_held_out_combination() -> None:
    held_out = vocabulary.held_out_combinations()
    for colour, shape, motion, _ in all_codes().tolist():
        spec = Spec(
            vocabulary.COLOURS[colour].name,
            vocabulary.SHAPES[shape].name,
            vocabulary.MOTIONS[motion].name,
        )
        assert spec not in held_out
    pool = LatentPool(
        networks.build_vae(base_dim=4), Bucket(1, 32, 32, 1.0), 4, torch.Generator().manual_seed(0)
    )
    latents, rows = pool.sample(6)
    assert latents.shape == (6, 16, 1, 4, 4)
    assert rows.shape == (6,)


def test_orthogonalise_evens_out_the_directions() -> None:
    matrices = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0))
    spread = torch.linalg.svdvals(orthogonalise(matrices))
    assert spread.min() > 0.5
    assert spread.max() < 1.3


def test_progress_counts_over_sessions() -> None:
    progress = Progress(minutes=1, steps=10, spent_s=30, step=5)
    assert 0.49 < progress.fraction < 0.6
    progress.step = 10
    assert progress.fraction == 1


def test_tokenizer_folds_case_and_survives_other_text() -> None:
    tokenizer = build_tokenizer()
    numbers = tokenizer("A red CIRCLE；一个红色的圆 zebra привет").input_ids
    assert max(numbers) < len(tokenizer) and numbers[-1] == tokenizer.eos_token_id
    assert tokenizer("red").input_ids == tokenizer("RED").input_ids


def test_a_paused_run_is_resumed_by_new_processes_until_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statuses = [PAUSED, PAUSED, 0]
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        return subprocess.CompletedProcess(command, statuses[len(commands) - 1])

    monkeypatch.setattr(subprocess, "run", run)
    assert train_in_sessions(["train", "--seed", "1"], minutes=4) == 0
    assert len(commands) == 3
    assert commands[0][1:] == ["-m", "webui.demo", "train", "--seed", "1", "--pause-after", "4"]


def test_a_session_saves_its_state_and_says_that_it_paused(
    tmp_path: Path, small_clips: None
) -> None:
    state, output = tmp_path / "state.pt", tmp_path / "demo"
    train_one_step = [
        *("train", "--device", "cpu", "--batch-scale", "0.001", "--steps-vae", "1"),
        *("--output", str(output), "--state", str(state), "--pause-after", "0"),
    ]
    assert main(train_one_step) == PAUSED
    assert state.exists()
    resumed = TrainingPlan(
        output=output,
        state=state,
        device="cpu",
        batch_scale=0.001,
        steps_vae=0,
        minutes_vae=0,
        steps_transformer=1,
        clips=12,
        phrasings=1,
    )
    assert train(resumed)
