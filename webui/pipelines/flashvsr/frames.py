"""Frames on their way in: enlarged, padded to whole windows, and as many as chunks take.

Frames are numpy arrays (H W 3, uint8 or uint16) in host memory, so that on a processor they do not
count as one of the model's tensors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from webui.pipelines.depth import Frames, is_deep
from webui.pipelines.flashvsr.windows import WINDOW_TOKENS
from webui.pipelines.tiles import Tile
from webui.video.beside import Ahead, ended
from webui.video.segments import AHEAD_BYTES, LEAST_AHEAD, MOST_AHEAD

Frame = Frames
Parts = list[Frame]
"""Of one frame: the pixels (H W 3) of each, enlarged."""
SIDE_MULTIPLE = WINDOW_TOKENS
"""Sides of the enlarged frames are multiples of this many pixels: 8 tokens of 16."""
FIRST_LATENTS, CHUNK_LATENTS = 6, 2
_FIRST_FRAMES, _CHUNK_FRAMES = 21, 8
MOST_THREADS = 8


@dataclass(frozen=True, slots=True)
class Chunk:
    """One pass of the transformer, in numbers of latents and frames of a video."""

    index: int

    @property
    def latents(self) -> range:
        """That the pass makes."""
        if self.index == 0:
            return range(FIRST_LATENTS)
        start = FIRST_LATENTS + CHUNK_LATENTS * (self.index - 1)
        return range(start, start + CHUNK_LATENTS)

    @property
    def frames(self) -> range:
        """That the latents decode to."""
        end = _FIRST_FRAMES + _CHUNK_FRAMES * self.index
        return range(end - _CHUNK_FRAMES if self.index else 0, end)

    @property
    def clips(self) -> tuple[range, ...]:
        """Frames of each call of the projection; the very first is of one frame."""
        clips = tuple(range(4 * latent + 1, 4 * latent + 5) for latent in self.latents)
        return clips if self.index else (range(1), *clips)


def frames_of_latent(latent: int) -> range:
    """The frames that a latent frame decodes to."""
    return range(4 * latent - 3, 4 * latent + 1) if latent else range(1)


def count_chunks(frames: int) -> int:
    """Chunks for so many frames, at least one; no frame is left out.

    The chunks give 8 k + 13 frames; the last frame stands for those that are not there.
    """
    return 1 + max(0, -(-(frames - _FIRST_FRAMES) // _CHUNK_FRAMES))


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Of enlarged frames: the next multiples of 128."""
    return (-(-height // SIDE_MULTIPLE) * SIDE_MULTIPLE, -(-width // SIDE_MULTIPLE) * SIDE_MULTIPLE)


def enlarge(frame: Frame, part: Tile, scale: int) -> Frame:
    """A part of a frame, enlarged by PIL's bicubic filter as the authors do, and padded.

    A part has the same pixels as if the whole frame were enlarged. Borders are repeated to the
    right and below.
    """
    box = (part.left, part.top, part.left + part.width, part.top + part.height)
    size = (part.width * scale, part.height * scale)
    large = _resized(frame, size, box)
    height, width = padded_size(*large.shape[:2])
    below, right = height - large.shape[0], width - large.shape[1]
    return np.pad(large, ((0, below), (0, right), (0, 0)), mode="edge") if below or right else large


def _resized(frame: Frame, size: tuple[int, int], box: tuple[float, float, float, float]) -> Frame:
    cubic = Image.Resampling.BICUBIC
    if not is_deep(frame):
        return np.asarray(Image.fromarray(frame).resize(size, cubic, box=box))
    # Pillow has no pixels of three times 16 bits.
    channels = [
        np.asarray(Image.fromarray(channel.astype(np.float32)).resize(size, cubic, box=box))
        for channel in np.moveaxis(frame, -1, 0)
    ]
    return np.rint(np.stack(channels, -1)).clip(0, 65535).astype(np.uint16)


def count_ahead(height: int, width: int, parts: int, bits: int = 8) -> int:
    """How many enlarged frames are ready before they are asked for.

    Args:
        height: of an enlarged part, padded.
        width: likewise.
        parts: of each frame.
        bits: of a colour in them.
    """
    most = AHEAD_BYTES // (3 * height * width * parts * (1 if bits <= 8 else 2))
    return max(LEAST_AHEAD, min(MOST_AHEAD, most))


class Reader:
    """The enlarged frames of videos in order, some ahead of who takes them.

    After the last frame of a video it goes on with that frame, until it is told to go on with the
    next video, whose first frames it reads meanwhile. What was read stays until it is let go:
    frames are first projected and, when their latents are there, looked at again.

    Args:
        videos: the frames of each input; one is asked for when all of the one before is read.
        parts: of each frame; all of one size.
        scale: how many times larger each side becomes.
        cores: of the processor, for enlarging.
        bits: of a colour in the frames.

    Raises:
        ValueError: there are no frames (when the first is asked for).
    """

    def __init__(
        self,
        videos: Iterable[Iterator[Frame]],
        parts: Sequence[Tile],
        scale: int,
        cores: int = 4,
        bits: int = 8,
    ) -> None:
        self._videos = videos
        self._parts = tuple(parts)
        self._scale = scale
        self._threads = ThreadPoolExecutor(max(1, min(MOST_THREADS, cores)))
        size = padded_size(parts[0].height * scale, parts[0].width * scale)
        self._coming = Ahead(self._enlarged(), count_ahead(*size, len(self._parts), bits))
        self._kept: deque[Parts] = deque()
        self._first = 0
        self._at: list[Future[Frame]] | None = None
        self._looked = self._begun = False

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._coming.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def take(self, numbers: range) -> list[Parts]:
        """Frames by their numbers in the video, at first the first; none that was let go."""
        if not self._begun:
            self.go_on()
        while self._first + len(self._kept) < numbers.stop:
            self._kept.append(self._next())
        return [self._kept[number - self._first] for number in numbers]

    def let_go(self, number: int) -> None:
        """Frames before this one are not asked for again."""
        while self._kept and self._first < number:
            self._kept.popleft()
            self._first += 1

    def go_on(self) -> bool:
        """Begins with the first video, or lets go of the present one and begins with the next,
        whose first frame it waits for; whether there is one."""
        if self._begun:
            while self._look():  # what is left of the present one
                self._looked = False
            self._looked = self._at is None
        self._begun = True
        self._kept.clear()
        self._first = 0
        return self._look() is not None

    def _look(self) -> list[Future[Frame]] | None:
        """What comes next: parts of a frame; none of them, where a video is over; None at the end
        of all."""
        if not self._looked:
            self._at = next(self._coming, None)
            self._looked = True
        return self._at

    def _enlarged(self) -> Iterator[list[Future[Frame]]]:
        """The parts of each frame, which are being enlarged; after each video none of them."""
        for video in self._videos:
            with ended(video) as frames:
                for frame in frames:
                    yield [
                        self._threads.submit(enlarge, frame, part, self._scale)
                        for part in self._parts
                    ]
            yield []

    def _next(self) -> Parts:
        """The next frame's."""
        if following := self._look():
            self._looked = False
            return [part.result() for part in following]
        if not self._kept:
            raise ValueError("a video without frames")
        return self._kept[-1]
