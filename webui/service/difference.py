"""How far two results are from each other: PSNR and SSIM of every frame, by FFmpeg's own filters.

What is compared is what was saved. Clips are saved with a loss of their own, which both have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from webui.core.errors import BadInput
from webui.core.text import Text

_WHITE = 255.0
_PICTURES = (".png", ".jpg", ".webp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Frame by frame, the first result being the reference."""

    mse: tuple[float, ...]
    """Mean squared error of pixel values from 0 to 255, over all planes."""
    ssim: tuple[float, ...]
    """Structural similarity, 1 for equal frames."""

    @property
    def identical(self) -> bool:
        return not any(self.mse)

    @property
    def psnr(self) -> tuple[float | None, ...]:
        """Of each frame in dB; None where the frames are equal."""
        return tuple(map(_psnr, self.mse))

    @property
    def psnr_mean(self) -> float | None:
        """By the mean squared error of all frames, as FFmpeg's `average`; None for equal ones."""
        return _psnr(sum(self.mse) / len(self.mse))

    @property
    def ssim_mean(self) -> float:
        return sum(self.ssim) / len(self.ssim)

    @property
    def text(self) -> Text:
        """In one line."""
        if self.identical:
            return Text("identical, pixel for pixel", "逐像素完全相同")
        figures = f"PSNR {self.psnr_mean:.1f} dB, SSIM {self.ssim_mean:.4f}"
        worst = f"{min(self.ssim):.4f}"
        if len(self.ssim) == 1:
            return Text(figures, figures)
        return Text(f"{figures} (worst frame {worst})", f"{figures}（最差帧 {worst}）")

    def to_json(self) -> dict[str, Any]:
        return {
            "identical": self.identical,
            "psnr_db": self.psnr_mean,
            "ssim": self.ssim_mean,
            "psnr_db_by_frame": list(self.psnr),
            "ssim_by_frame": list(self.ssim),
        }


def compare_files(reference: Path, other: Path) -> Difference:
    """Two clips, or two pictures.

    Raises:
        BadInput: they cannot be compared: another size, another number of frames, not a clip.
    """
    import av

    try:
        with av.open(str(reference)) as first, av.open(str(other)) as second:
            sizes = [_size(container) for container in (first, second)]
            if sizes[0] != sizes[1]:
                shown = " / ".join(f"{width}x{height}" for width, height in sizes)
                raise BadInput(
                    "",
                    Text(
                        f"Pictures of different sizes cannot be compared ({shown}).",
                        f"尺寸不同的画面无法比较（{shown}）。",
                    ),
                )
            graph = _Graph(first.streams.video[0], reference.suffix in _PICTURES)
            mse, ssim = [], []
            frames = [container.decode(video=0) for container in (first, second)]
            for one, two in _pairs(*frames):
                figures = graph.compare(one, two)
                mse.append(float(figures["lavfi.psnr.mse_avg"]))
                ssim.append(float(figures["lavfi.ssim.All"]))
    except (OSError, ValueError, IndexError) as error:  # av's errors are among them
        raise BadInput(
            "", Text("One of the results cannot be read.", "其中一个结果无法读取。")
        ) from error
    return Difference(mse=tuple(mse), ssim=tuple(ssim))


class _Graph:
    """FFmpeg's psnr and ssim one after the other; each frame's metadata has the figures."""

    def __init__(self, stream: Any, picture: bool) -> None:
        import av

        self._time_base = Fraction(1, 25)
        # Pictures keep what they are; clips are compared as they are stored.
        self._format = "gbrp" if picture else stream.format.name
        self._count = 0
        graph = self._graph = av.filter.Graph()
        shape = {
            "width": stream.width,
            "height": stream.height,
            "format": self._format,
            "time_base": self._time_base,
        }
        self._inputs = [graph.add_buffer(**shape) for _ in range(2)]
        splits = [graph.add("split") for _ in range(2)]
        psnr, ssim = graph.add("psnr"), graph.add("ssim")
        self._outputs = [graph.add("buffersink") for _ in range(2)]
        for place, (source, split) in enumerate(zip(self._inputs, splits, strict=True)):
            source.link_to(split)
            split.link_to(psnr, 0, place)
            split.link_to(ssim, 1, place)
        for measure, sink in zip((psnr, ssim), self._outputs, strict=True):
            measure.link_to(sink)
        graph.configure()

    def compare(self, one: Any, two: Any) -> dict[str, str]:
        """The figures of one pair of frames."""
        for source, frame in zip(self._inputs, (two, one), strict=True):  # the reference is second
            made = frame.reformat(format=self._format)
            made.pts, made.time_base = self._count, self._time_base
            source.push(made)
        self._count += 1
        figures: dict[str, str] = {}
        for sink in self._outputs:
            figures |= sink.pull().metadata
        return figures


def _pairs(first: Iterator[Any], second: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    try:
        yield from zip(first, second, strict=True)
    except ValueError as error:
        raise BadInput(
            "",
            Text("Clips of different lengths cannot be compared.", "帧数不同的视频无法比较。"),
        ) from error


def _size(container: Any) -> tuple[int, int]:
    stream = container.streams.video[0]
    if not stream.width:  # it has a picture's name, and nothing of one
        raise ValueError("no picture")
    return stream.width, stream.height


def _psnr(mse: float) -> float | None:
    return 10 * math.log10(_WHITE**2 / mse) if mse else None
