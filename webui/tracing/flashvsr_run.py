"""Records runs of FlashVSR on meta: the real loop over blocks and chunks, or a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from webui.core.settings import Settings
from webui.core.upscale import UpscaleCard
from webui.pipelines import flashvsr
from webui.pipelines.flashvsr import blocks as blocks_module
from webui.pipelines.flashvsr.blocks import Blocks, _Video
from webui.pipelines.flashvsr.frames import Reader
from webui.pipelines.flashvsr.run import _join
from webui.pipelines.flashvsr.stream import LATENT_CHANNELS, Stream
from webui.pipelines.modules import owned_tensors
from webui.pipelines.tiles import Tile
from webui.tracing.cutting import LAYER
from webui.tracing.fit import Shape
from webui.tracing.flashvsr_calls import CALLS, END, Recorded
from webui.tracing.recorder import Recorder, Recording
from webui.tracing.recording import record_run

SCALE = 4
TOKEN_PX, WINDOW_PX, LATENT_PX = 16, 128, 8
"""Pixels of the result along a token, a window of tokens, and a latent."""
DECODED = 5
"""Latent frames that are decoded for a tape: the fourth is like all later ones."""
FIRST_FRAMES, CHUNK_FRAMES = 21, 8
JOINED = "joined"
"""The way of tiles that are yet to be joined, beside those of `colour`."""


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


class _Black:
    """Footage of one segment of black frames."""

    folder: Path | None = None
    cores, bits = 1, 8

    def __init__(self, tile: Tile, count: int) -> None:
        self.segments = (SimpleNamespace(count=count),)
        self.total = count
        self._tile = tile

    def read(self, segment: Any) -> Iterator[np.ndarray]:
        return _frames(self._tile, segment.count)

    def write(self, segment: Any, index: int, frame: np.ndarray) -> None:
        """Nothing is kept."""

    def finish(self, segment: Any) -> None:
        """Nothing is kept."""

    def wait(self) -> None:
        """Nothing is written."""


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
                with Reader([_frames(tile, count)], tiles, SCALE) as reader:
                    segment = SimpleNamespace(count=count)
                    for _ in blocks.restore(reader, segment, tiles, colour):
                        """All is recorded by now."""
                recorder.mark(END)
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
        with Reader([_frames(tile, FIRST_FRAMES)], tiles, SCALE) as reader:
            segment = SimpleNamespace(count=FIRST_FRAMES)
            video = _Video(blocks, reader, segment, tiles, 1.0)
            report.begin("decode")
            for clip in video.decode([chunk], [latents], colour):
                del clip  # on a card it leaves before the next one is made
            recorder.mark(END)
            recorder.mark(END)
        return video

    return Recorded(_record(pipe, "resident", run), set())


def record_join(card: UpscaleCard, settings: Settings, shape: Shape, colour: str) -> Recorded:
    """The colours of two frames that were put together from tiles."""
    pipe = flashvsr.build_meta(card, settings)
    tile = Tile(0, 0, shape["y"] // SCALE, shape["x"] // SCALE)
    count = 2
    size = (tile.height * SCALE, tile.width * SCALE, 3)
    blend: Any = SimpleNamespace(frame=lambda index: np.zeros(size, np.uint8))
    footage = _Black(tile, count)

    def run(recorder: Recorder) -> Any:
        report = _Report(recorder)
        blocks = Blocks(pipe, _request_of(tile), settings, report, count)
        report.begin("decode")
        _join(blocks, blend, (tile.height, tile.width), colour, footage, footage.segments[0])
        recorder.mark(END)
        recorder.mark(END)

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
        recorder.mark(END)
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
