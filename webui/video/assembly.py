"""Joins the parts of a video: packets are copied, nothing is encoded twice, the sound comes along.

Packets get the times of the input's frames. Encoders number pictures in the order in which they are
decoded, so the k-th time of a piece belongs to the packet with the k-th smallest time in it.
"""

from __future__ import annotations

import heapq
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.core.errors import RunFailed
from webui.core.text import Text
from webui.video.audio import Sound
from webui.video.opening import FAULTS, demuxed
from webui.video.parts import Parts
from webui.video.pictures import opened_picture
from webui.video.project import Project
from webui.video.reading import Reader
from webui.video.timeline import Timeline, scan
from webui.video.writing import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """What came out."""

    path: Path
    frames: int
    of: int
    """Frames of the input."""
    audio: int
    """Streams of sound."""

    def to_json(self) -> dict[str, Any]:
        return {
            "output": self.path.name,
            "frames": self.frames,
            "of": self.of,
            "audio": self.audio,
        }


@dataclass(frozen=True, slots=True)
class _Piece:
    """A file with consecutive frames of the result."""

    path: Path
    start: int
    count: int
    segment: int


def assemble(project: Project, target: Path) -> Assembled:
    """Joins the finished segments from the first on, and what is there of the next one; those after
    a gap stay for later.

    Args:
        project: whose parts.
        target: the file to write, an mp4, on the disk of the project; a single frame is a png of
            that name instead.

    Returns:
        What was written; all parts are still there.

    Raises:
        RunFailed: not one segment is finished, or the result is not what it should be.
        OSError: the disk is full.
    """
    parts = Parts(project)
    for index in range(1, len(project.segments)):
        parts.settle(index)
    parts.check_last()
    if project.is_picture:
        return _picture(parts, target)
    pieces, headers, delay = _checked(parts)
    begun = _begun(parts)
    if not pieces and begun is None:
        raise _nothing_finished()
    frames = pieces[-1].start + pieces[-1].count if pieces else 0
    # Names of this process; in the project's folder, where what a killed one left is cleared away.
    part = project.folder / f".{target.stem}.{os.getpid()}.part.mp4"
    last = project.folder / f".last.{target.stem}.{os.getpid()}.mp4"
    try:
        segment = project.segments[pieces[-1].segment if pieces else 0]
        if pieces and segment.tail:  # the next one is missing: its own last frames are final
            seam = parts.seam(segment.index + 1)  # is there if the next one was lost later
            if not seam.is_file():
                tail = np.load(parts.tail(segment.index), mmap_mode="r")
                parts.encode(last, frames, iter(tail))
                seam = last
            pieces.append(_Piece(seam, frames, segment.tail, segment.index))
            times, header = _packets_of(seam)
            delay = max(delay, _delay(times))
            headers.add(header)
            frames += segment.tail
        if begun is not None and begun.start == frames:
            times, header = _packets_of(begun.path)
            if len(times) == begun.count:
                pieces.append(begun)
                delay = max(delay, _delay(times))
                headers.add(header)
                frames += begun.count
        if not pieces:
            raise _nothing_finished()
        if len(headers) == 1:
            audio = _join(project, pieces, frames, delay, part)
        else:
            audio = _encode_again(project, pieces, frames, delay, part)
        _verify(project, pieces, frames, part)
        part.replace(target)
    finally:
        for path in (part, last):
            path.unlink(missing_ok=True)
    return Assembled(path=target, frames=frames, of=project.frames, audio=audio)


def _begun(parts: Parts) -> _Piece | None:
    """What is there of the first segment that is not finished."""
    count, index = parts.partial(), parts.leading()
    if not count:
        return None
    return _Piece(parts.partial_body(index), parts.project.segments[index].start, count, index)


def _picture(parts: Parts, target: Path) -> Assembled:
    if not parts.done():
        raise _nothing_finished()
    target = target.with_suffix(".png")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        alpha = parts.project.alpha()
        if alpha is not None:
            with opened_picture(parts.body(0)) as made:
                made.putalpha(alpha.resize(made.size, Image.Resampling.BICUBIC))
                made.save(part, "PNG")
        else:
            shutil.copyfile(parts.body(0), part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return Assembled(path=target, frames=1, of=1, audio=0)


def _checked(parts: Parts) -> tuple[list[_Piece], set[bytes], int]:
    """The leading pieces, their codec headers, and by how many frames packets run ahead.

    A file that is not whole (the disk was full, or somebody touched it) makes its segment one that
    is not finished.
    """
    pieces: list[_Piece] = []
    headers: set[bytes] = set()
    delay = 0
    for segment in parts.project.segments[: parts.leading()]:
        index = segment.index
        seam = _Piece(parts.seam(index), segment.head_start, segment.blend, index)
        body = _Piece(parts.body(index), segment.start, segment.body_stop - segment.start, index)
        found = []
        for piece in (seam, body):
            if not piece.count:
                continue
            times, header = _packets_of(piece.path)
            if len(times) != piece.count:
                parts.forget(index)
                return _without_tail_of(pieces, parts), headers, delay
            found.append((piece, times, header))
        for piece, times, header in found:
            pieces.append(piece)
            headers.add(header)
            delay = max(delay, _delay(times))
    return pieces, headers, delay


def _without_tail_of(pieces: list[_Piece], parts: Parts) -> list[_Piece]:
    """Drops segments from the end that `forget` took along, since their raw ends are gone."""
    done = parts.done()
    while pieces and pieces[-1].segment not in done:
        pieces.pop()
    return pieces


def _packets_of(path: Path) -> tuple[NDArray[np.int64], bytes]:
    """Times of a piece's packets, in the order of decoding, and its codec's header."""
    times: list[int] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            header = bytes(stream.codec_context.extradata or b"")
            times = [packet.pts for packet in demuxed(container, stream)]
    except FAULTS:
        return np.empty(0, np.int64), b""
    return np.array(times, np.int64), header


def _ranks(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each packet among those of its piece in the order of showing."""
    ranks = np.empty(len(times), np.int64)
    ranks[np.argsort(times, kind="stable")] = np.arange(len(times))
    return ranks


def _delay(times: NDArray[np.int64]) -> int:
    """By how many frames decoding runs ahead of showing."""
    return int(max(0, np.max(np.arange(len(times)) - _ranks(times), initial=0)))


def _join(project: Project, pieces: list[_Piece], frames: int, delay: int, target: Path) -> int:
    stop_s = project.timeline.until(frames) * project.timeline.time_base
    whole = frames == project.frames
    with (
        Sound(project.source, project.timeline.start_s, None if whole else stop_s) as sound,
        av.open(str(pieces[0].path)) as first,
        av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as output,
    ):
        template = first.streams.video[0]
        stream = output.add_stream_from_template(template, opaque=True)
        # AV1 keeps the shape of a pixel only in the container.
        stream.codec_context.sample_aspect_ratio = project.encoding.aspect
        if template.codec_context.codec.canonical_name == "hevc":
            stream.codec_context.codec_tag = "hvc1"
        audio = sound.add_to(output)
        packets = _timed(project.timeline, pieces, frames, delay, stream)
        for _, packet in heapq.merge(packets, sound.packets(), key=lambda due: due[0]):
            output.mux(packet)
    return audio


def _timed(
    timeline: Timeline, pieces: list[_Piece], frames: int, delay: int, stream: Any
) -> Iterator[tuple[Fraction, Any]]:
    """Packets of all pieces with the times of the whole, and when each is due in seconds."""
    shown = timeline.from_zero(0, frames)
    ends = np.append(shown[1:], timeline.until(frames))
    lead = int(shown[min(delay, frames - 1)])
    number = 0
    for piece in pieces:
        ranks = _ranks(_packets_of(piece.path)[0])
        with av.open(str(piece.path)) as container:
            for rank, packet in zip(
                ranks, demuxed(container, container.streams.video[0]), strict=True
            ):
                place = piece.start + int(rank)
                packet.pts = int(shown[place])
                # What decoders go by: the times in order, as far ahead as pictures are reordered.
                packet.dts = int(shown[number - delay] if number >= delay else shown[number] - lead)
                packet.duration = int(ends[place] - shown[place])
                packet.time_base = timeline.time_base
                packet.stream = stream
                number += 1
                yield packet.dts * timeline.time_base, packet


def _encode_again(
    project: Project, pieces: list[_Piece], frames: int, delay: int, target: Path
) -> int:
    """For parts whose headers differ, as after an update of the encoder between two of them."""
    whole = target.with_name(f"{target.stem}.again.mp4")
    shown = project.timeline.from_zero(0, frames)
    try:
        with Writer(whole, project.encoding, faststart=False) as writer:
            for piece in pieces:
                reader = Reader(piece.path, scan(piece.path).timeline)
                read = reader.frames(bits=project.encoding.bits)
                for place, pixels in enumerate(read, piece.start):
                    writer.write(
                        pixels[: project.encoding.height, : project.encoding.width],
                        int(shown[place]),
                    )
        delay = _delay(_packets_of(whole)[0])
        return _join(project, [_Piece(whole, 0, frames, 0)], frames, delay, target)
    finally:
        with suppress(OSError):
            whole.unlink(missing_ok=True)


def _verify(project: Project, pieces: list[_Piece], frames: int, path: Path) -> None:
    """Makes sure that every frame is there at its time, and that decoding goes on at each joint."""
    found = scan(path).timeline
    wanted = project.timeline.from_zero(0, frames)
    finer = project.timeline.time_base / found.time_base
    exact = len(found) == frames and finer.denominator == 1
    if exact:
        exact = bool(np.array_equal(found.from_zero(0, frames), wanted * finer.numerator))
    if exact:
        reader = Reader(path, found)
        for piece in pieces:
            for _ in reader.frames(piece.start, piece.start + 1):
                pass
        exact = not reader.repeated
    if not exact:
        raise RunFailed(
            Text(
                f"The joined video has {len(found)} frames that are right, not {frames}.",
                f"合并后的视频有 {len(found)} 帧，与应有的 {frames} 帧不符。",
            ),
            Text("The finished parts are kept.", "已完成的片段仍然保留。"),
        )


def _nothing_finished() -> RunFailed:
    return RunFailed(
        Text("No part of the video is finished yet.", "视频还没有任何片段完成。"),
        Text("Resume the run to make the first one.", "请继续任务以完成第一个片段。"),
    )
