"""The sound of the input, packet by packet, for the container of the result."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from webui.core.errors import BadInput
from webui.video.opening import FAULTS, decoded, demuxed, open_container

COPIED = ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac")
"""What MP4 holds; others are encoded anew as AAC."""
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_BITS_A_CHANNEL = 96_000
_MOST_CHANNELS = 6
_SAMPLES = 1024


class Sound:
    """All streams of sound of a file, on the clock of its picture.

    Args:
        source: the input; one without sound gives none.
        start_s: when the first frame is shown, which becomes 0.
        stop_s: sound from there on is left out; None for all of it.
    """

    def __init__(self, source: Path, start_s: Fraction, stop_s: Fraction | None) -> None:
        self._source, self._start_s, self._stop_s = source, start_s, stop_s
        self._tracks: list[_Track] = []
        self._open = ExitStack()

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add_to(self, output: Any) -> int:
        """Adds a stream to the result for each; gives their number. Before anything is written."""
        try:
            container = self._open.enter_context(open_container(self._source))
            numbers = [one.index for one in container.streams.audio if one.codec_context]
        except BadInput:
            return 0
        for number in numbers:
            # Each its own file handle: one stream is read without waiting for the others.
            container = self._open.enter_context(open_container(self._source))
            stream = container.streams[number]
            name = stream.codec_context.codec.canonical_name
            kind = _Copied if name in COPIED else _Encoded
            try:
                track = kind(container, stream, output)
            except FAULTS:  # its parameters are broken: no sound rather than no video
                continue
            self._tracks.append(track)
        return len(self._tracks)

    def packets(self) -> Iterator[tuple[Fraction, Any]]:
        """When each packet is due, in seconds, and the packet; in order."""
        tracks = [track.packets(self._start_s, self._stop_s) for track in self._tracks]
        yield from heapq.merge(*tracks, key=lambda due: due[0])


class _Track:
    """One stream of sound."""

    def __init__(self, container: Any, stream: Any, output: Any) -> None:
        self._container, self._stream = container, stream
        self._target = self._make(output)
        language = stream.metadata.get("language")
        if language:
            self._target.metadata["language"] = language

    def _make(self, output: Any) -> Any:
        raise NotImplementedError

    def packets(self, start_s: Fraction, stop_s: Fraction | None) -> Iterator[tuple[Fraction, Any]]:
        raise NotImplementedError


class _Copied(_Track):
    """As it is stored."""

    def _make(self, output: Any) -> Any:
        return output.add_stream_from_template(self._stream, opaque=True)

    def packets(self, start_s: Fraction, stop_s: Fraction | None) -> Iterator[tuple[Fraction, Any]]:
        base = self._stream.time_base
        shift, latest = round(start_s / base), None
        for packet in demuxed(self._container, self._stream):
            time = packet.pts if packet.pts is not None else packet.dts
            if time is None or packet.is_corrupt:
                continue
            time -= shift
            if time + (packet.duration or 0) < 0 or (latest is not None and time <= latest):
                continue
            if stop_s is not None and time * base >= stop_s:
                return
            latest = packet.pts = packet.dts = time
            packet.stream = self._target
            yield time * base, packet


class _Encoded(_Track):
    """Decoded and written as AAC."""

    def _make(self, output: Any) -> Any:
        context = self._stream.codec_context
        rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        channels = context.channels if context.channels <= _MOST_CHANNELS else 2
        layout = {1: "mono", 2: "stereo", 6: "5.1"}.get(channels, "stereo")
        stream = output.add_stream("aac", rate=rate, layout=layout)
        stream.bit_rate = _BITS_A_CHANNEL * stream.codec_context.channels
        stream.time_base = Fraction(1, rate)
        self._resampler = av.AudioResampler("fltp", layout, rate, _SAMPLES)
        self._base = Fraction(1, rate)
        return stream

    def packets(self, start_s: Fraction, stop_s: Fraction | None) -> Iterator[tuple[Fraction, Any]]:
        place: int | None = None
        for frame in self._frames():
            if place is None:
                place = round((frame.pts * frame.time_base if frame.pts else 0) / self._base)
                place -= round(start_s / self._base)
            for made in self._resampler.resample(frame):
                begins, place = place, place + made.samples
                if place <= 0:
                    continue
                if stop_s is not None and begins * self._base >= stop_s:
                    yield from self._due(self._target.encode(None))
                    return
                made.pts, made.time_base = begins, self._base
                yield from self._due(self._target.encode(made))
        for made in self._resampler.resample(None):
            made.pts, made.time_base = place, self._base
            place = (place or 0) + made.samples
            yield from self._due(self._target.encode(made))
        yield from self._due(self._target.encode(None))

    def _frames(self) -> Iterator[Any]:
        for packet in demuxed(self._container, self._stream):
            yield from decoded(packet)

    def _due(self, packets: list[Any]) -> Iterator[tuple[Fraction, Any]]:
        for packet in packets:
            yield packet.pts * packet.time_base, packet
