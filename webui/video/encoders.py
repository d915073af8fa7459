"""Which encoder writes a clip, and with which options."""

from __future__ import annotations

import os

import av

from webui.core.errors import MissingDependency
from webui.core.host import usable_threads
from webui.core.text import Text
from webui.core.units import GIB
from webui.core.upscale import QUALITIES

H264 = ("libx264", "libopenh264", "h264_nvenc", "h264_mf", "h264_videotoolbox")
TEN_BIT = ("libsvtav1", "libx265")
"""AV1 first: browsers play it everywhere, HEVC only where the system brings a decoder."""
MOST_THREADS = 16
_THREADS_BYTES, _KEPT_BY_THREAD = 2 * GIB, 4
"""Encoders keep about four frames for each thread: large ones get fewer."""
_CRF = {
    "libx264": (17, 21, 26),
    "libsvtav1": (20, 30, 40),
    "libx265": (17, 22, 28),
}
PRESET = "veryfast"
"""Of H.264. Against "medium", at 1408x768 and one quality, conversion included: photographs with
grain take 40 to 46 % of the processor's time, noise 30 %; files are as large, and at most 0.25 dB
worse. An upscaler's frames come faster than "medium" takes them."""
FORMER_PRESET = "medium"
"""What projects were written with that say none; other headers could not be joined to them."""
_SVT_LEVEL = 2
"""Of parallelism; a higher one keeps many more frames."""
_BITS_A_PIXEL = (0.25, 0.15, 0.08)
"""For encoders that take a bit rate only."""


def find_encoder(bits: int = 8) -> str:
    """The first encoder for that depth that this build of PyAV has.

    Args:
        bits: 8 for H.264, 10 for AV1 or HEVC.

    Raises:
        MissingDependency: there is none.
    """
    for name in H264 if bits == 8 else TEN_BIT:
        try:
            av.Codec(name, "w")
        except ValueError:  # av.codec.codec.UnknownCodecError
            continue
        return name
    kind = "H.264" if bits == 8 else "AV1 / HEVC"
    raise MissingDependency(
        Text(
            f"This installation of PyAV has no {kind} encoder, so no clip can be written.",
            f"当前安装的 PyAV 没有 {kind} 编码器，无法写出视频。",
        ),
        Text("Install the official wheel: pip install av", "请安装官方版本：pip install av"),
    )


def encoder_threads(height: int, width: int, wanted: int = 0) -> int:
    """How many an encoder gets: what is asked for, at most the machine's and `MOST_THREADS`.

    Args:
        height: of a frame, in pixels.
        width: likewise.
        wanted: 0 for as many as are sensible.
    """
    frame_bytes = 3 * height * width  # 12 bits a pixel, in a depth of up to 16
    room = _THREADS_BYTES // (_KEPT_BY_THREAD * frame_bytes)
    return max(1, min(wanted or MOST_THREADS, MOST_THREADS, usable_threads(), max(2, room)))


def encoder_options(name: str, quality: str, threads: int, preset: str) -> dict[str, str]:
    """The private options of an encoder; `preset` is of H.264."""
    crf = {"crf": str(_CRF[name][QUALITIES.index(quality)])} if name in _CRF else {}
    if name == "libx264":
        # `stitchable`: the same headers whatever the pictures, so that pieces can be joined.
        return {**crf, "preset": preset, "x264-params": "stitchable=1"}
    if name == "libx265":
        return {**crf, "preset": "medium", "x265-params": f"pools={threads}:log-level=none"}
    if name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only; it has no option for that
        return {**crf, "preset": "8", "svtav1-params": f"lp={min(threads, _SVT_LEVEL)}"}
    return {}


def bit_rate(quality: str, height: int, width: int, rate: float) -> int:
    """Bits a second, for encoders without a quality of their own."""
    share = _BITS_A_PIXEL[QUALITIES.index(quality)]
    return max(2_000_000, round(width * height * rate * share))
