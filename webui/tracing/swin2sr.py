"""What is traced of Swin2SR: one batch of frames, or of tiles of them, through each of its models.

Variables: b pictures at a time; y rows and x columns of pixels of each; h and w of those that are
filled up to whole windows of the attention.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from webui.core.upscale import UpscaleCard
from webui.estimator.tape import Terms, term_values
from webui.pipelines import swin2sr
from webui.tracing.fit import Shape, fit_costs, fit_tape
from webui.tracing.recorder import Recording
from webui.tracing.recording import record_run, weight_sizes
from webui.tracing.written import products

Arrays = dict[str, np.ndarray]

_TERMS: dict[str, Terms] = {
    "whole": products("", "h", "w", "hw", "b", "bhw"),
    "padded": products("", "h", "w", "hw", "b", "bhw", "by", "bx", "bxy"),
    "whole.one": products("", "h", "w", "hw"),
    "padded.one": products("", "h", "w", "hw", "y", "x", "xy"),
}
"""By whether pictures are of whole windows, or filled up to them; and of one alone, whose layout
convolutions take for another (`webui.tracing.scratch.is_channels_last`)."""
_SIDES: dict[str, tuple[tuple[float, float], ...]] = {
    "whole": ((2, 2), (3, 2), (2, 5), (4, 4), (5, 3), (3, 6), (6, 5), (4, 2)),
    "padded": (
        (1.5, 2),
        (3, 1.75),
        (2, 4.5),
        (3.25, 4),
        (4.5, 2.75),
        (2.75, 5.5),
        (6, 4.5),
        (1.75, 1.25),
        (5.5, 6),
        (3.5, 2.25),
        (2.25, 3.75),
    ),
}
"""In windows."""


def shapes_of(card: UpscaleCard, component: str, way: str) -> list[Shape]:
    """The shapes that a way is traced at."""
    window = int(card.configs[component]["window_size"])
    found = []
    filling, _, alone = way.partition(".")
    for number, (tall, wide) in enumerate(_SIDES[filling]):
        rows, columns = int(tall * window), int(wide * window)
        found.append(shape_of(window, 1 if alone else 2 + number % 3, rows, columns))
    return found


def shape_of(window: int, batch: int, rows: int, columns: int) -> Shape:
    """The variables of a batch of pictures."""
    filled = {"h": -(-rows // window) * window, "w": -(-columns // window) * window}
    return {"b": batch, "y": rows, "x": columns, **filled}


def record_batch(card: UpscaleCard, precision: str, component: str, shape: Shape) -> Recording:
    """One batch on meta."""
    pipe = swin2sr.build_meta(card, {"precision": precision})
    scale = int(component.removeprefix("x"))

    def run() -> torch.Tensor:
        frames = torch.zeros((shape["b"], shape["y"], shape["x"], 3), dtype=torch.uint8)
        return swin2sr.upscale(pipe, frames.to("meta"), scale)

    return record_run(pipe.model(scale), "resident", run)


def trace_model(card: UpscaleCard, precision: str, component: str) -> Arrays:
    """Weights of one scale's model, and a batch with its cost."""
    pipe = swin2sr.build_meta(card, {"precision": precision})
    scale = int(component.removeprefix("x"))
    arrays: Arrays = {"weights": weight_sizes(pipe.model(scale))}
    for way, terms in _TERMS.items():
        shapes = shapes_of(card, component, way)
        runs = [(shape, record_batch(card, precision, component, shape)) for shape in shapes]
        names = tuple(sorted({name for term in terms for name in term}))
        tape = fit_tape([(shape, run.events) for shape, run in runs], names, terms)
        arrays |= tape.to_arrays(way)
        costs = [(shape, run.costs) for shape, run in runs]
        arrays[f"{way}.costs"] = fit_costs(costs, (), partial(_values, terms))
    return arrays


def _values(terms: Terms, shape: Shape, _: tuple[str, ...]) -> np.ndarray:
    return term_values(shape, terms)


PARTS = {name: partial(trace_model, component=name) for name in ("x2", "x4")}
"""The parts of the family's models, each with what traces it."""
