"""Steps whose systems are solved on the host: the same steps."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from diffusers import UniPCMultistepScheduler

from webui.pipelines.solving import solving_on_host


def latents_of(scheduler: Any) -> torch.Tensor:
    scheduler.set_timesteps(6)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for time in scheduler.timesteps:
        latents = scheduler.step(torch.sin(latents + time / 1000), time, latents).prev_sample
    return latents


def scheduler() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")


def test_the_steps_are_the_same() -> None:
    torch.testing.assert_close(latents_of(solving_on_host(scheduler())), latents_of(scheduler()))


def test_systems_come_to_the_host_first() -> None:
    moved = []
    to_host = torch.Tensor.cpu

    def spy(tensor: torch.Tensor, *arguments: Any) -> torch.Tensor:
        moved.append(tensor.shape)
        return to_host(tensor, *arguments)

    with patch.object(torch.Tensor, "cpu", spy):
        latents_of(solving_on_host(scheduler()))
    assert len(moved) >= 4 and all(max(shape) <= 3 for shape in moved)
