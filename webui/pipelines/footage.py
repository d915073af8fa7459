"""What the upscalers share: they take the frames of a segment and give larger ones back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from webui.pipelines.depth import Frames


class Footage(Protocol):
    """Where frames come from and go to."""

    @property
    def folder(self) -> Path | None:
        """Where large files may lie while a segment is made; None for the system's folder."""

    @property
    def cores(self) -> int:
        """Of the processor, that this worker may use beside others."""

    @property
    def bits(self) -> int:
        """Of a colour in the frames that are read: 8 (uint8) or more (uint16 from 0 to 65535)."""

    @property
    def segments(self) -> Iterable[Any]:
        """What is to be done, piece by piece: frames that follow one another, `count` of them.
        Gone through once: the next may be decided on when it is asked for."""

    @property
    def total(self) -> int:
        """Frames of all segments, at most."""

    def read(self, segment: Any) -> Iterator[Frames]:
        """The frames of a segment (H W 3); in tiles, a segment may be read more than once."""

    def write(self, segment: Any, index: int, frame: Frames) -> None:
        """Takes a frame of the result, as deep as those that were read; `index` counts in the
        segment."""

    def finish(self, segment: Any) -> None:
        """All frames of a segment were handed over."""

    def wait(self) -> None:
        """Until all that was handed over is written; called once, at the end."""
