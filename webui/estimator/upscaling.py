"""What upscalers share: tiles as the runs cut them, segments, and the host's part of the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from webui.core.card import Card
from webui.core.settings import Settings
from webui.core.upscale import UpscaleRequest, tiles_of
from webui.estimator.templates import width_of
from webui.estimator.told import SecondsTerm, note
from webui.video.segments import LEAST_WAITING, WAITING_BYTES, split

RESIZE_PX_S = 60e6
ENCODE_PX_S = 50e6
FRAME_BLEND_PX_S = 170e6
CLIP_BLEND_PX_S = 60e6
JOIN_PX_S = 40e6
"""What one core of a server processor does in a second, in pixels of the result: enlarging by
Pillow (measured: 64 million for x4, 60 for x2), encoding photographs with grain by libx264 at the
usual quality (45 to 64, colours converted), putting a frame together (of its tiles' pixels 175),
and a clip (of its tiles' pixels 68, of its frames' 91). On the development machine, 2026-11-28;
receipts of the machine correct them."""
CORE_FLOPS = 80e9
"""The share of one core of what a card says of the machine's processor (hardware/detect.py)."""
RESIZE_THREADS = 8
ENCODE_THREADS = 16


def cores_of(host: Card, settings: Settings) -> float:
    """The processor's cores that a worker has: those of the others are not its own."""
    return max(1.0, host.fp32_flops / CORE_FLOPS / gpus_of(settings))


def segment_counts(request: UpscaleRequest, settings: Settings) -> tuple[tuple[int, int], ...]:
    """Frames that segments are made from, and how many segments have so many."""
    workers = gpus_of(settings)
    return _counts(request.frames, request.segment_frames, request.overlap, workers)


def segments_of(request: UpscaleRequest, settings: Settings) -> int:
    """How many segments there are."""
    return sum(count for _, count in segment_counts(request, settings))


@lru_cache(maxsize=256)
def _counts(frames: int, most: int, overlap: int, workers: int) -> tuple[tuple[int, int], ...]:
    found = Counter(segment.count for segment in split(frames, most, overlap, workers))
    return tuple(sorted(found.items(), reverse=True))


def waiting_bytes(request: UpscaleRequest) -> int:
    """Host memory of the frames that wait for the encoder."""
    height, width = request.output_size
    each = 3 * height * width
    frames = min(request.frames, max(LEAST_WAITING, WAITING_BYTES // each))
    return frames * each


def frames_seconds(kind: str, pixels: float, rate_px_s: float) -> float:
    """Seconds of the processor's work on frames.

    Args:
        kind: `enlarge`, `encode` or `join`.
        pixels: of all frames.
        rate_px_s: pixels that it does in a second.
    """
    rates = {"pixels": rate_px_s}
    return note(SecondsTerm(kind, "cpu", {"pixels": pixels}, rates, pixels / rate_px_s))


def gpus_of(settings: Settings) -> int:
    """How many cards share the work."""
    return max(1, int(settings.get("gpus", 1)))


def workers_of(request: UpscaleRequest, settings: Settings) -> int:
    """How many of the cards have a segment to work on."""
    return min(gpus_of(settings), segments_of(request, settings))


def longest_share(seconds: Sequence[tuple[float, int]], workers: int) -> float:
    """What the busiest worker does, where each takes the next piece when it is free.

    Args:
        seconds: of a piece, and how many such pieces there are.
        workers: that share them.
    """
    if workers == 1:
        return sum(one * count for one, count in seconds)
    busy = [0.0] * workers
    for one, count in seconds:
        whole, rest = divmod(count, workers)
        busy = sorted(load + one * (whole + (place < rest)) for place, load in enumerate(busy))
    return busy[-1]


@dataclass(frozen=True, slots=True)
class Tiles:
    """A frame's tiles, as `webui.pipelines.tiles.TileGrid` lays them; all are of one size."""

    height: int
    """Of a tile, in pixels of the input."""
    width: int
    count: int

    @classmethod
    def of(cls, request: UpscaleRequest, settings: Settings, unit: int) -> Tiles:
        """Those of a request.

        Args:
            request: has the frame's size.
            settings: `tile` and `tile_overlap`, complete.
            unit: what a model rounds a tile's side down to.
        """
        side = int(settings["tile"]) // unit * unit
        height, width = (
            length if side == 0 or side >= length else side
            for length in (request.height, request.width)
        )
        overlap = int(settings["tile_overlap"])
        return cls(height, width, tiles_of(request.height, request.width, side, overlap))


def normal_settings(settings: Settings) -> Settings:
    """With fixed values for what neither memory nor time depend on."""
    settings = dict(settings) | {"tile_recheck": 0, "tile_reserve_gib": 0}
    if width_of(str(settings["precision"])) == "half":
        settings["precision"] = "bf16"
    return settings


def normal_request(request: UpscaleRequest, settings: Settings) -> UpscaleRequest:
    """With as few frames as need as much memory: segments are then of their full length."""
    enough = 2 * request.segment_frames * gpus_of(settings)
    return request.with_changes(frames=min(request.frames, enough))
