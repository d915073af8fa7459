"""Frames for a run with random weights, where there is no video: nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from webui.core.host import usable_threads
from webui.core.upscale import UpscaleRequest
from webui.video.segments import Segment, split

Pixels = np.ndarray


class BlankFootage:
    """Frames for a run with random weights: noise, and nothing is kept."""

    def __init__(self, request: UpscaleRequest) -> None:
        self.segments = split(request.frames, request.segment_frames, request.overlap)
        self.total = sum(segment.count for segment in self.segments)
        self.cores, self.bits = usable_threads(), 8
        self._size = (request.height, request.width, 3)

    @property
    def folder(self) -> Path | None:
        """None: large files go where the system has its own."""
        return None

    def close(self) -> None:
        """There is nothing to close."""

    def read(self, segment: Segment) -> Iterator[Pixels]:
        frame = np.random.default_rng(0).integers(0, 256, self._size, np.uint8)
        for number in range(segment.count):
            yield np.roll(frame, number, axis=1)

    def write(self, segment: Segment, index: int, frame: Pixels) -> None:
        """Nobody looks at it."""

    def finish(self, segment: Segment) -> None:
        """Nothing is kept."""

    def wait(self) -> None:
        """Nothing is written."""
