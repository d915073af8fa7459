"""What is traced of FlashVSR: each phase's calls, for every way of doing them.

Variables: b tiles at a time; y rows and x columns of pixels of a tile's result; h and w of its
tokens, which are of whole windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from webui.core.upscale import COLOURS, UpscaleCard
from webui.estimator.tape import Terms, term_values
from webui.pipelines import flashvsr
from webui.tracing.fit import NotOneTape, Shape, fit_costs, fit_tape
from webui.tracing.flashvsr_calls import LAYERS, Phase, phases_of
from webui.tracing.flashvsr_run import (
    JOINED,
    record_decode,
    record_join,
    record_segments,
    settings_of,
    tokens_of,
    with_layers,
)
from webui.tracing.recording import weight_sizes
from webui.tracing.written import products

Arrays = dict[str, np.ndarray]
Run = tuple[Shape, Phase]

MODES = ("resident", "leaf")
KEPT_CALLS = 4
"""Calls that differ, in all phases: the fourth is like all later ones, also in what it frees of the
one before."""
_FLAT: Terms = products("", "b", "bh", "bw", "bhw")
"""Of convolutions, which repeat the borders; attention grows with the square of what it looks over,
which is a term of its own."""
_TERMS: dict[str, Terms] = {
    "project": _FLAT,
    "denoise": products("", "h", "w", "hw", "hwhw", "b", "bhw", "bhwhw"),
    "decode": (*_FLAT, *products("by", "bx", "bxy", "bhwhw")),
    "join": products("", "y", "x", "xy"),
}
_SEVERAL = (2, 3)
"""Tiles at a time. Where several are copied and a single one is not, the copies are traced: they
are small and gone before the peak."""
_SIDES = ((128, 256), (256, 128), (256, 256), (384, 256), (256, 640), (384, 384))
_MORE_SIDES = ((384, 128), (128, 640), (512, 256))
_CUT_SIDES = ((100, 256), (256, 200), (200, 140), (120, 380), (376, 132))
"""Not of whole windows."""


def _shapes(batches: Sequence[int], sides: Sequence[tuple[int, int]]) -> list[Shape]:
    """The sides, each with one of the batches."""
    return [
        tokens_of({"b": batches[number % len(batches)], "y": side[0], "x": side[1]})
        for number, side in enumerate(sides)
    ]


def trace_projection(card: UpscaleCard, precision: str) -> Arrays:
    """Weights, and the calls on a clip of frames."""
    settings, short = settings_of(precision), with_layers(card, 1)
    runs = []
    for shape in _shapes((1, 2, 3, 2), _SIDES):
        recorded = record_segments(short, settings, shape, chunks=1, decodes=False)
        runs.append((shape, phases_of(recorded, 1)["project"][0]))
    weights = weight_sizes(flashvsr.build_meta(short, settings).projection)
    return {"weights": weights} | _arrays("project", runs, _TERMS["project"])


def trace_streaming(card: UpscaleCard, precision: str, modes: tuple[str, ...] = MODES) -> Arrays:
    """Weights of the transformer, and its calls on a chunk; `again` is another segment's first,
    which finds the prompt's keys and streamed weights in their order."""
    settings = settings_of(precision)
    layers = int(card.configs["transformer"]["num_layers"])
    arrays: Arrays = {"weights": weight_sizes(flashvsr.build_meta(card, settings).transformer)}
    short = with_layers(card, min(layers, LAYERS))
    for mode in modes:
        segments = 1 if mode == "resident" else 2
        runs = []
        for shape in _shapes(_SEVERAL, (*_SIDES, *_MORE_SIDES)):
            recorded = record_segments(
                short, settings, shape, mode, chunks=2, segments=segments, decodes=False
            )
            runs.append((shape, phases_of(recorded, min(layers, LAYERS), layers)["denoise"]))
        for segment in range(segments):
            name = f"denoise.{mode}" + (".again" if segment else "")
            found = [(shape, phases[segment]) for shape, phases in runs]
            arrays |= _arrays(name, found, _TERMS["denoise"])
    return arrays


def trace_decoder(card: UpscaleCard, precision: str, kind: str = "tiny") -> Arrays:
    """Weights of a decoder, its calls on a latent frame, and joined frames' colours."""
    settings, short = settings_of(precision, decoder=kind), with_layers(card, 1)
    pipe = flashvsr.build_meta(short, settings)
    arrays: Arrays = {"weights": weight_sizes(pipe.vae if kind == "full" else pipe.decoder)}
    shapes = _shapes((1, 2, 3, 2) if kind == "tiny" else _SEVERAL, (*_CUT_SIDES, *_SIDES))
    for way in (*COLOURS, JOINED):
        runs = []
        for shape in shapes:
            recorded = record_decode(short, settings, shape, way)
            runs.append((shape, phases_of(recorded, 1)["decode"][0]))
        arrays |= _arrays(f"decode.{way}", runs, _TERMS["decode"])
    for colour in COLOURS[:2]:
        runs = []
        for shape in shapes:
            recorded = record_join(short, settings, shape, colour)
            runs.append((shape, phases_of(recorded, 1)["decode"][0]))
        arrays |= _arrays(f"join.{colour}", runs, _TERMS["join"])
    return arrays


def _arrays(name: str, runs: list[Run], terms: Terms) -> Arrays:
    """The tapes and costs of a phase's calls `NAME.0`, `NAME.1`, ..., and what it leaves.

    Raises:
        NotOneTape: the calls do not follow one pattern.
    """
    arrays: Arrays = {}
    first = runs[0][1]
    last = first.calls[: KEPT_CALLS + 1][-2:]
    if len(first.calls) > KEPT_CALLS and last[0].outside != last[1].outside:
        raise NotOneTape("a later call frees other things than the one before it")
    variables = tuple(sorted({variable for term in terms for variable in term}))
    for number in range(min(KEPT_CALLS, len(first.calls))):
        calls = [(shape, phase.calls[number]) for shape, phase in runs]
        prefix = f"{name}.{number}"
        if any(call.outside != calls[0][1].outside for _, call in calls):
            raise NotOneTape("what a call frees of others differs between the shapes")
        tape = fit_tape([(shape, call.events) for shape, call in calls], variables, terms)
        arrays |= tape.to_arrays(prefix)
        arrays[f"{prefix}.outside"] = np.array(calls[0][1].outside, dtype=np.int32).reshape(-1, 2)
        arrays[f"{prefix}.output"] = np.array(calls[0][1].output)
        costs = [(shape, call.costs) for shape, call in calls]
        arrays[f"{prefix}.costs"] = fit_costs(costs, (), partial(_values, terms))
    for left in ("lasting", "kept"):
        slots = [getattr(phase, left) for _, phase in runs]
        if any(one != slots[0] for one in slots):
            raise NotOneTape("what a phase leaves differs between the shapes")
        arrays[f"{name}.{left}"] = np.array(slots[0], dtype=np.int32)
    return arrays


def _values(terms: Terms, shape: Shape, _: tuple[str, ...]) -> np.ndarray:
    return term_values(shape, terms)


PARTS = {
    "projection": trace_projection,
    "streaming": trace_streaming,
    "decoder": trace_decoder,
    "vae": partial(trace_decoder, kind="full"),
}
"""The parts of the family's models, each with what traces it."""
