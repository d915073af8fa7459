"""How the colours of a video are meant: which matrix makes RGB of them, and what RGB it is.

Numbers are those of ITU-T H.273, which FFmpeg uses too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BT709, UNSPECIFIED, BT2020 = 1, 2, 9
LIMITED, FULL = 1, 2
"""Of FFmpeg's `AVColorRange`: 16 to 235, or 0 to 255."""
_HD_ROWS = 720
"""Frames with fewer rows that name no matrix are BT.601, as players guess."""
_SWSCALE = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
"""FFmpeg's number of a matrix -> swscale's."""
_BT601 = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """What RGB means; frames are passed on as RGB without touching that."""

    primaries: int = BT709
    transfer: int = BT709
    matrix: int = BT709
    """Of the file that is written."""

    def to_json(self) -> dict[str, int]:
        return {"primaries": self.primaries, "transfer": self.transfer, "matrix": self.matrix}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Colours:
        return cls(**{name: int(data[name]) for name in cls.__dataclass_fields__})


def colours_of(frame: Any) -> Colours:
    """Those that a video made from a frame like this should be marked with.

    What is wide (BT.2020, with or without HDR) stays so; all else is written with the matrix of HD.
    """

    def named(value: int) -> int:
        return value if 0 < value < 23 and value not in (UNSPECIFIED, 3) else BT709

    wide = frame.colorspace in (9, 10)
    return Colours(
        primaries=named(frame.color_primaries),
        transfer=named(frame.color_trc),
        matrix=BT2020 if wide else BT709,
    )


def source_matrix(frame: Any) -> int:
    """swscale's number of the matrix that a frame is stored with."""
    known = _SWSCALE.get(frame.colorspace)
    if known is None:
        known = BT709 if min(frame.height, frame.width) >= _HD_ROWS else _BT601
    return known


def source_range(frame: Any) -> int:
    """FFmpeg's number of the range that a frame is stored in."""
    if frame.format.name.startswith("yuvj") or frame.format.is_rgb:
        return FULL
    return FULL if frame.color_range == FULL else LIMITED
