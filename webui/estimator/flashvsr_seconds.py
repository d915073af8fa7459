"""Seconds of FlashVSR's phases."""

from __future__ import annotations

import numpy as np

from webui.core.card import Card
from webui.estimator.flashvsr import (
    PHASES,
    WINDOW_PX,
    WINDOW_TOKENS,
    FlashVsrMemory,
    blocks_of,
)
from webui.estimator.seconds import compute_seconds, transfer_seconds
from webui.estimator.tape import COSTS, term_values
from webui.estimator.templates import ChainedCall
from webui.estimator.told import longest
from webui.estimator.upscaling import (
    CLIP_BLEND_PX_S,
    ENCODE_PX_S,
    ENCODE_THREADS,
    JOIN_PX_S,
    RESIZE_PX_S,
    RESIZE_THREADS,
    cores_of,
    frames_seconds,
    gpus_of,
    longest_share,
    segment_counts,
)

SPARSE_RATIOS = {"stable": 2.0, "fast": 1.5}
LOCAL_RANGE = 11
TRAINED_PX = 768 * 1280
"""The rule of `webui.pipelines.flashvsr.attention`."""
WINDOW_SIZE = 2 * WINDOW_TOKENS**2
"""Tokens of a window, over two latent frames."""
SLABS = ((3, 3), (1, 4))
"""Slabs of queries and of keys, in the first chunk and in later ones."""
SPARSE_FACTOR = 1.5
"""How much longer the sparse kernel takes for a pair of windows than dense flash attention does.
Assumed, not measured; receipts of the machine correct it."""


def phase_seconds(name: str, memory: FlashVsrMemory, frames: int, card: Card, host: Card) -> float:
    """Seconds of one phase for all frames, those that warm up each segment included.

    Args:
        name: project, denoise or decode.
        memory: the same request's memory, but for the number of frames.
        frames: of the video.
        card: where it runs.
        host: the processor, which enlarges and encodes frames meanwhile.
    """
    request = memory.request.with_changes(frames=frames)
    counts = segment_counts(request, memory.settings)
    times = _Times(memory, card, host)
    pieces = [(times.segment(name, made), count) for made, count in counts]
    return longest_share(pieces, gpus_of(memory.settings))


def kept_pairs(rows: int, columns: int, sparsity: str) -> tuple[int, int]:
    """Pairs of windows that a head attends to, in the first chunk and in later ones.

    Args:
        rows: of windows.
        columns: of windows.
        sparsity: `stable` or `fast`.
    """
    windows = rows * columns
    ratio = SPARSE_RATIOS[sparsity] * TRAINED_PX / (rows * WINDOW_PX * columns * WINDOW_PX)
    keep = max(0, int(windows * windows * ratio) - 1)
    near = _near(rows) * _near(columns)
    first, later = (
        queries * min(keep, keys * near, keys * windows * windows - 1) for queries, keys in SLABS
    )
    return first, later


def _near(count: int) -> int:
    """Pairs of places along a side that see each other."""
    half = LOCAL_RANGE // 2
    return sum(min(count, place + half + 1) - max(0, place - half) for place in range(count))


class _Times:
    def __init__(self, memory: FlashVsrMemory, card: Card, host: Card) -> None:
        self.memory, self.card, self.host = memory, card, host
        batch, tiles = memory.shape["b"], memory.tiles
        self._batches = [(batch, tiles // batch), (tiles % batch, 1)]
        """Tiles of a pass, and how many passes there are of so many."""

    def segment(self, name: str, frames: int) -> float:
        """A segment's seconds in a phase, all tiles."""
        seconds = 0.0
        for batch, passes in self._batches:
            if batch:
                seconds += passes * self._pass(name, frames, {**self.memory.shape, "b": batch})
        if name == "decode" and self.memory.tiles > 1:
            height, width = self.memory.request.output_size
            seconds += frames_seconds("join", frames * height * width, JOIN_PX_S)
        return seconds

    def _pass(self, name: str, frames: int, shape: dict[str, int]) -> float:
        memory = self.memory
        blocks = blocks_of(frames)
        calls = memory.calls(name)
        total = sum(block.calls[name] for block in blocks)
        first = min(total, len(calls) - 1)
        costs = sum(
            (_costs(call, shape) for call in calls[:first]),
            start=(total - first) * _costs(calls[-1], shape),
        )
        if name == "denoise":
            costs = costs + self._attention(total, shape["b"])
        streams = name == "denoise" and memory.offload == "leaf"
        weights = memory.template(memory.component(name)).array("weights")
        half = memory.width == "half"
        tensors = len(weights) * total if streams else 0
        seconds = compute_seconds(costs, self.card, half, streamed_tensors=tensors)
        if memory.offload != "none":
            bringing = transfer_seconds(int(weights.sum()), self.card)
            if streams:
                seconds = longest(seconds, total * bringing)
            else:
                seconds = seconds + len(blocks) * bringing
        return longest(seconds, self._on_host(name, frames, shape))

    def _attention(self, chunks: int, batch: int) -> np.ndarray:
        """What attention to frames costs: it is no operation that a trace counts."""
        config = self.memory.card.configs["transformer"]
        rows, columns = self.memory.windows
        if self.card.kind == "cuda":
            first, later = kept_pairs(rows, columns, str(self.memory.settings["sparsity"]))
            factor = SPARSE_FACTOR
        else:
            # Without the compiled kernel everything is computed, and what is not kept left out.
            first, later = ((rows * columns) ** 2 * queries * keys for queries, keys in SLABS)
            factor = 1.0
        pairs = first + later * (chunks - 1)
        heads, channels = int(config["num_attention_heads"]), int(config["attention_head_dim"])
        each = 4 * WINDOW_SIZE**2 * channels * heads * int(config["num_layers"]) * batch
        return np.where(np.array(COSTS) == "attention", factor * pairs * each, 0.0)

    def _on_host(self, name: str, frames: int, shape: dict[str, int]) -> float:
        """The processor's work for the frames, which goes on at the same time."""
        cores = cores_of(self.host, self.memory.settings)
        pixels = frames * shape["b"] * shape["y"] * shape["x"]
        if name == PHASES[0]:
            return frames_seconds("enlarge", pixels, RESIZE_PX_S * min(RESIZE_THREADS, cores))
        if name != PHASES[-1]:
            return 0.0
        if self.memory.tiles > 1:
            return frames_seconds("join", pixels, CLIP_BLEND_PX_S)
        return frames_seconds("encode", pixels, ENCODE_PX_S * min(ENCODE_THREADS, cores))


def _costs(call: ChainedCall, shape: dict[str, int]) -> np.ndarray:
    costs: np.ndarray = call.costs @ term_values(shape, call.tape.products)
    return costs
