"""Writes frames as they come: a clip that browsers play, with the times that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from webui.video.colours import FULL, LIMITED, Colours
from webui.video.encoders import (
    FORMER_PRESET,
    PRESET,
    bit_rate,
    encoder_options,
    encoder_threads,
    find_encoder,
)
from webui.video.priority import usual_priority
from webui.video.reading import Pixels

_INTERPOLATION = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND
_CONVERTING = 4
"""Threads at most that change a frame's colours: they wait for one another at each."""
_TAKEN_PX = 16
"""Of a row that libswscale converts at a time; at 8 bits less was seen to be enough."""
_KEY_EVERY_S = 2
"""So that a player's slider finds a frame soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a clip is written. The same one gives pieces that can be joined without a new encoding.

    Raises:
        MissingDependency: PyAV has no encoder for it.
    """

    height: int
    width: int
    rate: Fraction
    """Frames a second, for rate control; frames bring their own times."""
    time_base: Fraction
    bits: int = 8
    quality: str = "high"
    aspect: Fraction = Fraction(1)
    colours: Colours = field(default_factory=Colours)
    encoder: str = ""
    """The first that there is for `bits` when it is empty."""
    preset: str = PRESET
    """Of H.264; headers say it."""

    def __post_init__(self) -> None:
        if not self.encoder:
            object.__setattr__(self, "encoder", find_encoder(self.bits))

    @property
    def stored_height(self) -> int:
        """In rows; colours are stored for two by two pixels, so an odd side repeats its edge."""
        return self.height + self.height % 2

    @property
    def stored_width(self) -> int:
        return self.width + self.width % 2

    @property
    def pixel_format(self) -> str:
        return "yuv420p" if self.bits == 8 else "yuv420p10le"

    def to_json(self) -> dict[str, Any]:
        return {
            "height": self.height,
            "width": self.width,
            "rate": str(self.rate),
            "time_base": str(self.time_base),
            "bits": self.bits,
            "quality": self.quality,
            "aspect": str(self.aspect),
            "colours": self.colours.to_json(),
            "encoder": self.encoder,
            "preset": self.preset,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Encoding:
        data = {"preset": FORMER_PRESET, **data}
        given = {name: data[name] for name in cls.__dataclass_fields__}
        for name in ("rate", "time_base", "aspect"):
            given[name] = Fraction(data[name])
        given["colours"] = Colours.from_json(data["colours"])
        return cls(**given)


class Writer:
    """Encodes frames into an MP4, a few of them in memory at a time.

    Args:
        path: of the file; half of one until `close`.
        encoding: how.
        threads: of the encoder; 0 for as many as are sensible.
        faststart: whether the index stands in front, so that a browser plays before it has all.
    """

    def __init__(
        self, path: Path, encoding: Encoding, *, threads: int = 0, faststart: bool = True
    ) -> None:
        self._encoding = encoding
        self._reformatter = VideoReformatter()
        self._begun = False
        options = {"movflags": "+faststart"} if faststart else {}
        self._container: Any = av.open(str(path), "w", format="mp4", options=options)
        threads = encoder_threads(encoding.stored_height, encoding.stored_width, threads)
        rate = encoding.rate.limit_denominator(100_000)
        self._threads = min(threads, _CONVERTING)
        stream = self._stream = self._container.add_stream(encoding.encoder, rate=rate)
        stream.width, stream.height = encoding.stored_width, encoding.stored_height
        stream.pix_fmt = encoding.pixel_format
        stream.options = encoder_options(
            encoding.encoder, encoding.quality, threads, encoding.preset
        )
        context = stream.codec_context
        if "crf" not in stream.options:
            stream.bit_rate = bit_rate(
                encoding.quality, encoding.height, encoding.width, float(rate)
            )
        context.time_base = encoding.time_base
        context.thread_count = threads
        context.gop_size = max(12, min(300, round(_KEY_EVERY_S * rate)))
        context.sample_aspect_ratio = encoding.aspect
        # Written down in the file, so that players do not guess the colours by the size.
        context.color_primaries = encoding.colours.primaries
        context.color_trc = encoding.colours.transfer
        context.colorspace = encoding.colours.matrix
        context.color_range = LIMITED
        if encoding.encoder == "libx265":
            context.codec_tag = "hvc1"  # the only one that Apple's players take

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, pixels: Pixels, time: int) -> None:
        """Adds a frame.

        Args:
            pixels: H W 3, RGB; uint8, or uint16 from 0 to 65535.
            time: when it is shown, in units of the encoding's time base; ascending.

        Raises:
            OSError: the disk is full.
        """
        encoding = self._encoding
        made = self._converted(pixels)
        made.pts, made.time_base = time, encoding.time_base
        made.color_primaries = encoding.colours.primaries
        made.color_trc = encoding.colours.transfer
        self._container.mux(self._encoded(made))

    def _converted(self, pixels: Pixels) -> av.VideoFrame:
        """A frame in the encoder's colours."""
        return self._reformatter.reformat(
            _frame(_even(pixels)),
            format=self._encoding.pixel_format,
            src_color_range=FULL,
            dst_color_range=LIMITED,
            dst_colorspace=self._encoding.colours.matrix,
            interpolation=_INTERPOLATION,
            threads=self._threads,
        )

    def close(self) -> None:
        """Writes what the encoder still holds, and the index.

        Raises:
            OSError: the disk is full.
        """
        container, self._container = self._container, None
        if container is None:
            return
        with container:
            container.mux(self._encoded(None))

    def _encoded(self, frame: av.VideoFrame | None) -> Any:
        """Packets that are ready; the encoder starts with the first frame, or the end."""
        with nullcontext() if self._begun else usual_priority():
            packets = self._stream.encode(frame)
        self._begun = True
        return packets


def _frame(pixels: Pixels) -> av.VideoFrame:
    """Without a copy, unless the conversion would read beyond the pixels: it takes several of a row
    at a time, and of other widths also what lies behind the last row."""
    whole: Any = np.ascontiguousarray(pixels)
    kind = "rgb24" if whole.dtype == np.uint8 else "rgb48le"
    if whole.shape[1] % _TAKEN_PX:
        return av.VideoFrame.from_ndarray(whole, format=kind)
    return av.VideoFrame.from_numpy_buffer(whole, format=kind)


def _even(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        sides = ((0, height % 2), (0, width % 2), (0, 0))
        return cast(Pixels, np.pad(pixels, sides, mode="edge"))
    return pixels
