"""Records a run of FlashVSR on meta: the real loop over blocks and chunks, cut into its calls.

A call is what a phase repeats: a clip through the projection, a chunk through the transformer, a
latent frame through the decoder. Each goes on until the next one begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from webui.core.settings import Settings
from webui.core.upscale import UpscaleCard
from webui.estimator.tape import COSTS, RELEASE, SCRATCH
from webui.pipelines import flashvsr
from webui.pipelines.flashvsr import blocks as blocks_module
from webui.pipelines.flashvsr.blocks import Blocks, _Video
from webui.pipelines.flashvsr.frames import Reader
from webui.pipelines.flashvsr.run import _join
from webui.pipelines.flashvsr.stream import LATENT_CHANNELS, Stream
from webui.pipelines.modules import owned_tensors
from webui.pipelines.tiles import Tile
from webui.tracing.cutting import FIRST_LAYERS, LAST_LAYERS, LAYER, Piece, cut_pieces
from webui.tracing.fit import NotOneTape, Shape
from webui.tracing.recorder import MARK, Event, Recorder, Recording
from webui.tracing.recording import record_run

SCALE = 4
TOKEN_PX, WINDOW_PX, LATENT_PX = 16, 128, 8
"""Pixels of the result along a token, a window of tokens, and a latent."""
DECODED = 4
"""Latent frames that are decoded for a tape: the third is like all later ones."""
CALLS = {"project": "clip", "denoise": "chunk", "decode": "latent"}
"""What each phase repeats."""
FIRST_FRAMES, CHUNK_FRAMES = 21, 8
LAYERS = FIRST_LAYERS + 1 + LAST_LAYERS
"""Layers of the transformer that are run: the fourth stands for all others."""
JOINED = "joined"
"""The way of tiles that are yet to be joined, beside those of `colour`."""
_END = "end"


@dataclass(slots=True)
class Call:
    """One call: its events, and how it hangs on those of its phase before it."""

    events: list[Event] = field(default_factory=list)
    outside: list[tuple[int, int]] = field(default_factory=list)
    """For each storage of earlier calls that it frees: calls back, and number in that call."""
    output: int = -1
    """Number of the storage that goes to the next phase (a chunk's latents)."""
    costs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))


@dataclass(slots=True)
class Phase:
    """The calls of a phase in one block, and what is left when it ends."""

    calls: list[Call] = field(default_factory=list)
    lasting: list[int] = field(default_factory=list)
    """Numbers in the first call: what stays until the segment ends."""
    kept: list[int] = field(default_factory=list)
    """Numbers in the last call: what the next block's first call takes over."""


@dataclass(slots=True)
class Recorded:
    """A run, and which storages are its chunks' latents."""

    recording: Recording
    outputs: set[int]


def settings_of(precision: str, **changes: Any) -> Settings:
    """Settings of a pipeline to record."""
    return {"precision": precision, "decoder": "tiny", "sparsity": "stable", **changes}


def with_layers(card: UpscaleCard, count: int) -> UpscaleCard:
    """The card with the first blocks of its transformer only."""
    config = {**card.configs["transformer"], "num_layers": count}
    return replace(card, configs={**card.configs, "transformer": config})


def tokens_of(shape: Shape) -> Shape:
    """The shape with rows and columns of tokens: its pixels are filled up to whole windows."""
    per_window = WINDOW_PX // TOKEN_PX
    rows, columns = (-(-shape[side] // WINDOW_PX) * per_window for side in ("y", "x"))
    return {**shape, "h": rows, "w": columns}


class _Report:
    """Marks the recording where the run reports."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._phase = ""
        self._layer = 0

    def begin(self, phase: str, continues: bool = False) -> None:
        self._phase = phase
        self._recorder.mark(phase)
        if phase == "denoise":
            self._begin_chunk()

    def _begin_chunk(self) -> None:
        self._layer = 0
        self._recorder.mark(CALLS["denoise"])

    def warmed_up(self) -> None:
        """Nothing is warmed up on meta."""

    def check(self) -> None:
        if self._phase == "denoise":
            self._recorder.mark(LAYER, self._layer)
            self._layer += 1
        else:
            self._recorder.mark(CALLS.get(self._phase, self._phase))

    def step(self, done: int, total: int) -> None:
        if self._phase == "denoise":
            self._begin_chunk()

    def latent_step(self, done: int, total: int, latents: torch.Tensor) -> None:
        """There is nothing to show."""


def record_segments(
    card: UpscaleCard,
    settings: Settings,
    shape: Shape,
    mode: str = "resident",
    way: str = "adain",
    chunks: int = 2,
    segments: int = 1,
    decodes: bool = True,
    block_frames: int = blocks_module.BLOCK_FRAMES,
) -> Recorded:
    """A run over short segments.

    Args:
        card: the model.
        settings: of the pipeline.
        shape: b tiles at a time, y rows and x columns of pixels of each one's result.
        mode: how the transformer's weights live, `resident` or `leaf`.
        way: the colour of the request, or `joined`.
        chunks: of each segment.
        segments: how many.
        decodes: whether latents become frames.
        block_frames: that pass one phase before the next one follows.
    """
    pipe = flashvsr.build_meta(card, settings)
    outputs: set[int] = set()
    tile = Tile(0, 0, shape["y"] // SCALE, shape["x"] // SCALE)
    tiles = (tile,) * shape["b"]
    count = FIRST_FRAMES + CHUNK_FRAMES * (chunks - 1)
    colour = None if way == JOINED else way

    def run(recorder: Recorder) -> Any:
        report, total = _Report(recorder), count * segments
        blocks = Blocks(pipe, _request_of(tile), settings, report, total, block_frames)
        with _marked(pipe, recorder, outputs, decodes):
            for _ in range(segments):
                recorder.mark("begin")
                with Reader(_frames(tile, count), tiles, SCALE) as reader:
                    segment = SimpleNamespace(count=count)
                    for _ in blocks.restore(reader, segment, tiles, colour):
                        """All is recorded by now."""
                recorder.mark(_END)
        return blocks

    return Recorded(_record(pipe, mode, run), outputs)


def record_decode(card: UpscaleCard, settings: Settings, shape: Shape, way: str) -> Recorded:
    """The first latent frames of a segment through the decoder alone."""
    pipe = flashvsr.build_meta(card, settings)
    tile = Tile(0, 0, shape["y"] // SCALE, shape["x"] // SCALE)
    tiles = (tile,) * shape["b"]
    area = [shape[side] * TOKEN_PX // LATENT_PX for side in ("h", "w")]
    latents = torch.empty((shape["b"], LATENT_CHANNELS, DECODED, *area), device="meta")
    chunk: Any = SimpleNamespace(latents=range(DECODED))
    colour = None if way == JOINED else way

    def run(recorder: Recorder) -> Any:
        report = _Report(recorder)
        blocks = Blocks(pipe, _request_of(tile), settings, report, FIRST_FRAMES)
        recorder.mark("begin")
        with Reader(_frames(tile, FIRST_FRAMES), tiles, SCALE) as reader:
            segment = SimpleNamespace(count=FIRST_FRAMES)
            video = _Video(blocks, reader, segment, tiles, 1.0)
            report.begin("decode")
            for clip in video.decode([chunk], [latents], colour):
                del clip  # on a card it leaves before the next one is made
            recorder.mark(_END)
            recorder.mark(_END)
        return video

    return Recorded(_record(pipe, "resident", run), set())


def record_join(card: UpscaleCard, settings: Settings, shape: Shape, colour: str) -> Recorded:
    """The colours of two frames that were put together from tiles."""
    pipe = flashvsr.build_meta(card, settings)
    tile = Tile(0, 0, shape["y"] // SCALE, shape["x"] // SCALE)
    count = 2
    size = (tile.height * SCALE, tile.width * SCALE, 3)
    blend: Any = SimpleNamespace(frame=lambda index: np.zeros(size, np.uint8))
    footage: Any = SimpleNamespace(
        read=lambda segment: _frames(tile, count), write=lambda *frame: None
    )

    def run(recorder: Recorder) -> Any:
        report = _Report(recorder)
        blocks = Blocks(pipe, _request_of(tile), settings, report, count)
        report.begin("decode")
        segment = SimpleNamespace(count=count)
        _join(blocks, blend, (tile.height, tile.width), colour, footage, segment)
        recorder.mark(_END)
        recorder.mark(_END)

    return Recorded(_record(pipe, "resident", run), set())


def _request_of(tile: Tile) -> Any:
    return SimpleNamespace(scale=SCALE, height=tile.height, width=tile.width, seed=0)


def _frames(tile: Tile, count: int) -> Iterator[Any]:
    return iter([np.zeros((tile.height, tile.width, 3), np.uint8)] * count)


def _record(pipe: Any, mode: str, run: Any) -> Recording:
    parts = [part for part in (pipe.projection, pipe.decoder, pipe.vae) if part is not None]
    before = [tensor for part in parts for tensor in owned_tensors(part)]
    return record_run(
        pipe.transformer, mode, run, before=(*before, pipe.prompt), wants_recorder=True
    )


@contextmanager
def _marked(pipe: Any, recorder: Recorder, outputs: set[int], decodes: bool) -> Iterator[None]:
    """Inside, the last layer's end and each phase's are marked, and frames go nowhere."""
    denoise = Stream.denoise

    def no_frames(clips: Iterator[Any]) -> Iterator[Any]:
        for clip in clips if decodes else ():
            del clip  # on a card it leaves before the next one is made
        recorder.mark(_END)
        return iter(())

    def noted(stream: Stream, noise: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        latents = denoise(stream, noise, tokens)
        outputs.add(recorder.slot_of(latents))
        return latents

    handle = pipe.transformer.blocks[-1].register_forward_hook(lambda *_: recorder.mark(LAYER, -1))
    try:
        with (
            patch.object(blocks_module, "handed_over", no_frames),
            patch.object(Stream, "denoise", noted),
        ):
            yield
    finally:
        handle.remove()


def phases_of(recorded: Recorded, layers: int, of: int = 0) -> dict[str, list[Phase]]:
    """The phases of a run, each in every block that it has.

    Args:
        recorded: of `record_segments` or `record_join`.
        layers: of the transformer that ran.
        of: layers of the whole transformer, where fewer ran: those in the middle are alike.

    Raises:
        NotOneTape: a phase hangs on more than its own calls.
    """
    pieces = cut_pieces(recorded.recording, {CALLS["denoise"]: layers})
    if of > layers:
        _lengthen(pieces, recorded, layers, of - layers)
    found: dict[str, list[Phase]] = {name: [] for name in CALLS}
    place_of: dict[int, tuple[str, int, int]] = {}
    """Of a piece: its phase, the phase's number, and the call's among all of that phase."""
    counts = dict.fromkeys(CALLS, 0)
    name = ""
    for number, piece in enumerate(pieces):
        if piece.name in CALLS:
            name = piece.name
            found[name].append(Phase())
        elif name and piece.name == CALLS[name] and _is_call(piece):
            place_of[number] = (name, len(found[name]) - 1, counts[name])
            counts[name] += 1
            found[name][-1].calls.append(_call_of(piece, number, place_of, recorded.outputs))
    for name, phases in found.items():
        for index, phase in enumerate(phases):
            _note_left(phase, pieces, name, index, place_of)
    return found


def _lengthen(pieces: list[Piece], recorded: Recorded, layers: int, more: int) -> None:
    """Adds layers to the chunks: what one in the middle leaves, and costs."""
    costs = _middle_costs(recorded.recording)
    chunks = [piece for piece in pieces if piece.name == CALLS["denoise"] and _is_call(piece)]
    fresh = 1 + max((event.slot for piece in chunks for event in piece.events), default=0)
    for chunk, cost in zip(chunks, costs, strict=True):
        chunk.costs = {name: chunk.costs[name] + more * cost[name] for name in COSTS}
        freed = {event.slot for event in chunk.events if event.kind == RELEASE}
        left = [
            index
            for index, event in enumerate(chunk.events)
            if event.kind not in (RELEASE, SCRATCH)
            and event.slot not in freed
            and event.slot not in recorded.outputs
        ]
        each = len(left) // layers
        if each * layers != len(left):
            raise NotOneTape("the layers leave unequal amounts")
        middle = left[FIRST_LAYERS * each : (FIRST_LAYERS + 1) * each]
        for index in reversed(middle):
            copies = [replace(chunk.events[index], slot=fresh + n) for n in range(more)]
            fresh += more
            chunk.events[index + 1 : index + 1] = copies


def _middle_costs(recording: Recording) -> list[dict[str, float]]:
    """Of each chunk, what the first of its middle layers costs."""
    begun: dict[str, float] = {}
    found = []
    for event in recording.events:
        if event.kind == MARK and event.mark == LAYER:
            if event.slot == FIRST_LAYERS:
                begun = event.costs
            elif event.slot == FIRST_LAYERS + 1:
                found.append({name: event.costs[name] - begun[name] for name in COSTS})
    return found


def _is_call(piece: Piece) -> bool:
    """Not what stands between a phase's last call and its end."""
    return any(event.kind != RELEASE for event in piece.events)


def _call_of(
    piece: Piece, number: int, place_of: dict[int, tuple[str, int, int]], outputs: set[int]
) -> Call:
    name, _, own = place_of[number]
    call = Call(events=piece.events, costs=piece.costs)
    for back, slot in piece.outside:
        other = place_of.get(number - back)
        if other is None or other[0] != name:
            raise NotOneTape(f"a call of {name} frees what another phase made")
        call.outside.append((own - other[2], slot))
    made = [event.slot for event in piece.events if event.kind not in (RELEASE, SCRATCH)]
    call.output = next((n for n, slot in enumerate(made) if slot in outputs), -1)
    return call


def _note_left(
    phase: Phase,
    pieces: list[Piece],
    name: str,
    index: int,
    place_of: dict[int, tuple[str, int, int]],
) -> None:
    """What is alive when the phase has ended, of its first and of its last call."""
    numbers = [number for number, place in place_of.items() if place[:2] == (name, index)]
    if not numbers:
        return
    # What the last call returned, or held by a name, is freed until the next mark.
    end = next(
        (n for n in range(numbers[-1] + 1, len(pieces)) if pieces[n].name in (*CALLS, _END)),
        len(pieces),
    )
    alive: dict[int, set[int]] = {}
    for place, number in enumerate(numbers):
        made, freed, count = set(), set(), 0
        slots: dict[int, int] = {}
        for event in pieces[number].events:
            if event.kind == RELEASE:
                freed.add(slots.get(event.slot, -1))
            elif event.kind != SCRATCH:
                slots[event.slot] = count
                made.add(count)
                count += 1
        alive[place] = made - freed - {phase.calls[place].output}
    for number in range(numbers[0] + 1, end):
        for back, slot in pieces[number].outside:
            if number - back in numbers:
                alive[numbers.index(number - back)].discard(slot)
    last = len(numbers) - 1
    phase.lasting = sorted(alive[0]) if last else []
    phase.kept = sorted(alive[last])
    if any(slots for place, slots in alive.items() if place not in (0, last)):
        raise NotOneTape(f"calls in the middle of {name} leave something")
