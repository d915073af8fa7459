"""Opens a video file of a stranger: only plain containers, only that file, only sane sizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av

from webui.core.errors import BadInput
from webui.core.text import EMPTY, Text

MAX_SIDE_PX = 16_384
MAX_PIXELS = 70_000_000
"""Of a frame: 8K has 33 million; a file of a few KiB can claim far more."""
MAX_STREAMS = 64
CONTAINERS = (
    *("mov", "mp4", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "asf", "flv", "ogg"),
    *("mxf", "ivf", "obu", "h264", "hevc", "m4v", "yuv4mpegpipe", "nut", "avif"),
)
"""Playlists (HLS, DASH, concat) are not among them: they name other files and addresses."""
DECODER_THREADS = 4
_LIMITS = {
    "format_whitelist": ",".join(CONTAINERS),
    "protocol_whitelist": "file",
    "max_streams": str(MAX_STREAMS),
}
_DECODER_LIMITS = {"max_pixels": str(MAX_PIXELS)}
FAULTS = (av.FFmpegError, OSError, ValueError, EOFError, IndexError)
"""What PyAV raises on files that are no whole videos."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream; other streams are passed over.

    Raises:
        BadInput: it is not there, no video, or larger than what is read.
    """
    container = open_container(path)
    with container:
        streams = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not streams and not container.streams and _has_no_index(path):
            raise _no_index()
        if not streams:
            raise refused("it has no picture, only sound or text", "其中没有画面，只有声音或文字")
        stream = streams[0]
        if stream.codec_context is None:
            raise refused(
                "it is stored in a way that this installation cannot decode",
                "当前安装无法解码它的编码格式",
                hint=_CONVERT,
            )
        check_size(stream.height, stream.width)
        # Decoders refuse larger frames that come later in the file.
        stream.codec_context.options = dict(_DECODER_LIMITS)
        # Not by frames: a damaged one would then take good ones, decoded beside it, with it.
        stream.codec_context.thread_type = "SLICE"
        stream.codec_context.thread_count = DECODER_THREADS
        yield container, stream


def open_container(path: Path) -> Any:
    """The file as PyAV opens it, whatever it holds.

    Raises:
        BadInput: it is not there, or no container that is read.
    """
    if not path.is_file():
        raise refused("it is not there", "文件不存在")
    if not path.stat().st_size:
        raise refused("the file is empty", "文件是空的")
    try:
        # `file:` keeps a name from being read as an address.
        return av.open(
            f"file:{path.absolute()}",
            options=_DECODER_LIMITS,
            container_options=_LIMITS,
            metadata_errors="ignore",
        )
    except FAULTS:
        if _has_no_index(path):
            raise _no_index() from None
        raise refused(
            "it is no video that can be read, or it is damaged", "它不是可读取的视频，或文件已损坏",
            hint=_CONVERT,
        ) from None  # fmt: skip


def check_size(height: int, width: int) -> None:
    """Refuses frames that are none, or larger than what is read.

    Raises:
        BadInput: see there.
    """
    if height < 1 or width < 1:
        raise refused("its frames have no size", "画面没有尺寸", hint=_CONVERT)
    if max(height, width) > MAX_SIDE_PX or height * width > MAX_PIXELS:
        raise refused(
            f"its frames of {width}x{height} are larger than {MAX_PIXELS // 1_000_000} million "
            f"pixels or {MAX_SIDE_PX} a side",
            f"画面 {width}x{height} 超过 {MAX_PIXELS // 1_000_000} 百万像素或单边 {MAX_SIDE_PX}",
            hint=Text("Scale it down first.", "请先缩小画面。"),
        )


def refused(why_en: str, why_zh: str, *, hint: Text = EMPTY) -> BadInput:
    """The error for an input that cannot be used."""
    return BadInput(
        "input",
        Text(f"The video cannot be used: {why_en}.", f"无法使用这个视频：{why_zh}。"),
        hint,
    )


def demuxed(container: Any, *streams: Any) -> Iterator[Any]:
    """The packets of streams until the file ends, or until what is left of it is unreadable."""
    with suppress(*FAULTS):
        for packet in container.demux(*streams):
            if packet.size:  # the last ones, of no size, only flush decoders
                yield packet


def decoded(packet: Any) -> list[Any]:
    """The frames that a packet completes; none where it is damaged."""
    try:
        return list(packet.decode())
    except FAULTS:
        return []


def flushed(stream: Any) -> list[Any]:
    """The frames that a decoder still holds at the end."""
    try:
        return list(stream.codec_context.decode(None))
    except FAULTS:
        return []


def _no_index() -> BadInput:
    return refused(
        "it is cut off: the list of its frames is not whole",
        "文件被截断：帧索引不完整",
        hint=Text("Copy or download the whole file again.", "请重新复制或下载完整的文件。"),
    )


def _is_cover(stream: Any) -> bool:
    """Whether it is the picture on the sleeve of a song."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _has_no_index(path: Path) -> bool:
    """Whether it is an MP4 or MOV whose `moov` box is not there."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] not in (b"ftyp", b"mdat", b"wide", b"free"):
            return False
        position, size = 0, path.stat().st_size
        for _ in range(1000):
            file.seek(position)
            head = file.read(16)
            if len(head) < 8 or position >= size:
                return True
            if head[4:8] == b"moov":
                return position + int.from_bytes(head[:4]) > size
            length = int.from_bytes(head[:4])
            if length == 1:
                length = int.from_bytes(head[8:16])
            if length < 8:
                return True
            position += length
    return True


_CONVERT = Text(
    "Convert it to MP4 with H.264, or choose another file.",
    "请转换为 H.264 编码的 MP4，或选择其他文件。",
)
