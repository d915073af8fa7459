"""Requests and their estimates, as the tests of this folder ask for them."""

from __future__ import annotations

import random
from typing import Any

from webui.catalogue import find_model, models_of
from webui.core.clip import ClipCard
from webui.core.parse import parse_request
from webui.core.plan import Estimate
from webui.core.settings import SETTINGS, refused_together, with_defaults
from webui.core.units import GIB
from webui.estimator.case import Case
from webui.estimator.estimate import estimate
from webui.estimator.target import Target
from webui.hardware import find_card

WAN = "wan2.1-t2v-1.3b"


def target(card: str = "h200", gib: float | None = None, **changes: Any) -> Target:
    found = find_card(card)
    limit = found.vram_bytes if gib is None else int(gib * GIB)
    return Target(card=found, limit_bytes=limit, host=find_card("cpu"), **changes)


def run(card: str = "h200", gib: float | None = None, **data: Any) -> Estimate:
    """The estimate of a request; settings not named have their defaults."""
    request = parse_request({"model": WAN, **data}, find_model)
    model = find_model(request.model)
    return estimate(
        model, request, with_defaults(request.settings, model.settings), target(card, gib)
    )


def peaks(phases: tuple[str, ...], card: str = "h200", **data: Any) -> list[int]:
    """Live bytes of phases, which need no replay."""
    request = parse_request({"model": WAN, **data}, find_model)
    model = find_model(request.model)
    settings = with_defaults(request.settings, model.settings)
    case = Case(model, request, settings, target(card))
    return [case.peak_bytes(phase) for phase in phases]


def random_requests(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Workloads and settings of all kinds of clips, small enough to replay quickly."""
    chance = random.Random(seed)
    models = list(models_of(ClipCard))
    found = []
    for _ in range(count):
        model = models_of(ClipCard)[chance.choice(models)]
        multiple, step = model.size_multiple, model.frame_step
        sides = range(max(64, model.min_side), 400, multiple)
        settings: dict[str, Any] = {
            name: chance.choice(model.setting_values.get(name) or SETTINGS[name].choices)
            for name in model.settings
            if SETTINGS[name].choices
        }
        if refused_together(settings) is not None:
            settings.pop("quantization")
        if settings.get("vae_tiling"):
            settings["vae_tile"] = chance.choice((64, 128, 192, 256, 320))
        data = {
            "model": model.name,
            "frames": max(model.min_frames, step * chance.randrange(0, 32 // step) + 1),
            "height": chance.choice(sides),
            "width": chance.choice(sides),
            "steps": chance.randrange(2, 60),
            "guidance": chance.choice((1.0, 5.0)),
            "settings": settings,
        }
        if "solver" in model.workload:
            data["solver"] = chance.choice(("unipc", "dpm++"))
        pictures = [key for key in ("image", "last_image") if key in model.workload]
        data |= {key: "picture" for key in pictures if chance.random() < 0.5}
        found.append(data)
    return found


PHASES = ("encode", "image_encode", "denoise", "denoise_high", "denoise_low", "decode")
