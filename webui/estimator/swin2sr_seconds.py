"""Seconds of Swin2SR's phase."""

from __future__ import annotations

from webui.core.card import Card
from webui.estimator.seconds import compute_seconds
from webui.estimator.swin2sr import Swin2srMemory
from webui.estimator.tape import COSTS, term_values
from webui.estimator.told import longest
from webui.estimator.upscaling import (
    ENCODE_PX_S,
    ENCODE_THREADS,
    FRAME_BLEND_PX_S,
    cores_of,
    frames_seconds,
    gpus_of,
    longest_share,
    segment_counts,
)


def phase_seconds(name: str, memory: Swin2srMemory, frames: int, card: Card, host: Card) -> float:
    """Seconds for all frames.

    Args:
        name: upscale.
        memory: the same request's memory, but for the number of frames.
        frames: of the video.
        card: where it runs.
        host: the processor, which puts frames together and encodes them.
    """
    request = memory.request.with_changes(frames=frames)
    counts = segment_counts(request, memory.settings)
    pieces = [(_segment(memory, made, card, host), count) for made, count in counts]
    return longest_share(pieces, gpus_of(memory.settings))


def _segment(memory: Swin2srMemory, frames: int, card: Card, host: Card) -> float:
    tiles = frames * memory.tiles
    batch = memory.shape["b"]
    half, seconds = memory.width == "half", 0.0
    for size, batches in ((batch, tiles // batch), (tiles % batch, 1)):
        if size and batches:
            way = memory.way(size)
            products = memory.template.tape(way).products
            costs = memory.template.array(f"{way}.costs") @ term_values(
                {**memory.shape, "b": size}, products
            )
            values = float(costs[COSTS.index("bytes")]) / (2 if half else 4)
            seconds += batches * compute_seconds(costs, card, half, narrow_values=values)
    height, width = memory.request.output_size
    threads = min(ENCODE_THREADS, cores_of(host, memory.settings))
    encoding = frames_seconds("encode", frames * height * width, ENCODE_PX_S * threads)
    if memory.tiles == 1:
        return longest(seconds, encoding)
    # Tiles are put into their frames beside the device, on one thread.
    pixels = memory.shape["y"] * memory.shape["x"] * memory.request.scale**2
    return longest(seconds, encoding, frames_seconds("join", tiles * pixels, FRAME_BLEND_PX_S))
