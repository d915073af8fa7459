"""Reads any frames of a video, exactly and in bounded memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from webui.video.colours import FULL, source_matrix, source_range
from webui.video.facts import examine
from webui.video.opening import FAULTS, decoded, demuxed, flushed, opened, refused
from webui.video.pictures import is_picture, picture_frames
from webui.video.timeline import Timeline

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""H W 3, RGB; uint8, or uint16 from 0 to 65535."""
_INTERPOLATION = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


class Reader:
    """Frames of one video.

    Args:
        path: the file.
        timeline: of the file, where it is known already; otherwise the file is gone through first.

    Raises:
        BadInput: it cannot be used.
    """

    def __init__(self, path: Path, timeline: Timeline | None = None) -> None:
        self.path = path
        self.timeline = timeline if timeline is not None else examine(path)[1]
        self._repeated: set[int] = set()
        self._picture = is_picture(path)

    @property
    def repeated(self) -> int:
        """Frames so far that could not be decoded, and that another one stands for."""
        return len(self._repeated)

    def frames(
        self, start: int = 0, stop: int | None = None, *, bits: int = 8
    ) -> Generator[Pixels, None, None]:
        """Frames [start, stop), each exactly once; `timeline.times` says when they are shown.

        A frame that cannot be decoded is the one before it again, and counted in `repeated`.

        Args:
            start: from 0.
            stop: at most the number of frames; None for all.
            bits: 8 for uint8, 10 for uint16 (from 0 to 65535).

        Yields:
            H W 3, RGB, turned as it is shown.

        Raises:
            BadInput: no frame can be decoded from there on.
        """
        stop = len(self.timeline) if stop is None else stop
        if not 0 <= start <= stop <= len(self.timeline):
            raise ValueError(f"frames {start} to {stop} of {len(self.timeline)}")
        if start == stop:
            return
        place, last = start, None
        for index, pixels in self._good(start, stop, bits):
            if last is None:
                last = pixels  # nothing before it decodes: the first good one stands for those
            while place < index:
                self._repeated.add(place)
                yield last
                place += 1
            last = pixels
            if place == index:
                yield pixels
                place += 1
        if last is None:
            raise refused(
                f"none of its frames from {start} on can be decoded", f"从第 {start} 帧起无法解码"
            )
        for missing in range(place, stop):
            self._repeated.add(missing)
            yield last

    def _good(self, start: int, stop: int, bits: int) -> Iterator[tuple[int, Pixels]]:
        """Those of [start, stop) that decode, with their indexes.

        Where `start` itself does not, the last one before it comes first.
        """
        if self._picture:
            for index, shown in enumerate(picture_frames(self.path, start, stop), start):
                if shown is not None:
                    yield index, shown if bits == 8 else shown.astype(np.uint16) * 257
            return
        convert = _Converter(bits)
        before: tuple[int, Any] | None = None
        for index, frame in self._decoded(start):
            if index <= start:
                before = (index, frame) if index < start else None
            if before is not None and index > start:
                yield before[0], convert(before[1])
                before = None
            if index >= stop:
                return
            if index >= start:
                yield index, convert(frame)
        if before is not None:
            yield before[0], convert(before[1])

    def _decoded(self, start: int) -> Iterator[tuple[int, Any]]:
        """Good frames with ascending indexes, from one at or before `start` if there is any.

        Some containers are sought only roughly, and key frames can be damaged: where it ended is
        looked at, and if need be it starts again further in front.
        """
        times = self.timeline.times
        for key in self._places(start):
            with opened(self.path) as (container, stream):
                first = _sought(container, stream, int(times[key])) if key else None
                if key and first is None:
                    continue
                found = self._numbered(_frames(container, stream, first))
                nearest = next(found, None)
                if key and (nearest is None or nearest[0] > start):
                    continue
                if nearest is not None:
                    yield nearest
                    yield from found
                return

    def _places(self, start: int) -> Iterator[int]:
        """Indexes of key frames to start at, the best first; 0 is the beginning of the file."""
        keys = self.timeline.keys[self.timeline.keys <= start]
        back = 1
        while back <= len(keys) and keys[-back]:
            yield int(keys[-back])
            back *= 2
        yield 0

    def _numbered(self, frames: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        if not self.timeline.stamped:
            yield from enumerate(frames)
            return
        times, latest = self.timeline.times, -1
        for frame in frames:
            if frame.pts is None or frame.is_corrupt:
                continue
            index = int(np.searchsorted(times, frame.pts))
            if latest < index < len(times) and times[index] == frame.pts:
                latest = index
                yield index, frame


def _sought(container: Any, stream: Any, time: int) -> Any:
    """The packet of a key frame at or before `time`, to be decoded next; None if not reached."""
    try:
        container.seek(time, stream=stream)
    except FAULTS:
        return None
    for packet in demuxed(container, stream):
        if packet.is_keyframe and packet.pts is not None:
            return packet if packet.pts <= time else None
    return None


def _frames(container: Any, stream: Any, first: Any) -> Iterator[Any]:
    """What decodes from a packet on (None: from where the container stands) to the end."""
    if first is not None:
        yield from decoded(first)
    for packet in demuxed(container, stream):
        yield from decoded(packet)
    yield from flushed(stream)


class _Converter:
    """Frames as they are stored -> RGB as they are shown, all of the first one's size."""

    def __init__(self, bits: int) -> None:
        self._format = "rgb24" if bits == 8 else "rgb48le"
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> Pixels:
        self._size = self._size or (frame.height, frame.width)
        made = self._reformatter.reformat(
            frame,
            height=self._size[0],
            width=self._size[1],
            format=self._format,
            src_colorspace=None if frame.format.is_rgb else source_matrix(frame),
            src_color_range=source_range(frame),
            dst_color_range=FULL,
            interpolation=_INTERPOLATION,
            threads=1,
        )
        pixels = cast(Pixels, made.to_ndarray())
        turns = round(frame.rotation / 90) % 4
        return _turned(pixels, turns) if turns else pixels


def _turned(pixels: Pixels, turns: int) -> Pixels:
    """Counterclockwise, by quarters."""
    return cast(Pixels, np.ascontiguousarray(np.rot90(pixels, turns)))
