"""The calls of a Wan VAE's encoder and decoder, which repeat frame after frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from webui.core.clip import ClipCard
from webui.core.settings import Settings
from webui.estimator.tape import cost_monomials
from webui.pipelines import wan
from webui.tracing.fit import Shape, fit_costs, fit_tape, grid
from webui.tracing.recorder import Recorder, Recording
from webui.tracing.recording import record_run, weight_sizes
from webui.tracing.slicing import Call, cut_calls, marked_calls
from webui.tracing.wan_request import settings_of

Arrays = dict[str, np.ndarray]
Record = Callable[[Any, Shape, Settings], Recording]

CALLS = 4
"""Calls that differ: the fourth is like all later ones."""
CHUNK = 4
"""Frames of a call of the encoder, but for the first, which has one."""
ENCODER_SCALE = 8
"""Sides of what the encoder is given, over those of the latent."""
_SHAPES = [*grid(h=(8, 12), w=(16, 22)), {"h": 14, "w": 26}]
"""Four corners for the fit and one more point that must lie on it."""
_VARIABLES = ("h", "w")


def trace_vae(card: ClipCard, precision: str) -> Arrays:
    """Weights and the calls of both ends, with contiguous and with channels-last weights."""
    arrays: Arrays = {}
    ends: dict[str, Record] = {"decode": record_decode, "encode": record_encode}
    for end, record in ends.items():
        for order, channels_last in (("contiguous", False), ("channels_last", True)):
            settings = settings_of(precision, channels_last=channels_last, text_encoder="absent")
            pipe = wan.build_meta(card, settings)
            arrays["weights"] = weight_sizes(pipe.vae)
            runs = [
                (shape, cut_calls(record(pipe, {"f": CALLS, **shape}, settings)))
                for shape in _SHAPES
            ]
            arrays |= _segments(f"{end}.{order}", runs)
    return arrays


def _segments(name: str, runs: list[tuple[Shape, list[Call]]]) -> Arrays:
    arrays: Arrays = {}
    for index in range(CALLS):
        calls = [(shape, run[index]) for shape, run in runs]
        prefix = f"{name}.{index}"
        tape = fit_tape([(shape, call.events) for shape, call in calls], _VARIABLES)
        arrays |= tape.to_arrays(prefix)
        arrays[f"{prefix}.outside"] = np.array(calls[0][1].outside, dtype=np.int32)
        arrays[f"{prefix}.output"] = np.array(calls[0][1].output)
        arrays[f"{prefix}.costs"] = fit_costs(
            [(shape, call.costs) for shape, call in calls], _VARIABLES, cost_monomials
        )
    return arrays


def record_decode(pipe: Any, shape: Shape, settings: Settings) -> Recording:
    """One decode phase, with a mark around each call of the decoder."""
    channels = int(pipe.card.configs["vae"]["z_dim"])
    latents = torch.empty(
        (1, channels, shape["f"], shape["h"], shape["w"]), dtype=torch.float32, device="meta"
    )

    def run(recorder: Recorder) -> Any:
        with marked_calls(pipe.vae.decoder, recorder):
            return wan.decode(pipe, latents, settings)

    return record_run(pipe.vae, "resident", run, before=(latents,), wants_recorder=True)


def record_encode(pipe: Any, shape: Shape, settings: Settings) -> Recording:
    """A clip through the encoder, with a mark around each call."""
    vae = pipe.vae
    wan.set_tiling(vae, settings)
    patch = vae.config.patch_size or 1
    sides = [shape[name] * ENCODER_SCALE * patch for name in _VARIABLES]
    frames = 1 + CHUNK * (shape["f"] - 1)
    clip = torch.empty((1, 3, frames, *sides), dtype=vae.dtype, device="meta")

    def run(recorder: Recorder) -> Any:
        with torch.no_grad(), marked_calls(vae.encoder, recorder):
            return vae._encode(clip)

    return record_run(vae, "resident", run, before=(clip,), wants_recorder=True)
