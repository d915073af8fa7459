"""What a video is, as far as plans and users care: its frames, size, rate, depth and sound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from webui.core.text import Text
from webui.video.colours import Colours, colours_of
from webui.video.opening import check_size, opened, refused
from webui.video.pictures import is_picture, is_transparent, scan_picture
from webui.video.timeline import Timeline, scan


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of one input.

    Sizes are as shown, a turned phone's rotation applied; of non-square pixels, as stored.
    """

    frames: int
    """That are there, counted."""
    height: int
    width: int
    rate: Fraction
    """Frames a second, on average."""
    variable: bool
    """Whether frames stay for different times."""
    bits: int
    """8 or 10 a channel; what is stored with more counts as 10."""
    audio: int
    """Streams of sound."""
    codec: str
    duration_s: float
    aspect: Fraction
    """Width over height of a pixel."""
    colours: Colours
    missing: int
    """Frames that the file promises, and that are not there."""
    transparent: bool = False
    """Whether one can see through parts of the picture, or of an animation's first."""

    @property
    def warning(self) -> Text | None:
        """What the user should know of an input that is not used as it is."""
        if self.transparent and self.frames > 1:
            return Text(
                "What is transparent becomes black: the result is a video, which has no "
                "transparency.",
                "透明部分会变为黑色：结果是视频，不支持透明。",
            )
        if not self.missing:
            return None
        whole = self.frames + self.missing
        return Text(
            f"The file is cut off: {self.frames} of its about {whole} frames are there and used.",
            f"文件被截断：约 {whole} 帧中有 {self.frames} 帧可用，将使用这些帧。",
        )

    def to_json(self) -> dict[str, Any]:
        warning = self.warning
        return {
            "frames": self.frames,
            "height": self.height,
            "width": self.width,
            "rate": str(self.rate),
            "variable": self.variable,
            "bits": self.bits,
            "audio": self.audio,
            "codec": self.codec,
            "duration_s": self.duration_s,
            "aspect": str(self.aspect),
            "colours": self.colours.to_json(),
            "missing": self.missing,
            "transparent": self.transparent,
            "warning": warning.to_json() if warning else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Facts:
        data = {"transparent": False, **data}  # a project of an earlier version
        given = {name: data[name] for name in cls.__dataclass_fields__}
        given["rate"], given["aspect"] = Fraction(data["rate"]), Fraction(data["aspect"])
        given["colours"] = Colours.from_json(data["colours"])
        return cls(**given)


def examine(path: Path) -> tuple[Facts, Timeline]:
    """Reads all packets of a video, and decodes its first frames.

    Raises:
        BadInput: of the field `input`: not there, no video, no frames, broken, or too large.
    """
    if not path.is_file():
        raise refused("it is not there", "文件不存在")
    if is_picture(path):
        return _examine_picture(path)
    found = scan(path)
    first, timeline = found.first, found.timeline
    check_size(first.height, first.width)
    with opened(path) as (container, stream):
        codec = stream.codec_context.codec.canonical_name
        aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
        audio = len([one for one in container.streams.audio if one.codec_context is not None])
    height, width = first.height, first.width
    if round(first.rotation / 90) % 2:
        height, width, aspect = width, height, Fraction(1) / aspect
    missing = found.promised - found.packets
    facts = Facts(
        frames=len(timeline),
        height=height,
        width=width,
        rate=timeline.rate,
        variable=timeline.variable,
        bits=10 if max(part.bits for part in first.format.components) > 8 else 8,
        audio=audio,
        codec=codec,
        duration_s=timeline.duration_s,
        aspect=aspect,
        colours=colours_of(first),
        # A duration in words is rounded, and ends with the sound in some files.
        missing=missing if missing > max(1, found.promised // 50) else 0,
    )
    return facts, timeline


def _examine_picture(path: Path) -> tuple[Facts, Timeline]:
    timeline, first, kind = scan_picture(path)
    facts = Facts(
        frames=len(timeline),
        height=first.height,
        width=first.width,
        rate=timeline.rate,
        variable=timeline.variable,
        bits=8,
        audio=0,
        codec=kind,
        duration_s=timeline.duration_s,
        aspect=Fraction(1),
        colours=Colours(),
        missing=0,
        transparent=is_transparent(first),
    )
    return facts, timeline
