"""What is traced of the Wan family: the encoders, the transformer's loop, the VAE's two ends."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from webui.core.clip import ClipCard
from webui.core.gguf import GGUF
from webui.core.settings import FP8, Settings
from webui.estimator.templates import FP16, text_name
from webui.pipelines import wan
from webui.tracing.fit import Shape, fit_costs, fit_tape, grid
from webui.tracing.gguf import TRACED_TYPE, kinds, places_of_weights, restoring
from webui.tracing.meta_kernels import cuda_kernels
from webui.tracing.recorder import Recorder
from webui.tracing.recording import record_run, weight_sizes
from webui.tracing.wan_conditions import trace_conditions, trace_image
from webui.tracing.wan_loop import MODES, prepared, trace_loops, trace_quantized_loops, ways_of
from webui.tracing.wan_request import request_of, settings_of
from webui.tracing.wan_vae import trace_vae

Arrays = dict[str, np.ndarray]

VARIABLES = ("f", "h", "w")
"""Latent frames, height and width."""
_SHAPES = [*grid(f=(3, 5), h=(8, 12), w=(16, 22)), {"f": 7, "h": 14, "w": 26}]
"""Eight corners for the fit and one more point that must lie on it."""


def trace_text(card: ClipCard, precision: str) -> Arrays:
    """Weights, the encode phase (resident and streamed), and its cost. No variables.

    Of the two halves fp16 is another: the library keeps some of the encoder's weights in fp32 then
    (transformers, `_keep_in_fp32_modules` of UMT5), and what follows them.
    """
    arrays = _encoder(card, precision)
    if precision == "bf16":
        fp16 = _encoder(card, FP16)
        arrays |= {text_name(name, FP16): array for name, array in fp16.items()}
    return arrays


def _encoder(card: ClipCard, precision: str) -> Arrays:
    arrays: Arrays = {}
    settings = settings_of(precision)
    for mode in ("resident", "leaf"):
        pipe = wan.build_meta(card, settings)
        arrays["weights"] = weight_sizes(pipe.text_encoder)
        request = request_of(card, _SHAPES[0])
        recording = record_run(
            pipe.text_encoder, mode, lambda p=pipe, r=request: wan.encode(p, r, settings)
        )
        arrays |= fit_tape([({}, recording.events)], ()).to_arrays(f"encode.{mode}")
        arrays["costs"] = fit_costs([({}, recording.costs)], ())
    return arrays


def trace_transformer(card: ClipCard, precision: str) -> Arrays:
    """Weights, the denoising loop for each way of offloading, and a forward pass's cost.

    Of a pair of transformers one is traced: they have one configuration.
    """
    card = single_expert(card)
    settings = settings_of(precision, text_encoder="absent")
    pipe = wan.build_meta(card, settings)
    arrays: Arrays = {"weights": weight_sizes(pipe.transformer)}
    if precision == "bf16":
        narrow = wan.build_meta(card, settings | {"precision": FP8})
        arrays["weights.fp8"] = weight_sizes(narrow.transformer)
    arrays["costs"] = _fitted_costs(card, settings)
    for way in ways_of(card):
        for name, tape in trace_loops(card, settings, way, request_of).items():
            arrays |= tape.to_arrays(f"{way}.{name}" if way else name)
    return arrays


def trace_quantized(card: ClipCard, precision: str, quantization: str) -> Arrays:
    """Quantised weights, the denoising loop with them, and a forward pass's cost.

    GGUF is traced with one type, and with what makes others of it (`webui.tracing.gguf`).
    """
    card = single_expert(card)
    changes = {"quantization": quantization, "gguf_type": TRACED_TYPE}
    settings = settings_of(precision, text_encoder="absent", **changes)
    pipe = wan.build_meta(card, settings)
    arrays: Arrays = {"weights": weight_sizes(pipe.transformer)}
    modes = MODES if quantization == GGUF else MODES[:1]
    if quantization == GGUF:
        arrays |= kinds() | {"weights.places": places_of_weights(pipe.transformer)}
    arrays["costs"] = _fitted_costs(card, settings)
    for way in ways_of(card):
        for name, tape in trace_quantized_loops(card, settings, way, request_of, modes).items():
            arrays |= tape.to_arrays(f"{way}.{name}" if way else name)
    return arrays


def single_expert(card: ClipCard) -> ClipCard:
    """The card with the first of its transformers only."""
    configs = {name: value for name, value in card.configs.items() if name != "transformer_2"}
    pipeline = {key: value for key, value in card.pipeline.items() if key not in _OF_A_PAIR}
    return replace(card, configs=configs, pipeline=pipeline)


_OF_A_PAIR = ("boundary_ratio", "guidance_2")


def _fitted_costs(card: ClipCard, settings: Settings) -> np.ndarray:
    """COSTS x monomials of a forward pass."""
    shapes = [*_SHAPES, {"f": 9, "h": 10, "w": 12}]
    return fit_costs([(shape, _pass_costs(card, settings, shape)) for shape in shapes], VARIABLES)


def _pass_costs(card: ClipCard, settings: Settings, shape: Shape) -> dict[str, float]:
    """As `step_costs`: blocks are equal, so that two of them tell what all cost."""
    config = card.configs["transformer"]
    if config.get("vace_layers"):
        return step_costs(card, settings, shape)
    one, two = (
        step_costs(
            replace(card, configs={**card.configs, "transformer": {**config, "num_layers": count}}),
            settings,
            shape,
        )
        for count in (1, 2)
    )
    more = int(config["num_layers"]) - 1
    return {name: one[name] + more * (two[name] - one[name]) for name in one}


def step_costs(card: ClipCard, settings: Settings, shape: Shape) -> dict[str, float]:
    """Cost of one step of the loop through all blocks, without guidance."""
    pipe = wan.build_meta(card, settings)
    request = request_of(card, shape, guidance=1.0, steps=1)
    pipe, embeddings, conditions = prepared(pipe, request, settings)
    recorder = Recorder()
    with torch.no_grad(), cuda_kernels(), recorder, restoring(recorder, settings):
        wan.denoise(pipe, embeddings, request, settings, conditions)
    return recorder.recording.costs


PARTS = {
    "text": trace_text,
    "image": trace_image,
    "transformer": trace_transformer,
    "transformer_int8": partial(trace_quantized, quantization="int8"),
    "transformer_nf4": partial(trace_quantized, quantization="nf4"),
    "transformer_int8wo": partial(trace_quantized, quantization="int8wo"),
    "transformer_fp8wo": partial(trace_quantized, quantization="fp8wo"),
    "transformer_gguf": partial(trace_quantized, quantization=GGUF),
    "vae": trace_vae,
    "conditions": trace_conditions,
}
"""The parts of the family's models, each with what traces it; those of a model are named by
`webui.estimator.templates.parts_of`."""
