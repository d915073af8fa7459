"""What a worker is given of a video: segments to read, and a place for the frames it makes."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from webui.video.beside import Beside
from webui.video.parts import Parts, PartWriter
from webui.video.pictures import on_white
from webui.video.project import Project
from webui.video.reading import Pixels, Reader
from webui.video.segments import LEAST_WAITING, WAITING_BYTES, Segment

BEFORE, AFTER = "newest_before.jpg", "newest.jpg"
"""The newest frame as it was and as it became, in the project's folder."""
_EVERY = 12
"""Of so many frames one is shown, at most."""
_APART_S = 1.0
"""Between two that are shown: each keeps the encoder waiting for the time of three frames."""
_SIDE_PX = 960


class Footage:
    """Frames in, frames out. Closing it keeps the first frames of segments that are not finished.

    Frames are encoded in a thread of its own, so that the device does not wait for the encoder.

    Args:
        project: of the video.
        segments: those to do, one after the other.
        bits: of the frames that are read, 8 or 10.
        threads: of the encoder; 0 for as many as are sensible.
    """

    def __init__(
        self, project: Project, segments: Iterable[Segment], *, bits: int = 8, threads: int = 0
    ) -> None:
        self.project, self.segments = project, segments
        self.total = sum(segment.count for segment in project.segments)
        self.bits, self._threads = bits, threads
        self._parts = Parts(project)
        self._reader = Reader(project.source, project.timeline)
        self._writers: dict[int, PartWriter] = {}
        self._encoder = Beside(LEAST_WAITING)
        self._small: dict[int, Image.Image] = {}
        self._shown_at = -math.inf

    def __enter__(self) -> Footage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def repeated(self) -> int:
        """Frames that could not be decoded; the one before stands for each."""
        return self._reader.repeated

    def read(self, segment: Segment) -> Iterator[Pixels]:
        """The frames that a segment is made from, `segment.count` of them.

        Raises:
            BadInput: the file cannot be read any more.
        """
        frames = self._reader.frames(segment.read_start, segment.stop, bits=self.bits)
        with closing(frames):  # the file is open while it runs
            for number, pixels in enumerate(frames, segment.read_start):
                if number >= segment.start and number % _EVERY == 0:
                    self._small[number] = _small(pixels)
                yield pixels

    def write(self, segment: Segment, index: int, frame: Pixels) -> None:
        """Takes a frame that was made.

        Args:
            segment: of which.
            index: among those that were read, from 0; in order.
            frame: H W 3 of the result, RGB; uint8, or uint16 from 0 to 65535. It is encoded later:
                its memory is not to be used again.

        Raises:
            ValueError: one of the frames so far was left out, or is not of the result's size.
            OSError: the disk is full.
        """
        self._encoder.most = max(LEAST_WAITING, WAITING_BYTES // frame.nbytes)
        writer = self._writers.get(segment.index)
        if writer is None:
            writer = PartWriter(self._parts, segment, threads=self._threads)
            self._writers[segment.index] = writer
        before = self._small.pop(segment.read_start + index, None)
        self._encoder.do(self._write, writer, index, frame, before)

    def _write(
        self, writer: PartWriter, index: int, frame: Pixels, before: Image.Image | None
    ) -> None:
        writer.write(index, frame)
        if before is not None and time.monotonic() - self._shown_at >= _APART_S:
            self._shown_at = time.monotonic()
            after, alpha = _small(frame), self.project.alpha()
            if alpha is not None:
                before, after = on_white(before, alpha), on_white(after, alpha)
            save_pictures(self.project.folder, {BEFORE: before, AFTER: after})

    def finish(self, segment: Segment) -> None:
        """All frames of a segment were handed over: when they are written, its part is made, and
        never again. The next one may be begun before.

        Raises:
            ValueError: frames of one before are missing.
            OSError: the disk is full.
        """
        self._encoder.do(self._finish, segment)

    def wait(self) -> None:
        """Until all that was handed over is written.

        Raises:
            ValueError: frames are missing.
            OSError: the disk is full.
        """
        self._encoder.wait()

    def _finish(self, segment: Segment) -> None:
        self._writers[segment.index].finish()
        del self._writers[segment.index]
        for number in list(self._small):
            if segment.start <= number < segment.stop:  # not those of another, which is being read
                self._small.pop(number, None)

    def close(self) -> None:
        self._encoder.close()  # frames that were handed over are written
        for writer in self._writers.values():
            try:
                writer.leave()
            except (OSError, ValueError, RuntimeError):
                writer.abort()
        self._writers.clear()


def _small(pixels: Pixels) -> Image.Image:
    shown = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    picture = Image.fromarray(shown)
    picture.thumbnail((_SIDE_PX, _SIDE_PX))
    return picture


def save_pictures(folder: Path, pictures: Mapping[str, Image.Image]) -> None:
    """Writes JPEGs, each whole or not at all; they take their names together, when all are written.

    Args:
        folder: of the project, which others write to at the same time.
        pictures: by their names, in the order in which they take them.

    Raises:
        OSError: the disk is full.
    """
    mine = uuid.uuid4().hex[:8]
    parts = {name: folder / f".{name}.{mine}.part" for name in pictures}
    try:
        for name, part in parts.items():
            pictures[name].save(part, "JPEG", quality=85)
        for name, part in parts.items():
            part.replace(folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
