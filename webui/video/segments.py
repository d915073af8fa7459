"""Which frames are one piece of work: a long video is cut into segments that are done in any order.

A model that looks back needs frames in front of a segment to warm up (`overlap`). Both segments
make the last `blend` of those, and they are mixed, so that no jump shows where two meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from webui.core.units import MIB
from webui.core.upscale import SEGMENT_FRAMES

OVERLAP = 16
MOST_BLENDED = 8
LEAST_FRAMES = 96
"""A segment is not cut shorter than this to give a worker something to do: warming up costs."""
_MULTIPLE = 8
WAITING_BYTES, LEAST_WAITING = 512 * MIB, 4
"""Frames that wait for the encoder at most, and at least: a model makes a hundred at a time, and
while it is at the next ones the encoder goes on with these."""
AHEAD_BYTES, LEAST_AHEAD, MOST_AHEAD = 512 * MIB, 4, 96
"""Frames that are enlarged before a model asks for them: it asks for all of a block at once, and
then for none while it is at them."""
LATENT_FRAMES = 4
"""Reading begins at a multiple of this many frames: models with latents over time make the same of
a frame wherever its segment begins."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames [start, stop) of the video, made from frames [read_start, stop)."""

    index: int
    start: int
    stop: int
    read_start: int
    """Frames before `start` warm the model up."""
    blend: int
    """The last of those, which are mixed with the last frames of the segment before."""
    tail: int
    """The segment's own last frames, which the next one mixes with."""

    @property
    def count(self) -> int:
        """Frames to read, and to make."""
        return self.stop - self.read_start

    @property
    def head_start(self) -> int:
        """The first frame that is kept of those that are made."""
        return self.start - self.blend

    @property
    def body_stop(self) -> int:
        """Frames from `start` to here are final as this segment alone makes them."""
        return self.stop - self.tail

    def to_json(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Segment:
        return cls(**{name: int(data[name]) for name in cls.__dataclass_fields__})


def split(
    frames: int, segment_frames: int = SEGMENT_FRAMES, overlap: int = OVERLAP, gpus: int = 1
) -> tuple[Segment, ...]:
    """The segments of a video, in order; together exactly its frames.

    With more than one worker they are made shorter where that lets all of them end together, but
    not below `LEAST_FRAMES`.

    Args:
        frames: of the video, at least 1.
        segment_frames: the most that a segment has, at least 1.
        overlap: frames that a segment reads before its own, at least 0.
        gpus: workers.

    Raises:
        ValueError: a number below its least.
    """
    if frames < 1 or segment_frames < 1 or overlap < 0 or gpus < 1:
        raise ValueError(f"{frames} frames, {segment_frames} each, overlap {overlap}, {gpus} gpus")
    length = segment_frames
    if gpus > 1:
        rounds = -(-frames // (segment_frames * gpus))
        even = -(-frames // (rounds * gpus))
        even = -(-even // _MULTIPLE) * _MULTIPLE
        length = min(segment_frames, max(even, LEAST_FRAMES))
    blend = min(MOST_BLENDED, overlap, length)
    starts = range(0, frames, length)
    return tuple(
        Segment(
            index=index,
            start=start,
            stop=min(start + length, frames),
            read_start=_read_start(start, overlap),
            blend=blend if index else 0,
            tail=blend if start + length < frames else 0,
        )
        for index, start in enumerate(starts)
    )


def _read_start(start: int, overlap: int) -> int:
    if not overlap:
        return start
    return max(0, (start - overlap) // LATENT_FRAMES * LATENT_FRAMES)


def blend_weights(blend: int) -> tuple[float, ...]:
    """How much of each mixed frame comes from the later segment: linear, never 0 or 1."""
    return tuple((place + 1) / (blend + 1) for place in range(blend))
