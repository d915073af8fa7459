"""Clips that tests make: each frame carries its number, readable after any encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from webui.video.priority import usual_priority

HEIGHT, WIDTH = 48, 96
GROUND = (200, 60, 90)
_SIDE, _BITS = 8, 11


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """H W 3, uint8: eleven black or white squares on a coloured ground."""
    pixels = np.full((height, width, 3), GROUND, np.uint8)
    for bit in range(_BITS):
        left = 4 + bit * _SIDE
        pixels[8:24, left : left + _SIDE] = 255 if number >> bit & 1 else 0
    return pixels


def number_of(pixels: np.ndarray, scale: int = 1) -> int:
    """Which one `numbered` made, also when it was scaled."""
    most = np.iinfo(pixels.dtype).max
    row = pixels[16 * scale].mean(axis=-1)
    centres = [(8 + bit * _SIDE) * scale for bit in range(_BITS)]
    return sum(1 << bit for bit, at in enumerate(centres) if row[at] > most / 2)


def numbers_of(frames: Iterable[np.ndarray], scale: int = 1) -> list[int]:
    return [number_of(pixels, scale) for pixels in frames]


@usual_priority()
def clip(
    path: Path,
    frames: int = 50,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    time_of: Callable[[int], int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    size: tuple[int, int] = (HEIGHT, WIDTH),
    gop: int = 12,
    rotation: int = 0,
    audio: str = "",
    audio_s: float = 0,
    picture: Callable[[int], np.ndarray] | None = None,
    options: dict[str, str] | None = None,
    colours: tuple[int, int] | None = None,
) -> Path:
    """Encodes numbered frames.

    Args:
        time_of: the time of a frame in units of `time_base`.
        audio: codec of a tone that is as long as the picture, or `audio_s`.
        picture: makes a frame; `numbered` without.
        colours: matrix and range to mark the file with, and to convert to.
    """
    fast = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=fast) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt, stream.gop_size = pixel_format, gop
        stream.codec_context.time_base = time_base
        if rotation:
            stream.set_display_rotation(rotation)
        if colours:
            stream.codec_context.colorspace, stream.codec_context.color_range = colours
        sound = container.add_stream(audio, rate=48000, layout="stereo") if audio else None
        for number in range(frames):
            pixels = picture(number) if picture else numbered(number, *size)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            matrix, span = colours or (5, 1)
            frame = frame.reformat(
                format=pixel_format, dst_colorspace=matrix, src_color_range=2, dst_color_range=span
            )
            frame.pts = time_of(number) if time_of else number
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            for frame in tone(audio_s or frames / 25, sound.codec_context.format.name):
                container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def tone(length_s: float, sample_format: str) -> Iterable[av.AudioFrame]:
    """440 Hz, two channels, which begins after a quarter of a second of silence."""
    resampler = av.AudioResampler(sample_format, "stereo", 48000)
    total = round(length_s * 48000)
    for start in range(0, total, 960):
        clock = np.arange(start, min(start + 960, total)) / 48000
        wave = (np.sin(2 * np.pi * 440 * clock) * 0.4 * (clock >= 0.25)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        yield from resampler.resample(frame)


def sound_alone(path: Path) -> Path:
    """A file with nothing to see."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000, layout="stereo")
        for frame in tone(0.5, stream.codec_context.format.name):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def sound_of(path: Path) -> tuple[float, float]:
    """When the tone in a file begins, and when its sound ends, in seconds."""
    begins, ends = -1.0, 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            wave = frame.to_ndarray().astype(np.float64)
            wave /= 1 if frame.format.name.startswith("flt") else 2**15
            loud = np.abs(wave.reshape(-1, 2) if not frame.format.is_planar else wave.T).max(1)
            found = np.flatnonzero(loud > 0.1)
            if begins < 0 and len(found):
                begins = float(frame.time) + found[0] / frame.sample_rate
            ends = float(frame.time) + frame.samples / frame.sample_rate
    return begins, ends
