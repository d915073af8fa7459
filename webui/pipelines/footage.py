"""What the upscalers share: they take the frames of a segment and give larger ones back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Footage(Protocol):
    """Where frames come from and go to."""

    @property
    def folder(self) -> Path | None:
        """Where large files may lie while a segment is made; None for the system's folder."""

    @property
    def cores(self) -> int:
        """Of the processor, that this worker may use beside others."""

    @property
    def segments(self) -> Sequence[Any]:
        """What is to be done, piece by piece: frames that follow one another, `count` of them."""

    def read(self, segment: Any) -> Iterator[NDArray[np.uint8]]:
        """The frames of a segment (H W 3); in tiles, a segment may be read more than once."""

    def write(self, segment: Any, index: int, frame: NDArray[np.uint8]) -> None:
        """Takes a frame of the result; `index` counts in the segment."""

    def finish(self, segment: Any) -> None:
        """All frames of a segment were written."""
