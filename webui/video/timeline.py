"""When each frame of a video is shown, found by reading its packets: no header is believed."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from webui.core.upscale import MAX_FRAMES
from webui.video.opening import decoded, demuxed, flushed, opened, refused

DEFAULT_RATE = Fraction(25)
"""Frames a second where a file names none, as of a picture."""
_PROBED_PACKETS = 32
_LEAST_DECODED = 0.75
"""Of the probed packets; where fewer give a frame, packets are no frames and frames are counted."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timeline:
    """The frames of a video in the order in which they are shown.

    Args:
        times: N, ascending, in units of `time_base`.
        keys: indexes of frames from which decoding can start, ascending; empty where it has to
            start at the beginning of the file.
        time_base: in seconds.
        end: when the last frame is over, in units of `time_base`.
        stamped: decoded frames carry those times; otherwise they come in order and are counted.
    """

    times: NDArray[np.int64]
    keys: NDArray[np.int64]
    time_base: Fraction
    end: int
    stamped: bool = True

    def __len__(self) -> int:
        return len(self.times)

    @property
    def duration_s(self) -> float:
        return float((self.end - int(self.times[0])) * self.time_base)

    @property
    def start_s(self) -> Fraction:
        """When the first frame is shown, on the clock of the file, which sound shares."""
        return int(self.times[0]) * self.time_base

    @property
    def rate(self) -> Fraction:
        """Frames a second on average."""
        ticks = self.end - int(self.times[0])
        return _standard(len(self) / (ticks * self.time_base)) if ticks > 0 else DEFAULT_RATE

    @property
    def variable(self) -> bool:
        """Whether frames stay for different times, beyond the rounding of the time base."""
        if len(self) < 3:
            return False
        steps = np.diff(self.times)
        return bool(np.ptp(steps) > max(2.0, 0.02 * float(np.median(steps))))

    def from_zero(self, start: int, stop: int) -> NDArray[np.int64]:
        """Times of frames [start, stop), the video's first frame being shown at 0."""
        shifted: NDArray[np.int64] = self.times[start:stop] - self.times[0]
        return shifted

    def until(self, stop: int) -> int:
        """When the frame before `stop` is over, on the clock of `from_zero`."""
        last = self.end if stop >= len(self) else int(self.times[stop])
        return last - int(self.times[0])

    def save(self, path: Path) -> None:
        """Writes it as an npz file, whole or not at all."""
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        base = (self.time_base.numerator, self.time_base.denominator)
        try:
            with part.open("wb") as file:
                numbers = np.array([*base, self.end, self.stamped], np.int64)
                np.savez_compressed(file, times=self.times, keys=self.keys, numbers=numbers)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Timeline:
        """What `save` wrote.

        Raises:
            OSError, ValueError, KeyError: it is not there, or no timeline.
        """
        with np.load(path, allow_pickle=False) as data:
            top, bottom, end, stamped = (int(number) for number in data["numbers"])
            return cls(
                times=data["times"],
                keys=data["keys"],
                time_base=Fraction(top, bottom),
                end=end,
                stamped=bool(stamped),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A file gone through once."""

    timeline: Timeline
    promised: int
    """Frames that the file says it has; 0 where it says nothing."""
    packets: int
    """Those that are there, hidden ones included."""
    first: Any
    """The first frame that can be decoded."""


def scan(path: Path) -> Scan:
    """Reads all packets of a video.

    Raises:
        BadInput: no video, no frames, none that can be decoded, or more than are read.
    """
    first, dense = _probe(path)
    with opened(path) as (container, stream):
        promised = stream.frames or _promised_by_time(stream)
        packets = _Packets()
        for packet in demuxed(container, stream):
            packets.add(packet, stream.codec_context.name)
        base = stream.time_base or Fraction(1, 90_000)
        rate = _rate(stream)
    if not packets.count:
        raise refused("it has no frames", "其中没有任何帧")
    stamped = packets.stamped and dense
    timeline = packets.timeline(base, rate) if stamped else _counted(path, rate)
    return Scan(timeline=timeline, promised=promised, packets=packets.count, first=first)


class _Packets:
    """What is kept of the packets of a video: their times, and where decoding can start."""

    def __init__(self) -> None:
        self.count = 0
        self.stamped = True
        self._times, self._keys = array("q"), array("q")
        self._cut = 0
        self._last, self._last_duration = -(2**62), 0

    def add(self, packet: Any, codec: str) -> None:
        self.count += 1
        if self.count > MAX_FRAMES:
            raise refused(f"it has more than {MAX_FRAMES} frames", f"帧数超过 {MAX_FRAMES}")
        if packet.is_discard or (codec in ("vp8", "libvpx") and not bytes(packet)[0] & 0x10):
            return  # decoded, never shown
        if packet.pts is None:
            self.stamped = False
            return
        self._cut = self._cut + 1 if packet.is_corrupt else 0
        self._times.append(packet.pts)
        if packet.is_keyframe:
            self._keys.append(packet.pts)
        if packet.pts > self._last:
            self._last, self._last_duration = packet.pts, packet.duration or 0

    def timeline(self, base: Fraction, rate: Fraction) -> Timeline:
        # What is cut off stands at the end of the file, and nothing follows that could need it.
        times = np.frombuffer(self._times, np.int64)
        times = np.sort(times[: max(len(times) - self._cut, 0)])
        if not len(times):
            raise refused("it is cut off before its first frame ends", "文件在第一帧结束前就被截断")
        unique = np.unique(times)
        keys = np.unique(np.frombuffer(self._keys, np.int64)) if self._keys else unique[:0]
        keys = np.searchsorted(unique, keys[keys <= unique[-1]])
        duration = self._last_duration if self._last == unique[-1] else 0
        if duration <= 0:
            steps = np.diff(unique)
            duration = int(np.median(steps)) if len(steps) else round(1 / rate / base)
        return Timeline(
            times=unique,
            keys=keys.astype(np.int64),
            time_base=base,
            end=int(unique[-1]) + max(1, duration),
        )


def _probe(path: Path) -> tuple[Any, bool]:
    """The first frame that decodes, and whether about every packet at the beginning is a frame."""
    first, frames, packets = None, 0, 0
    with opened(path) as (container, stream):
        for packet in demuxed(container, stream):
            packets += 1
            made = decoded(packet)
            first = first or next(iter(made), None)
            frames += len(made)
            if packets == _PROBED_PACKETS:
                break
        made = flushed(stream)
    first = first or next(iter(made), None)
    if first is None and packets == _PROBED_PACKETS:  # it may begin in the middle of something
        first = _first_frame(path)
    if not packets:
        raise refused("it has no frames", "其中没有任何帧")
    if first is None:
        raise refused(
            "none of its frames can be decoded; it is cut off or damaged",
            "没有任何一帧可以解码；文件被截断或已损坏",
        )
    return first, frames + len(made) >= _LEAST_DECODED * packets


def _first_frame(path: Path) -> Any:
    with opened(path) as (container, stream):
        for packet in demuxed(container, stream):
            for frame in decoded(packet):
                return frame
    return None


def _counted(path: Path, rate: Fraction) -> Timeline:
    """A timeline of frames that carry no times of their own: they are decoded and counted."""
    count = 0
    with opened(path) as (container, stream):
        for packet in demuxed(container, stream):
            count += len(decoded(packet))
            if count > MAX_FRAMES:
                raise refused(f"it has more than {MAX_FRAMES} frames", f"帧数超过 {MAX_FRAMES}")
        count += len(flushed(stream))
    if not count:
        raise refused("it has no frames", "其中没有任何帧")
    return Timeline(
        times=np.arange(count, dtype=np.int64),
        keys=np.empty(0, np.int64),
        time_base=1 / rate,
        end=count,
        stamped=False,
    )


def _promised_by_time(stream: Any) -> int:
    """Frames that a duration of the stream itself (Matroska writes one) stands for; 0 without."""
    try:
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        length = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except (KeyError, ValueError):
        return 0
    return round(length * float(_rate(stream)))


def _rate(stream: Any) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate) if rate else DEFAULT_RATE


def _standard(rate: Fraction) -> Fraction:
    """The common rate that a measured one is within a thousandth of, else the measured one."""
    common = [Fraction(whole) for whole in (*range(1, 61), 90, 100, 120, 144, 240)]
    common += [Fraction(whole * 1000, 1001) for whole in (24, 30, 48, 60, 120)]
    nearest = min(common, key=lambda known: abs(known - rate))
    if abs(nearest - rate) <= nearest / 5000:
        return nearest
    return rate.limit_denominator(1001)
