"""Requests as sliders at random places make them: for timing, any model and any card."""

from __future__ import annotations

import random
from typing import Any

from webui.catalogue import load_cards
from webui.core.clip import ClipCard
from webui.core.language import TextCard
from webui.core.pages import PageCard
from webui.core.training import TrainCard

CARDS = ("rtx-4060", "rtx-3060-12gb", "rtx-4060-ti-16gb", "rtx-4090", "h200")


def random_request(draw: random.Random) -> dict[str, Any]:
    """A workload of one of the catalogue's models, within its limits, on one of five cards."""
    model = draw.choice(list(load_cards().values()))
    asked: dict[str, Any] = {"model": model.name, "task": model.task, "card": draw.choice(CARDS)}
    if isinstance(model, ClipCard):
        sides = range(max(model.min_side, 128), min(model.max_side, 976), model.size_multiple)
        most = (min(model.max_frames, 161) - 1) // model.frame_step
        asked |= {
            "frames": max(model.min_frames, model.frame_step * draw.randint(0, most) + 1),
            "height": draw.choice(sides),
            "width": draw.choice(sides),
            "steps": draw.randint(1, 60),
            **dict.fromkeys(model.requires, "picture"),
        }
    elif isinstance(model, PageCard):
        asked |= {
            "height": draw.randint(400, 3000),
            "width": draw.randint(400, 3000),
            "new_tokens": draw.randint(64, 4096),
            "pages": draw.randint(1, 64),
        }
    elif isinstance(model, TextCard):
        asked |= {
            "prompt_tokens": draw.randint(16, 4096),
            "new_tokens": draw.randint(16, 4096),
            "batch": draw.randint(1, 16),
        }
    elif isinstance(model, TrainCard):
        asked |= {
            "image_size": draw.choice(range(56, 449, 28)),
            "sequence_length": draw.randint(512, 8192),
            "batch": draw.randint(1, 8),
        }
    return asked
