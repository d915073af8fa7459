"""The denoising loop of a Wan transformer as tapes: library's blocks, in pieces, weights in fp8."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from diffusers.hooks.layerwise_casting import LayerwiseCastingHook
from torch import nn

from webui.core.clip import SOLVERS, ClipCard, ClipRequest
from webui.core.gguf import GGUF
from webui.core.settings import FP8, Settings
from webui.estimator.tape import Tape
from webui.pipelines import wan
from webui.tracing.clips import CLIPS, ClipSizes, scaled_events
from webui.tracing.fit import STEP, Shape, fit_tape
from webui.tracing.gguf import places_of_events, restoring
from webui.tracing.pieces import FEW, MANY, PIECE, first_pieces, with_pieces
from webui.tracing.recorder import Event, Recorder
from webui.tracing.recording import record_run
from webui.tracing.wan_conditions import GIVEN, given_pictures, unread_clips

BLOCKS = 3
"""Transformer blocks that are run: the third is like all later ones, also when streamed."""
BLOCKS_OF_CONDITIONED = 4
"""Of loops that begin with a picture or follow a control clip: with three, up to 80 MiB less are
reserved than with four, with twelve, or with all."""
VARIABLES = ("n",)
"""Latent frames x height x width: all that the loop's sizes depend on."""
SHAPES = [{"f": 3, "h": 8, "w": 16}, {"f": 5, "h": 24, "w": 16}, {"f": 7, "h": 16, "w": 40}]
"""Two for the fit and one more that must lie on it; tokens (f h/2 w/2) that the numbers of pieces
divide."""

RequestOf = Callable[..., ClipRequest]
MODES = ("resident", "block", "leaf")
TRACED_SOLVER = "unipc"
"""Where one is traced for all: the one that keeps more."""
GUIDANCE = {"guided": 5.0, "single": 1.0}


def ways_of(card: ClipCard) -> dict[str, tuple[str, ...]]:
    """The loops that requests of a model may take, each with the pictures that lead to it.

    A model that may be given a picture but needs none has one loop with it and one without; a
    control model's loop is the same, longer by the picture's own latent frame.
    """
    if card.requires or not card.pictures or card.configs["transformer"].get("vace_layers"):
        return {"": card.requires}
    return {"": (), "image": card.pictures}


def prepared(
    pipe: Any, request: ClipRequest, settings: Settings
) -> tuple[Any, wan.Embeddings, wan.Conditions | None]:
    """What the loop starts from: the request's pipeline, embeddings, and conditions."""
    pipe = wan.pipeline_for(pipe, request)
    embeddings = wan.encode(pipe, request, settings)
    conditions = None
    if wan.takes_conditions(pipe):
        with given_pictures(), unread_clips(pipe.vae):
            conditions = wan.encode_conditions(pipe, request, settings)
    return pipe, embeddings, conditions


def tensors_of(
    embeddings: wan.Embeddings, conditions: wan.Conditions | None
) -> tuple[torch.Tensor, ...]:
    """What the loop is given, and which is no part of what it makes."""
    tensors = [embeddings.positive, embeddings.negative]
    if conditions is not None:
        tensors += [*conditions.latents, conditions.embeddings]
    return tuple(tensor for tensor in tensors if tensor is not None)


def blocks_of(card: ClipCard) -> int:
    """How many transformer blocks of a model are run."""
    conditioned = card.requires or card.configs["transformer"].get("vace_layers")
    return BLOCKS_OF_CONDITIONED if conditioned else BLOCKS


def shortened(card: ClipCard) -> ClipCard:
    """The card with the first blocks of its transformer, and of its image encoder, only."""
    lengths = {"transformer": "num_layers", "image_encoder": "num_hidden_layers"}
    short = {
        name: {**card.configs[name], key: blocks_of(card)}
        for name, key in lengths.items()
        # A control model's layers are named by their numbers; its blocks are cut once it is built.
        if name in card.configs and not card.configs[name].get("vace_layers")
    }
    return replace(card, configs={**card.configs, **short})


def trace_loops(
    card: ClipCard, settings: Settings, way: str, request_of: RequestOf
) -> dict[str, Tape]:
    """Every tape of the loop for one way, by name: `denoise.MODE.GUIDED.VARIANT`.

    The library's blocks are traced with each solver. With weights in fp8, in pieces, or both, once:
    the solvers differ by a latent or two of history, half a percent of the peak at 14B, and UniPC,
    which keeps more, is the one that is traced.
    """
    stored = [str(settings["precision"]), *([FP8] if settings["precision"] == "bf16" else [])]
    tapes = {}
    for mode, guided in product(MODES, GUIDANCE):
        workload = {"guidance": GUIDANCE[guided], **dict.fromkeys(ways_of(card)[way], GIVEN)}
        for precision, in_pieces in product(stored, (False, True)):
            names = [FP8] if precision == FP8 else []
            names += ["pieces"] if in_pieces else []
            chosen = settings | {"precision": precision}
            for solver in SOLVERS if not names else (TRACED_SOLVER,):
                asked = workload | {"solver": solver}
                name = ".".join(["denoise", mode, guided, *(names or [solver])])
                tapes[name] = trace_loop(card, chosen, mode, request_of, in_pieces, asked)
    return of_clips(tapes, card, settings, way, request_of)


def trace_quantized_loops(
    card: ClipCard,
    settings: Settings,
    way: str,
    request_of: RequestOf,
    modes: tuple[str, ...] = ("resident",),
) -> dict[str, Tape]:
    """The tapes of one way with quantised weights: with one solver.

    Args:
        card: the model.
        settings: of the pipeline.
        way: of `ways_of`.
        request_of: makes the request of a shape.
        modes: of `MODES`, those that the quantised weights go with.
    """
    tapes = {}
    for mode, guided, in_pieces in product(modes, GUIDANCE, (False, True)):
        workload = {"guidance": GUIDANCE[guided], **dict.fromkeys(ways_of(card)[way], GIVEN)}
        name = ".".join(["denoise", mode, guided, "pieces" if in_pieces else TRACED_SOLVER])
        asked = workload | {"solver": TRACED_SOLVER}
        tapes[name] = trace_loop(card, settings, mode, request_of, in_pieces, asked)
    return of_clips(tapes, card, settings, way, request_of)


def of_clips(
    tapes: dict[str, Tape], card: ClipCard, settings: Settings, way: str, request_of: RequestOf
) -> dict[str, Tape]:
    """The tapes of one way with what several clips change, from two recordings of such."""
    pictures = dict.fromkeys(ways_of(card)[way], GIVEN)
    workload = {"guidance": GUIDANCE["guided"], "solver": TRACED_SOLVER, **pictures}
    record = _recording(card, settings, "resident", request_of, workload)
    values = {"n": _values(SHAPES[-1]), PIECE: 1 / FEW}
    sizes = ClipSizes(whole_pieces=False)
    for name, chunks in ((TRACED_SOLVER, 1), ("pieces", FEW)):
        tape = tapes[f"denoise.resident.guided.{name}"]
        events = record(SHAPES[-1], chunks, CLIPS)
        sizes.learn(tape, scaled_events(tape, values, events))
    return {name: sizes.applied(tape) for name, tape in tapes.items()}


def trace_loop(
    card: ClipCard,
    settings: Settings,
    mode: str,
    request_of: RequestOf,
    in_pieces: bool,
    workload: dict[str, Any],
) -> Tape:
    """The loop's tape for one way of offloading.

    Args:
        card: the model.
        settings: of the pipeline; `ffn_chunks` is set here.
        mode: `resident`, `block` or `leaf`.
        request_of: makes the request of a shape.
        in_pieces: with the token-wise work in pieces; the tape then has the variable `piece`.
        workload: guidance, solver and pictures.

    Raises:
        NotOneTape: the events do not follow one pattern.
    """
    chunks = FEW if in_pieces else 1
    record = _recording(card, settings, mode, request_of, workload)
    recordings = [({"n": _values(shape)}, record(shape, chunks)) for shape in SHAPES]
    tape = fit_tape(recordings, VARIABLES)
    last = recordings[-1][1]
    if in_pieces:
        tape = with_pieces(tape, last, record(SHAPES[-1], MANY))
    if settings["quantization"] == GGUF:
        tape = replace(tape, places=places_of_events(last))
    return tape


def _recording(
    card: ClipCard, settings: Settings, mode: str, request_of: RequestOf, workload: dict[str, Any]
) -> Callable[..., list[Event]]:
    """What records the loop at a shape, with a number of pieces and of clips."""
    short = shortened(card)

    def record(shape: Shape, chunks: int, clips: int = 1) -> list[Event]:
        request = request_of(card, shape, batch=clips, **workload)
        chosen = settings | {"ffn_chunks": chunks}
        with first_pieces(), kept_storage():
            pipe = wan.build_meta(short, settings)
            del pipe.transformer.blocks[blocks_of(card) :]
            pipe, embeddings, conditions = prepared(pipe, request, settings)

            def run(recorder: Recorder) -> torch.Tensor:
                with restoring(recorder, settings):
                    return wan.denoise(
                        pipe,
                        embeddings,
                        request,
                        chosen,
                        conditions,
                        on_step=lambda *_: recorder.mark(STEP),
                    )

            given = tensors_of(embeddings, conditions)
            return record_run(pipe.transformer, mode, run, given, wants_recorder=True).events

    return record


def _values(shape: Shape) -> int:
    return shape["f"] * shape["h"] * shape["w"]


@contextmanager
def kept_storage() -> Iterator[None]:
    """Inside, a layer's fp8 values stay where they are while it computes in bf16.

    The library drops them then and makes them again afterwards, beside the bf16 ones: the most
    bytes are the same, and every other moment has at most one layer's fp8 more than on a card.
    """
    cast, cast_back = LayerwiseCastingHook.pre_forward, LayerwiseCastingHook.post_forward
    stored: dict[nn.Parameter, torch.Tensor] = {}

    def before(hook: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        stored.update({parameter: parameter.data for parameter in module.parameters()})
        return cast(hook, module, *args, **kwargs)

    def after(_: Any, module: nn.Module, output: Any) -> Any:
        for parameter in module.parameters():
            parameter.data = stored.pop(parameter)
        return output

    LayerwiseCastingHook.pre_forward, LayerwiseCastingHook.post_forward = before, after
    try:
        yield
    finally:
        LayerwiseCastingHook.pre_forward, LayerwiseCastingHook.post_forward = cast, cast_back
