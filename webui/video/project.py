"""What all workers of one video share: its frames, its segments, and how results are written."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from webui.core.upscale import SEGMENT_FRAMES
from webui.video.facts import Facts
from webui.video.pictures import alpha_of
from webui.video.segments import OVERLAP, Segment, split
from webui.video.timeline import Timeline
from webui.video.writing import Encoding

FOLDER = "video"
"""Within the run's folder."""
_PROJECT, _TIMELINE = "project.json", "timeline.npz"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Project:
    """One video on its way, kept in a folder so that it can go on after anything."""

    folder: Path
    source: Path
    facts: Facts
    timeline: Timeline
    segments: tuple[Segment, ...]
    encoding: Encoding

    @classmethod
    def start(
        cls,
        folder: Path,
        source: Path,
        facts: Facts,
        timeline: Timeline,
        *,
        scale: int,
        quality: str = "high",
        segment_frames: int = SEGMENT_FRAMES,
        overlap: int = OVERLAP,
        gpus: int = 1,
    ) -> Project:
        """A new project, or the one that the folder holds: what is finished fits only its segments.

        Args:
            folder: of this video alone; made if need be.
            source: the input.
            facts: of it.
            timeline: of it.
            scale: how many times larger the result is.
            quality: of the result, one of `upscale.QUALITIES`.
            segment_frames: see `split`.
            overlap: see `split`.
            gpus: see `split`.

        Raises:
            MissingDependency: there is no encoder.
            OSError: the folder cannot be written.
        """
        if (folder / _PROJECT).is_file():
            return cls.load(folder)
        project = cls(
            folder=folder,
            source=source.absolute(),
            facts=facts,
            timeline=timeline,
            segments=split(facts.frames, segment_frames, overlap, gpus),
            encoding=Encoding(
                height=facts.height * scale,
                width=facts.width * scale,
                rate=facts.rate,
                time_base=timeline.time_base,
                bits=facts.bits,
                quality=quality,
                aspect=facts.aspect,
                colours=facts.colours,
            ),
        )
        folder.mkdir(parents=True, exist_ok=True)
        timeline.save(folder / _TIMELINE)
        write_whole(folder / _PROJECT, project._text())
        return project

    @classmethod
    def load(cls, folder: Path) -> Project:
        """The one that a folder holds.

        Raises:
            OSError, ValueError, KeyError: it holds none.
        """
        data = json.loads((folder / _PROJECT).read_text(encoding="utf-8"))
        return cls(
            folder=folder,
            source=folder.absolute().parent / data["source"],
            facts=Facts.from_json(data["facts"]),
            timeline=Timeline.load(folder / _TIMELINE),
            segments=tuple(map(Segment.from_json, data["segments"])),
            encoding=Encoding.from_json(data["encoding"]),
        )

    @property
    def frames(self) -> int:
        return len(self.timeline)

    @property
    def is_picture(self) -> bool:
        """Whether the result is a picture, since there is one frame."""
        return self.frames == 1

    def alpha(self) -> Image.Image | None:
        """How opaque the input's pixels are (mode L), where the result has that too; None where
        nothing of it is transparent, or the result is a video.

        Raises:
            OSError: the input cannot be read any more.
        """
        return alpha_of(self.source) if self.is_picture and self.facts.transparent else None

    def _text(self) -> str:
        # By name alone where it lies beside the folder: the studio's home may be moved.
        beside = self.source.parent == self.folder.absolute().parent
        return json.dumps(
            {
                "source": self.source.name if beside else str(self.source),
                "facts": self.facts.to_json(),
                "segments": [segment.to_json() for segment in self.segments],
                "encoding": self.encoding.to_json(),
            },
            ensure_ascii=False,
        )


def write_whole(path: Path, text: str) -> None:
    """Writes a text so that it is there whole or not at all.

    Raises:
        OSError: the disk is full.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
