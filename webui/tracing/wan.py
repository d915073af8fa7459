"""What is traced of the Wan family: its text encoder, its transformer's loop, its decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from webui.core.clip import SOLVERS, ClipCard, ClipRequest
from webui.core.settings import Settings
from webui.pipelines import wan
from webui.tracing.fit import Shape, fit_costs, fit_tape, grid
from webui.tracing.meta_kernels import cuda_kernels
from webui.tracing.recorder import Recorder, Recording
from webui.tracing.recording import record_run, weight_sizes
from webui.tracing.slicing import cut_calls, marked_calls
from webui.tracing.wan_loop import BLOCKS, trace_loop

Arrays = dict[str, np.ndarray]

STEPS = 3
"""Enough for the solvers' history to fill: the third step is like all later ones."""
VARIABLES = ("f", "h", "w")
"""Latent frames, height and width."""
DECODER_CALLS = 4
"""Calls of the decoder that differ: the fourth is like all later ones."""

_SHAPES = [*grid(f=(3, 5), h=(8, 12), w=(16, 22)), {"f": 7, "h": 14, "w": 26}]
"""Eight corners for the fit and one more point that must lie on it."""
_FLAT_SHAPES = [*grid(h=(8, 12), w=(16, 22)), {"h": 14, "w": 26}]


def request_of(card: ClipCard, shape: Shape, **changes: Any) -> ClipRequest:
    """A request whose latent has this shape."""
    defaults = card.defaults
    ratio = card.configs["vae"].get("scale_factor_spatial") or 8
    values: dict[str, Any] = {
        "prompt": "a",
        "negative_prompt": "b",
        "frames": (shape["f"] - 1) * card.frame_step + 1,
        "height": shape["h"] * ratio,
        "width": shape["w"] * ratio,
        "steps": STEPS,
        "guidance": 5.0,
        "flow_shift": defaults.flow_shift,
        "solver": "unipc",
        "fps": defaults.fps,
        "seed": 0,
    }
    return ClipRequest(task="generate", model=card.name, **(values | changes))


def _settings(precision: str, **changes: Any) -> Settings:
    settings: Settings = {
        "precision": precision,
        "vae_precision": precision,
        "text_encoder": "gpu",
        "offload": "none",
        "vae_tiling": False,
        "vae_tile": 256,
        "vae_tile_overlap": 64,
        "channels_last": False,
    }
    return settings | changes


def trace_text(card: ClipCard, precision: str) -> Arrays:
    """Weights, the encode phase (resident and streamed), and its cost. No variables."""
    arrays: Arrays = {}
    for mode in ("resident", "leaf"):
        pipe = wan.build_meta(card, _settings(precision))
        encoder = pipe.text_encoder
        arrays["weights"] = weight_sizes(encoder)
        request = request_of(card, _SHAPES[0])
        recording = record_run(
            encoder, mode, lambda p=pipe, r=request: wan.encode(p, r, _settings(precision))
        )
        arrays |= fit_tape([({}, recording.events)], ()).to_arrays(f"encode.{mode}")
        arrays["costs"] = fit_costs([({}, recording.costs)], ())
    return arrays


def trace_transformer(card: ClipCard, precision: str) -> Arrays:
    """Weights, the denoising loop for each way of offloading, guided or not, by solver."""
    settings = _settings(precision, text_encoder="absent")
    pipe = wan.build_meta(card, settings)
    arrays: Arrays = {"weights": weight_sizes(pipe.transformer)}
    arrays["costs"] = fit_costs(
        [(shape, _forward_costs(pipe, shape)) for shape in [*_SHAPES, {"f": 9, "h": 10, "w": 12}]],
        VARIABLES,
    )
    for mode in ("resident", "block", "leaf"):
        for guidance, guided in ((5.0, "guided"), (1.0, "single")):
            for solver in SOLVERS:
                recordings = []
                for shape in _SHAPES:
                    pipe = wan.build_meta(card, settings)
                    del pipe.transformer.blocks[BLOCKS:]
                    request = request_of(card, shape, guidance=guidance, solver=solver)
                    embeddings = wan.encode(pipe, request, settings)

                    def run(
                        pipe: Any = pipe, embeddings: Any = embeddings, request: Any = request
                    ) -> Any:
                        return wan.denoise(pipe, embeddings, request)

                    recordings.append((shape, record_run(pipe.transformer, mode, run).events))
                tape = fit_tape(recordings, VARIABLES)
                arrays |= tape.to_arrays(f"denoise.{mode}.{guided}.{solver}")
    return arrays | trace_variants(card, precision)


def trace_variants(card: ClipCard, precision: str) -> Arrays:
    """What the loop becomes with weights in fp8, in pieces, and both.

    Once for both solvers: they differ by a latent or two of history, half a percent of the peak
    at 14B, and UniPC, which keeps more, is the one that is traced.
    """
    settings = _settings(precision, text_encoder="absent")
    arrays: Arrays = {}
    precisions = [precision]
    if precision == "bf16":
        precisions.append("fp8")
        pipe = wan.build_meta(card, settings | {"precision": "fp8"})
        arrays["weights.fp8"] = weight_sizes(pipe.transformer)
    for mode in ("resident", "block", "leaf"):
        for guidance, guided in ((5.0, "guided"), (1.0, "single")):
            for stored in precisions:
                for in_pieces in (False, True):
                    names = [mode, guided, *(["fp8"] if stored == "fp8" else [])]
                    names += ["pieces"] if in_pieces else []
                    if len(names) == 2:
                        continue
                    chosen = settings | {"precision": stored}
                    workload = {"guidance": guidance, "solver": "unipc"}
                    tape = trace_loop(card, chosen, mode, request_of, in_pieces, workload)
                    arrays |= tape.to_arrays("denoise." + ".".join(names))
    return arrays


def _forward_costs(pipe: Any, shape: Shape) -> dict[str, float]:
    """Cost of one pass through all blocks."""
    transformer = pipe.transformer
    channels = int(transformer.config.in_channels)
    recorder = Recorder()
    meta = torch.device("meta")
    latent = torch.empty(
        (1, channels, shape["f"], shape["h"], shape["w"]), dtype=transformer.dtype, device=meta
    )
    text = torch.empty(
        (1, pipe.card.max_sequence_length, int(transformer.config.text_dim)),
        dtype=transformer.dtype,
        device=meta,
    )
    time = torch.empty((1,), dtype=torch.int64, device=meta)
    with torch.no_grad(), cuda_kernels(), recorder:
        transformer(hidden_states=latent, timestep=time, encoder_hidden_states=text)
    return recorder.recording.costs


def trace_vae(card: ClipCard, precision: str) -> Arrays:
    """Weights and the decoder's calls, with contiguous and with channels-last weights."""
    arrays: Arrays = {}
    for name, channels_last in (("contiguous", False), ("channels_last", True)):
        settings = _settings(precision, channels_last=channels_last)
        pipe = wan.build_meta(card, settings | {"text_encoder": "absent"})
        arrays["weights"] = weight_sizes(pipe.vae)
        runs = []
        for flat in _FLAT_SHAPES:
            shape = {"f": DECODER_CALLS, **flat}
            runs.append((flat, cut_calls(record_decode(pipe, shape, settings))))
        for index in range(DECODER_CALLS):
            calls = [(flat, run[index]) for flat, run in runs]
            tape = fit_tape([(flat, call.events) for flat, call in calls], ("h", "w"))
            prefix = f"decode.{name}.{index}"
            arrays |= tape.to_arrays(prefix)
            arrays[f"{prefix}.outside"] = np.array(calls[0][1].outside, dtype=np.int32)
            arrays[f"{prefix}.output"] = np.array(calls[0][1].output)
            arrays[f"{prefix}.costs"] = fit_costs(
                [(flat, call.costs) for flat, call in calls], ("h", "w")
            )
    return arrays


def record_decode(pipe: Any, shape: Shape, settings: Settings) -> Recording:
    """One decode phase, with a mark around each call of the decoder."""
    card: ClipCard = pipe.card
    channels = int(card.configs["vae"]["z_dim"])
    latents = torch.empty(
        (1, channels, shape["f"], shape["h"], shape["w"]), dtype=torch.float32, device="meta"
    )

    def run(recorder: Recorder) -> Any:
        with marked_calls(pipe.vae.decoder, recorder):
            return wan.decode(pipe, latents, settings)

    return record_run(pipe.vae, "resident", run, before=(latents,), wants_recorder=True)


PARTS = {"text": trace_text, "transformer": trace_transformer, "vae": trace_vae}
"""The parts of the family's models, each with what traces it."""
