"""What finished segments leave in the project's folder; it outlives cancelling and lost workers.

Of segment 3: `segment_0003.mp4`, the frames that are final as they are; `head_0003.npy` and
`tail_0003.npy`, those that wait to be mixed with a neighbour's; `segment_0003.json`, written last:
where it is, the segment is done. Once both neighbours are, `seam_0003.mp4` takes the place of the
raw frames between them. `partial_0003.mp4` has the first frames of a segment that was broken off.
All of them take their names when they are whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.video.project import Project, write_whole
from webui.video.reading import Pixels
from webui.video.segments import Segment, blend_weights
from webui.video.writing import Writer


class Parts:
    """The files of a project's segments.

    Args:
        project: whose.
    """

    def __init__(self, project: Project) -> None:
        self.project = project

    def done(self) -> set[int]:
        """Indexes of the segments that are finished."""
        return {
            segment.index
            for segment in self.project.segments
            if self.marker(segment.index).is_file()
        }

    def leading(self) -> int:
        """How many segments are finished without a gap from the first on."""
        done = self.done()
        return next(n for n in range(len(done) + 1) if n not in done)

    def partial(self) -> int:
        """Frames that are there of the first segment that is not finished."""
        leading = self.leading()
        if leading == len(self.project.segments):
            return 0
        try:
            return int(self.partial_marker(leading).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def forget(self, index: int) -> None:
        """Lets a segment be done again, and with it what was mixed of it."""
        self.marker(index).unlink(missing_ok=True)
        for other in (index, index + 1):
            self.seam(other).unlink(missing_ok=True)
        for neighbour in (index - 1, index + 1):
            # Its raw frames are gone if they were mixed: then it has to be made again as well.
            if 0 <= neighbour < len(self.project.segments) and not self._has_edges(neighbour):
                self.marker(neighbour).unlink(missing_ok=True)

    def body(self, index: int) -> Path:
        kind = "png" if self.project.is_picture else "mp4"
        return self.project.folder / f"segment_{index:04}.{kind}"

    def marker(self, index: int) -> Path:
        return self.project.folder / f"segment_{index:04}.json"

    def partial_body(self, index: int) -> Path:
        return self.project.folder / f"partial_{index:04}.mp4"

    def partial_marker(self, index: int) -> Path:
        return self.project.folder / f"partial_{index:04}.txt"

    def head(self, index: int) -> Path:
        return self.project.folder / f"head_{index:04}.npy"

    def tail(self, index: int) -> Path:
        return self.project.folder / f"tail_{index:04}.npy"

    def seam(self, index: int) -> Path:
        """Between a segment and the one before it."""
        return self.project.folder / f"seam_{index:04}.mp4"

    def settle(self, index: int, threads: int = 0) -> None:
        """Mixes the frames between a segment and the one before it, if both are finished.

        Several workers may do that at a time; they make the same. A segment whose raw frames are
        cut off (the machine stopped before all was on the disk) becomes one that is not finished.

        Raises:
            OSError: the disk is full.
        """
        if not 0 < index < len(self.project.segments):
            return
        segment = self.project.segments[index]
        if not segment.blend or not all(self.marker(n).is_file() for n in (index - 1, index)):
            return
        tail, head, seam = self.tail(index - 1), self.head(index), self.seam(index)
        if not seam.is_file():
            if not (self.check_edge(index - 1, tail) and self.check_edge(index, head)):
                return
            try:
                earlier, later = np.load(tail, mmap_mode="r"), np.load(head, mmap_mode="r")
            except FileNotFoundError:
                return  # another worker was faster
            part = _hidden(seam)
            try:
                self.encode(part, segment.head_start, mixed(earlier, later), threads)
                part.replace(seam)
            finally:
                part.unlink(missing_ok=True)
        for path in (tail, head):
            with suppress(OSError):  # somebody still reads it, on Windows
                path.unlink(missing_ok=True)

    def check_edge(self, index: int, path: Path) -> bool:
        """Whether raw frames of a segment are whole; forgets the segment where they are cut off."""
        try:
            np.load(path, mmap_mode="r")
        except (ValueError, EOFError):
            path.unlink(missing_ok=True)
            self.forget(index)
            return False
        except FileNotFoundError:
            pass  # they are mixed already
        return True

    def check_last(self) -> None:
        """Forgets the last of the leading segments while its own last frames, which nothing is
        mixed with yet, are cut off."""
        while leading := self.leading():
            index = leading - 1
            if not self.project.segments[index].tail or self.seam(leading).is_file():
                return
            if self.tail(index).is_file() and self.check_edge(index, self.tail(index)):
                return
            self.forget(index)

    def encode(self, path: Path, start: int, frames: Iterable[Pixels], threads: int = 0) -> None:
        """Writes frames from `start` on as a piece of the result."""
        with Writer(path, self.project.encoding, threads=threads, faststart=False) as writer:
            for place, pixels in enumerate(frames):
                writer.write(pixels, self.time(start, place))

    def time(self, start: int, place: int) -> int:
        """When a frame of a piece is shown, the piece beginning at 0."""
        times = self.project.timeline.times
        return int(times[start + place] - times[start])

    def _has_edges(self, index: int) -> bool:
        segment = self.project.segments[index]
        wanted = [(segment.blend, self.head(index)), (segment.tail, self.tail(index))]
        return all(path.is_file() for count, path in wanted if count)


class PartWriter:
    """Takes the frames of one segment in order and leaves its part, or nothing.

    Args:
        parts: of the project.
        segment: which.
        threads: of the encoder.
    """

    def __init__(self, parts: Parts, segment: Segment, *, threads: int = 0) -> None:
        self._parts, self._segment, self._threads = parts, segment, threads
        self._next = segment.read_start
        self._body: Writer | None = None
        self._edges: dict[Path, BinaryIO] = {}
        self._made: dict[Path, Path] = {}
        """Hidden file -> the name that it takes at the end."""

    def write(self, place: int, pixels: Pixels) -> None:
        """Adds a frame.

        Args:
            place: of those that the segment reads, from 0; in order.
            pixels: H W 3 of the result, RGB; uint8 or uint16.

        Raises:
            ValueError: a frame is left out, or is not of the result's size.
            OSError: the disk is full.
        """
        segment, encoding = self._segment, self._parts.project.encoding
        number = segment.read_start + place
        if number != self._next:
            raise ValueError(f"frame {number} instead of {self._next}")
        if pixels.shape != (encoding.height, encoding.width, 3):
            raise ValueError(f"a frame of {pixels.shape}")
        self._next += 1
        if number < segment.head_start:
            return
        if number < segment.start:
            self._keep(self._parts.head(segment.index), segment.blend, pixels)
        elif number >= segment.body_stop:
            self._keep(self._parts.tail(segment.index), segment.tail, pixels)
        elif self._parts.project.is_picture:
            shown = pixels if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)
            Image.fromarray(shown).save(self._named(self._parts.body(segment.index)), "PNG")
        else:
            if self._body is None:
                path = self._named(self._parts.body(segment.index))
                self._body = Writer(path, encoding, threads=self._threads, faststart=False)
            self._body.write(pixels, self._parts.time(segment.start, number - segment.start))

    def finish(self) -> None:
        """Gives the files their names, and mixes the frames at both ends where neighbours are done.

        Raises:
            ValueError: frames are missing.
            OSError: the disk is full.
        """
        segment, parts = self._segment, self._parts
        if self._next != segment.stop:
            raise ValueError(f"{segment.stop - self._next} frames are missing")
        self._close()
        if not parts.marker(segment.index).is_file():  # else another worker was faster
            for made, path in self._made.items():
                made.replace(path)
            write_whole(parts.marker(segment.index), "{}")
        self.abort()
        for path in (parts.partial_marker(segment.index), parts.partial_body(segment.index)):
            path.unlink(missing_ok=True)
        for index in (segment.index, segment.index + 1):
            parts.settle(index, self._threads)

    def leave(self) -> None:
        """Breaks off: the frames so far are kept to be shown; the segment is made again.

        Raises:
            OSError: the disk is full.
        """
        segment, parts = self._segment, self._parts
        count = min(self._next, segment.body_stop) - segment.start
        whole = self._body is not None and count > 0 and not parts.project.is_picture
        self._close()
        if whole:
            body = parts.body(segment.index)
            made = next(made for made, path in self._made.items() if path == body)
            del self._made[made]
            parts.partial_marker(segment.index).unlink(missing_ok=True)
            made.replace(parts.partial_body(segment.index))
            write_whole(parts.partial_marker(segment.index), str(count))
        self.abort()

    def abort(self) -> None:
        """Removes what is not finished."""
        with suppress(*_ANY_FAULT):
            self._close()
        for made in self._made:
            with suppress(OSError):
                made.unlink(missing_ok=True)

    def _keep(self, path: Path, count: int, pixels: Pixels) -> None:
        file = self._edges.get(path)
        if file is None:
            file = self._edges[path] = self._named(path).open("wb")
            header = np.lib.format.header_data_from_array_1_0(pixels)
            header["shape"] = (count, *pixels.shape)
            header["fortran_order"] = False
            np.lib.format.write_array_header_1_0(file, header)
        # Not a mapped file: where the disk is full, writing to one ends the process.
        file.write(np.ascontiguousarray(pixels).data)

    def _named(self, path: Path) -> Path:
        made = _hidden(path)
        self._made[made] = path
        return made

    def _close(self) -> None:
        body, self._body = self._body, None
        files, self._edges = list(self._edges.values()), {}
        try:
            for file in files:
                file.close()
        finally:
            if body is not None:
                body.close()


_ANY_FAULT = (OSError, ValueError, RuntimeError)


def mixed(earlier: NDArray[Any], later: NDArray[Any]) -> Iterator[Pixels]:
    """The frames between two segments: from the one over to the other, linearly.

    Args:
        earlier: T H W 3, as the segment before made them.
        later: the same, as the next segment made them; may have another depth.
    """
    for one, two, weight in zip(earlier, later, blend_weights(len(earlier)), strict=True):
        if one.dtype != two.dtype:
            one, two = _deep(one), _deep(two)
        mix = one.astype(np.float32)
        mix += np.float32(weight) * (two.astype(np.float32) - mix)
        yield np.rint(mix, out=mix).astype(one.dtype)


def _deep(pixels: NDArray[Any]) -> NDArray[np.uint16]:
    return pixels.astype(np.uint16) * 257 if pixels.dtype == np.uint8 else pixels


def _hidden(path: Path) -> Path:
    """A name of this process, so that a worker that was given up never mixes with its successor."""
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
