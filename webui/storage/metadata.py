"""The receipt inside the file itself: written into a clip or picture without touching its pixels.

An mp4 carries it as the `comment` entry of its metadata, a PNG as the text chunk `receipt`, so a
file that has left the studio can still say how it was made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from webui.core.errors import NotEnoughDisk, error_from_json
from webui.storage.files import writing

_MP4_KEY = "comment"
_PNG_KEY = "receipt"
_MAX_CHARACTERS = 1_000_000
"""A receipt has a few thousand; anything far past that is not ours."""
APART_S = 120.0
"""How long `embed_apart` may take."""


def embed_metadata(path: Path, data: Mapping[str, Any]) -> bool:
    """Writes `data` into the file, in one step (the old file stays until the new one is whole).

    Args:
        path: an mp4 or PNG file; others are left as they are.
        data: plain data, as `Receipt.to_json` gives it.

    Returns:
        Whether the file can carry it (a damaged one cannot).

    Raises:
        NotEnoughDisk: the disk is full; the file is as it was.
    """
    writers: dict[str, Callable[[Path, Path, str], None]] = {".mp4": _embed_mp4, ".png": _embed_png}
    write = writers.get(path.suffix.lower())
    if write is None:
        return False
    try:
        with writing(path) as part:
            write(path, part, json.dumps(data, ensure_ascii=False))
    except ValueError:  # PyAV's InvalidDataError among them: not what its name says
        return False
    return True


def embed_apart(path: Path, data: Mapping[str, Any], within_s: float = APART_S) -> bool:
    """`embed_metadata` in a process of its own, for files that hold something of a stranger's.

    Args:
        path: as there.
        data: as there.
        within_s: how long it may take; the file is as it was if that is not enough.

    Raises:
        NotEnoughDisk: as there.
    """
    path = path.absolute()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "webui.storage.metadata_child", str(path)],
            input=json.dumps(data),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=within_s,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        answer = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        for part in path.parent.glob(f".{path.stem}-*.part{path.suffix}"):
            part.unlink(missing_ok=True)  # what a process that was ended has left
        return False
    if "error" in answer:
        error = error_from_json(answer["error"])
        if isinstance(error, NotEnoughDisk):
            raise error
    return bool(answer.get("embedded"))


def read_metadata(path: Path) -> dict[str, Any] | None:
    """What `embed_metadata` wrote, or None when the file carries nothing of ours.

    The file may come from anywhere: nothing is decoded but its headers.
    """
    readers = {".mp4": _read_mp4, ".png": _read_png}
    read = readers.get(path.suffix.lower())
    try:
        text = read(path) if read else None
        if not text or len(text) > _MAX_CHARACTERS:
            return None
        data = json.loads(text)
    except (OSError, ValueError, SyntaxError, RecursionError):  # Pillow: SyntaxError on bad PNG
        return None
    return data if isinstance(data, dict) else None


def _embed_mp4(source: Path, target: Path, text: str) -> None:
    """Copies the packets into a new container (no decoding, so no loss)."""
    import av

    options = {"movflags": "+faststart"}  # as it was: a browser plays before it has all
    with (
        av.open(str(source)) as old,
        av.open(str(target), "w", format="mp4", options=options) as new,
    ):
        new.metadata.update(old.metadata)
        new.metadata[_MP4_KEY] = text
        streams = {
            # Opaque: as it is stored, also where the decoder's name is no encoder's (AV1).
            stream.index: new.add_stream_from_template(stream, opaque=True)
            for stream in old.streams
            if stream.type in ("video", "audio")
        }
        for index, stream in streams.items():
            stream.metadata.update(old.streams[index].metadata)  # a sound's language
        for stream in old.streams.video:
            context = streams[stream.index].codec_context
            # AV1 keeps the shape of a pixel only in the container.
            if stream.sample_aspect_ratio:
                context.sample_aspect_ratio = stream.sample_aspect_ratio
            if stream.codec_context.codec_tag == "hvc1":  # the one that Apple's players take
                context.codec_tag = "hvc1"
        for packet in old.demux():
            if packet.dts is None or packet.stream.index not in streams:
                continue
            packet.stream = streams[packet.stream.index]
            new.mux(packet)


def _read_mp4(path: Path) -> str | None:
    import av

    with av.open(str(path), format="mp4") as container:
        text: str | None = container.metadata.get(_MP4_KEY)
        return text


def _embed_png(source: Path, target: Path, text: str) -> None:
    from PIL import Image, PngImagePlugin, UnidentifiedImageError

    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt(_PNG_KEY, text)
    try:
        with Image.open(source, formats=["PNG"]) as picture:
            picture.save(target, format="PNG", pnginfo=chunks)
    except UnidentifiedImageError as error:
        raise ValueError(str(error)) from None


def _read_png(path: Path) -> str | None:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as picture:
        found = picture.info.get(_PNG_KEY)
    return str(found) if found is not None else None
