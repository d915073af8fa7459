"""Who did what of a run that came in pieces: pages of a document, segments of a video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.text import Text

WORTH_TELLING = 0.1
"""Of the work: a share of waiting above this is told to the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """What one worker did. Times overlap with those of the other workers."""

    device: str
    """Its name; empty until the worker has said it."""
    pieces: int
    """Segments that it finished, or pages."""
    units: int
    """Frames that are kept of it, or pages."""
    work_s: float
    """In the phases of the run, as the measurement counts them."""
    load_s: float
    """All else before it was free again: starting the process, loading the model, compiling."""
    lost: int = 0
    """How often its process was lost."""
    lost_s: float = 0.0
    """Spent on what was lost with it."""
    lost_units: int = 0
    """Frames or pages that were made then and had to be made again."""
    reading_s: float = 0.0
    """Of `work_s`: waited for frames that were still being read and enlarged."""
    writing_s: float = 0.0
    """Of `work_s`: waited for the encoder."""

    @property
    def rate(self) -> float | None:
        """Frames or pages a second of work; None where there was none."""
        return self.units / self.work_s if self.units and self.work_s > 0 else None

    def to_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WorkerRecord:
        return cls(**{key: data[key] for key in cls.__slots__ if key in data})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRecord:
    """All workers of a run."""

    unit: str
    """`frames` or `pages`."""
    elapsed_s: float
    """From the start until the last worker was free."""
    joining_s: float
    """Putting the pieces together after that."""
    workers: tuple[WorkerRecord, ...]
    notes: tuple[Text, ...] = ()
    """What the user should know of what was worked on."""
    whole: int = 0
    """Frames or pages of the whole job; 0 where nobody wrote it down."""

    @property
    def units(self) -> int:
        """What all of them made and kept; without what an earlier run had made."""
        return sum(worker.units for worker in self.workers)

    @property
    def in_part(self) -> bool:
        """Whether an earlier run made some of the job, or this one ended early: its time is not
        that of the whole."""
        return self.units < self.whole

    @property
    def busiest_s(self) -> float:
        """Of work, lost work included, of the worker that had most."""
        return max((worker.work_s + worker.lost_s for worker in self.workers), default=0.0)

    @property
    def shared(self) -> bool:
        """Whether the measurement does not tell all: there are several, or one was lost."""
        return len(self.workers) > 1 or any(worker.lost for worker in self.workers)

    @property
    def ready_s(self) -> float:
        """Worker seconds that there were for work: all of the run, without loading."""
        return sum(max(0.0, self.elapsed_s - worker.load_s) for worker in self.workers)

    @property
    def waits(self) -> tuple[Text, ...]:
        """What the models waited for, in words, where that was more than a little."""
        told = []
        work_s = sum(worker.work_s for worker in self.workers)
        for name, (en, zh) in _WAITS.items():
            waited_s = sum(getattr(worker, name) for worker in self.workers)
            if work_s > 0 and waited_s > WORTH_TELLING * work_s:
                share = f"{waited_s / work_s:.0%}"
                told.append(Text(en.format(share=share), zh.format(share=share)))
        return tuple(told)

    def to_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "elapsed_s": self.elapsed_s,
            "joining_s": self.joining_s,
            "workers": [worker.to_json() for worker in self.workers],
            "notes": [note.to_json() for note in self.notes],
            "whole": self.whole,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WorkRecord:
        return cls(
            unit=str(data["unit"]),
            elapsed_s=float(data["elapsed_s"]),
            joining_s=float(data["joining_s"]),
            workers=tuple(map(WorkerRecord.from_json, data["workers"])),
            notes=tuple(map(Text.from_json, data.get("notes", ()))),
            whole=int(data.get("whole", 0)),
        )


_WAITS = {
    "reading_s": (
        "{share} of the time the model waited for frames to be read and enlarged: the processor "
        "was the slower. More processor cores for each GPU would help.",
        "{share} 的时间里，模型在等待读取和放大输入帧：处理器较慢。"
        "为每张 GPU 提供更多处理器核心会有帮助。",
    ),
    "writing_s": (
        "{share} of the time the model waited for the encoder, which was the slower. More "
        "processor cores for each GPU, or a smaller file (quality), would help.",
        "{share} 的时间里，模型在等待编码器：编码较慢。"
        "为每张 GPU 提供更多处理器核心，或选择较小的文件（质量），会有帮助。",
    ),
}
"""What is said of each kind of waiting."""


def linear_share(one: WorkRecord, several: WorkRecord) -> tuple[float, float]:
    """How much of N times one worker's speed N workers reach, over the same video.

    Args:
        one: of a run on one worker.
        several: of a run on N.

    Returns:
        With loading, by the clock; and without, where each worker's time counts from when its
        model is loaded. Joining the pieces, which no worker does, is in neither.

    Raises:
        ValueError: `one` is of several workers, or a run made nothing.
    """
    if len(one.workers) != 1 or not one.units or not several.units:
        raise ValueError("a run on one worker, and one on several, that made all of a video")
    amount = several.units / one.units
    with_loading = amount * one.elapsed_s / (len(several.workers) * several.elapsed_s)
    return with_loading, amount * one.ready_s / several.ready_s
