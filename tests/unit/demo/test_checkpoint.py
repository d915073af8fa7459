"""The shipped checkpoint: an ordinary, small diffusers folder that draws what it is asked."""

import json
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import UMT5EncoderModel

from webui.demo import CHECKPOINT
from webui.demo.generate import draw_clips, with_settings
from webui.demo.judge import judge
from webui.demo.prompts import WAN_NEGATIVE_PROMPT
from webui.demo.vocabulary import is_held_out, parse


def test_size_and_format() -> None:
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors"}


def test_classes_are_the_real_ones(pipeline: WanPipeline) -> None:
    assert type(pipeline) is WanPipeline
    assert type(pipeline.transformer) is WanTransformer3DModel
    assert type(pipeline.vae) is AutoencoderKLWan
    assert type(pipeline.text_encoder) is UMT5EncoderModel
    assert type(pipeline.scheduler) is UniPCMultistepScheduler
    assert pipeline.vae_scale_factor_spatial == 8
    assert pipeline.vae_scale_factor_temporal == 4


def test_loads_in_one_dtype() -> None:
    pipeline = WanPipeline.from_pretrained(CHECKPOINT, local_files_only=True)
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder):
        assert part.dtype == torch.float32


@pytest.mark.parametrize(
    ("prompt", "changes"),
    [
        ("a red circle bounces on a black background", {}),
        ("一个绿色的五角星向左移动", {"height": 96, "width": 96}),
        ("a purple heart grows", {"solver": "dpm++", "height": 96, "width": 160, "steps": 10}),
    ],
)
def test_draws_what_is_asked(pipeline: WanPipeline, prompt: str, changes: dict[str, Any]) -> None:
    asked = parse(prompt)
    clip = draw_clips(pipeline, [prompt], [1], with_settings(**changes))[0]
    found = judge(clip)
    assert (found.colour, found.shape, found.motion) == (asked.colour, asked.shape, asked.motion)


def test_one_frame_and_the_long_negative_prompt(pipeline: WanPipeline) -> None:
    settings = with_settings(frames=1, height=96, width=96)
    clip = draw_clips(pipeline, ["a blue square"], [3], settings, WAN_NEGATIVE_PROMPT)[0]
    found = judge(clip)
    assert (found.colour, found.shape, found.motion) == ("blue", "square", None)


def test_runs_in_bf16() -> None:
    pipeline = WanPipeline.from_pretrained(CHECKPOINT, dtype=torch.bfloat16, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    settings = with_settings(frames=5, height=96, width=96, steps=8)
    clip = draw_clips(pipeline, ["黄色的正方形旋转"], [2], settings)[0]
    found = judge(clip)
    assert (found.colour, found.shape) == ("yellow", "square")


EVALUATION = json.loads((CHECKPOINT.parent / "evaluation.json").read_text())
"""What `python -m webui.demo evaluate` said of this checkpoint."""


def test_the_evaluation_is_of_unseen_combinations() -> None:
    generated = EVALUATION["generated"]
    assert generated["clips"] >= 200
    assert all(is_held_out(parse(miss["prompt"])) for miss in generated["misses"])


@pytest.mark.parametrize("trait", ["colour", "shape", "motion"])
def test_the_judge_is_right_on_drawn_clips_and_knows_nothing_of_shuffled_ones(trait: str) -> None:
    drawn = EVALUATION["drawn"]
    assert drawn["accuracy"][trait] >= 0.99
    assert drawn["shuffled"][trait] <= drawn["chance"][trait] + 0.03


@pytest.mark.parametrize("trait", ["colour", "shape", "motion"])
def test_generated_clips_show_what_was_asked(trait: str) -> None:
    assert EVALUATION["generated"]["accuracy"][trait] >= 0.9
