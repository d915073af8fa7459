"""What a run trains: the library's model, where it is, and which of its parts repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from webui.core.training import TrainCard
from webui.pipelines.placement import Placement

PHASES = ("forward", "backward", "optimizer")


@dataclass(eq=False)
class Trainee:
    """One model with its place. Not a library pipeline: there is none for training."""

    card: TrainCard
    model: Any
    """A `Qwen2_5_VLForConditionalGeneration`."""
    placement: Placement
    run_device: torch.device


def new_placement(device: torch.device) -> Placement:
    """The whole model stays on the device: a step of the optimizer needs all of it."""
    return Placement({"model": "always"}, {"model": PHASES}, device)


def layers_of(model: Any) -> tuple[torch.nn.Module, ...]:
    """The blocks of the vision tower and the layers of the language model."""
    return (*model.model.visual.blocks, *model.model.language_model.layers)
