"""What is traced of Stable Video Diffusion: the image encoder, the UNet's loop, the VAE's two ends.

Latent sides are multiples of 8 (the UNet halves them three times).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from typing import Any

import numpy as np
import torch
from PIL import Image

from webui.core.clip import ClipCard, ClipRequest
from webui.core.settings import Settings
from webui.estimator.tape import RELEASE, Tape, axial_cost_monomials
from webui.estimator.templates import SEVERAL
from webui.pipelines import svd
from webui.pipelines.modules import owned_tensors
from webui.pipelines.running import noise_sources
from webui.pipelines.svd.phases import encode_embedding, encode_latent
from webui.tracing.clips import CLIPS, ClipSizes, of_each, scaled_events
from webui.tracing.fit import Shape, fit_costs, fit_tape, grid
from webui.tracing.pieces import FEW, MANY, PIECE, first_pieces, with_pieces
from webui.tracing.recorder import Event, Recorder, Recording
from webui.tracing.recording import record_run, weight_sizes
from webui.tracing.slicing import Call, cut_calls, marked_calls

Arrays = dict[str, np.ndarray]

DECODER_SCALE = 8
"""Pixels of a latent's side."""
STEPS = 2
"""The solver keeps nothing: the second step is like all later ones."""
MODES = ("resident", "block", "leaf")
VARIABLES = ("f", "h", "w")
"""Frames, latent height and width."""
_SHAPES = [*grid(f=(3, 5), h=(16, 24), w=(32, 40)), {"f": 7, "h": 32, "w": 48}]
"""Eight corners for the fit and one more point that must lie on it."""
_PIECE_SHAPES = [*grid(f=(4, 8), h=(16, 32), w=(32, 64)), {"f": 12, "h": 48, "w": 32}]
"""Tokens of every level of the UNet are multiples of the numbers of pieces."""
_MORE_SHAPES = [{"f": 9, "h": 16, "w": 48}, {"f": 4, "h": 40, "w": 32}, {"f": 6, "h": 24, "w": 56}]
"""Costs have squares too, which take more points."""
_FLAT_SHAPES = [*grid(h=(16, 24), w=(32, 40)), {"h": 32, "w": 48}, {"h": 48, "w": 24}]
_GUIDANCE = {"guided": 3.0, "single": 1.0}


def request_of(card: ClipCard, shape: Shape, **changes: Any) -> ClipRequest:
    """A request whose latent has this shape."""
    defaults = card.defaults
    values: dict[str, Any] = {
        "prompt": "",
        "negative_prompt": "",
        "frames": shape.get("f", 1),
        "height": shape["h"] * DECODER_SCALE,
        "width": shape["w"] * DECODER_SCALE,
        "steps": STEPS,
        "guidance": defaults.guidance,
        "flow_shift": defaults.flow_shift,
        "solver": defaults.solver,
        "fps": defaults.fps,
        "seed": 0,
    }
    return ClipRequest(task="generate", model=card.name, **(values | changes))


def _settings(precision: str, **changes: Any) -> Settings:
    settings: Settings = {
        "precision": precision,
        "vae_precision": precision,
        "offload": "none",
        "image_encoder": "gpu",
        "decode_chunk": 1,
    }
    return settings | changes


def trace_image(card: ClipCard, precision: str) -> Arrays:
    """Weights of the image encoder, the picture's way through it, and its cost. No variables."""
    pipe = svd.build_meta(card, _settings(precision))
    arrays: Arrays = {"weights": weight_sizes(pipe.image_encoder)}
    for name, guidance in _GUIDANCE.items():
        request = request_of(card, {"h": 16, "w": 16}, guidance=guidance)
        image = Image.new("RGB", (request.width, request.height))
        recording = record_run(
            pipe.image_encoder,
            "resident",
            lambda r=request, i=image: encode_embedding(pipe, i, r),
        )
        arrays |= fit_tape([({}, recording.events)], ()).to_arrays(f"encode.{name}")
        arrays["costs"] = fit_costs([({}, recording.costs)], ())
    return arrays


def encoded_of(pipe: Any, request: ClipRequest) -> svd.Encoded:
    """A picture's embedding and latent on meta, as `encode` gives them."""
    copies = (2 if request.guidance > 1 else 1) * request.batch
    unet = pipe.unet.config
    sides = (request.height // DECODER_SCALE, request.width // DECODER_SCALE)
    channels = int(unet.in_channels) // 2
    embedding = (copies, 1, int(unet.cross_attention_dim))
    dtype = pipe.unet.dtype
    return svd.Encoded(
        torch.empty(embedding, dtype=dtype, device="meta"),
        torch.empty((copies, channels, *sides), dtype=dtype, device="meta"),
        noise_sources(request),
    )


def record_denoise(
    pipe: Any, request: ClipRequest, mode: str, settings: Settings | None = None
) -> Recording:
    """The denoise phase with the UNet resident or streamed."""
    encoded = encoded_of(pipe, request)
    return record_run(
        pipe.unet,
        mode,
        lambda: svd.denoise(pipe, encoded, request, settings),
        before=(encoded.embeddings, encoded.latents),
    )


def trace_unet(card: ClipCard, precision: str, modes: tuple[str, ...] = MODES) -> Arrays:
    """Weights, the denoising loop for each way of running it, and a step's cost."""
    settings = _settings(precision)
    pipe = svd.build_meta(card, settings)
    arrays: Arrays = {"weights": weight_sizes(pipe.unet)}
    for name, guidance in _GUIDANCE.items():
        costs = []
        for shape in (*_SHAPES, *_MORE_SHAPES):
            request = request_of(card, shape, guidance=guidance, steps=1)
            costs.append((shape, record_denoise(pipe, request, "resident").costs))
        arrays[f"costs.{name}"] = fit_costs(costs, VARIABLES, axial_cost_monomials)
    sizes = ClipSizes(whole_pieces=True)
    tapes: dict[str, Tape] = {}
    for mode, way, in_pieces in product(modes, WAYS, (False, True)):
        name = f"denoise.{mode}.{way}" + (".pieces" if in_pieces else "")
        tapes[name] = _trace_loop(card, settings, mode, way, in_pieces)
        if (mode, way) == (modes[0], WAYS[0]):
            record = _recording(card, settings, mode, way)
            shape, pieces = (_PIECE_SHAPES[-1], FEW) if in_pieces else (_SHAPES[-1], 1)
            values = {**shape, PIECE: 1 / FEW}
            events = record(shape, pieces, CLIPS)
            sizes.learn(tapes[name], scaled_events(tapes[name], values, events))
        if way != WAYS[0]:
            # Where one clip makes a batch of one, the library goes another way for several.
            tapes[f"{name}.{SEVERAL}"] = _trace_loop(card, settings, mode, way, in_pieces, CLIPS)
    for name, tape in tapes.items():
        known = sizes.applied(tape)
        arrays |= (of_each(known) if name.endswith(SEVERAL) else known).to_arrays(name)
    return arrays


WAYS = ("guided", "split", "single")
"""Guidance in one pass, in two, none."""


def _trace_loop(
    card: ClipCard, settings: Settings, mode: str, way: str, in_pieces: bool, clips: int = 1
) -> Tape:
    """The denoising loop's tape; in pieces it has the variable `piece`."""
    record = _recording(card, settings, mode, way)
    pieces, shapes = (FEW, _PIECE_SHAPES) if in_pieces else (1, _SHAPES)
    recordings = [(shape, record(shape, pieces, clips)) for shape in shapes]
    tape = fit_tape(recordings, VARIABLES)
    if not in_pieces:
        return tape
    return with_pieces(tape, recordings[-1][1], record(shapes[-1], MANY, clips))


def _recording(
    card: ClipCard, settings: Settings, mode: str, way: str
) -> Callable[..., list[Event]]:
    """What records the loop at a shape, with a number of pieces and of clips."""
    guidance = _GUIDANCE["single" if way == "single" else "guided"]

    def record(shape: Shape, pieces: int, clips: int = 1) -> list[Event]:
        chosen = settings | {"ffn_chunks": pieces, "split_guidance": way == "split"}
        pipe = svd.build_meta(card, settings)  # hooks stay on a module
        request = request_of(card, shape, guidance=guidance, batch=clips)
        with first_pieces():
            return record_denoise(pipe, request, mode, chosen).events

    return record


def trace_vae(card: ClipCard, precision: str) -> Arrays:
    """Weights; encoding the picture, in fp32 or as it is; decoding one chunk of frames."""
    arrays: Arrays = {}
    widths = {"plain": "bf16", "upcast": "fp16"} if precision != "fp32" else {"plain": "fp32"}
    for way, vae_precision in widths.items():
        settings = _settings(precision, vae_precision=vae_precision)
        for name, guidance in _GUIDANCE.items():
            recordings = []
            for shape in _FLAT_SHAPES:
                pipe = svd.build_meta(card, settings)
                arrays["weights"] = weight_sizes(pipe.vae)
                request = request_of(card, shape, guidance=guidance)
                recording, freed = record_encode(pipe, request)
                recordings.append((shape, recording))
                arrays[f"encode.{way}.{name}.outside"] = np.array(freed, dtype=np.int32)
            tape = fit_tape([(shape, one.events) for shape, one in recordings], ("h", "w"))
            arrays |= tape.to_arrays(f"encode.{way}.{name}")
            costs = [(shape, one.costs) for shape, one in recordings]
            arrays[f"encode.{way}.costs"] = fit_costs(costs, ("h", "w"))
    pipe = svd.build_meta(card, _settings(precision))
    for name, shapes, variables in (
        ("decode.many", _SHAPES + _MORE_SHAPES, VARIABLES),
        ("decode.one", _FLAT_SHAPES, ("h", "w")),
    ):
        calls = [(shape, _decode_call(pipe, shape)) for shape in shapes]
        arrays |= fit_tape([(s, call.events) for s, call in calls], variables).to_arrays(name)
        arrays[f"{name}.output"] = np.array(calls[0][1].output)
        costs = [({"f": 1, **shape}, call.costs) for shape, call in calls]
        if name == "decode.many":
            arrays["decode.costs"] = fit_costs(costs, VARIABLES, axial_cost_monomials)
    return arrays


def record_encode(pipe: Any, request: ClipRequest) -> tuple[Recording, list[int]]:
    """The picture through the VAE, and which of its weights the recording replaces, in order.

    A VAE in fp16 is made fp32 and back: its weights are other storages afterwards.
    """
    image = Image.new("RGB", (request.width, request.height))
    generator = torch.Generator("cpu").manual_seed(0)
    slots: dict[int, int] = {}

    def run(recorder: Recorder) -> torch.Tensor:
        tensors = owned_tensors(pipe.vae)
        slots.update({recorder.slot_of(tensor): i for i, tensor in enumerate(tensors)})
        return encode_latent(pipe, image, request, generator, pipe.unet.dtype)

    recording = record_run(pipe.vae, "resident", run, wants_recorder=True)
    return recording, _replaced(recording.events, slots)


def _replaced(events: list[Event], slots: dict[int, int]) -> list[int]:
    return [slots[event.slot] for event in events if event.kind == RELEASE and event.slot in slots]


def record_decode(pipe: Any, request: ClipRequest, chunk: int, marks: bool = False) -> Recording:
    """The decode phase, with a mark around each call of the decoder if asked for."""
    channels = int(pipe.unet.config.in_channels) // 2
    sides = (request.height // DECODER_SCALE, request.width // DECODER_SCALE)
    shape = (1, request.frames, channels, *sides)
    latents = torch.empty(shape, dtype=pipe.unet.dtype, device="meta")

    def run(recorder: Recorder) -> Any:
        with marked_calls(pipe.vae.decoder, recorder) if marks else nullcontext():
            return svd.decode(pipe, latents, {"decode_chunk": chunk})

    return record_run(pipe.vae, "resident", run, before=(latents,), wants_recorder=True)


def _decode_call(pipe: Any, shape: Shape) -> Call:
    """The decoder's call on one chunk of `f` frames."""
    request = request_of(pipe.card, shape)
    return cut_calls(record_decode(pipe, request, request.frames, marks=True))[0]


PARTS = {"image": trace_image, "unet": trace_unet, "vae": trace_vae}
"""The parts of the family's models, each with what traces it."""
