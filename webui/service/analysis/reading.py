"""What a profile shows: the bottleneck in words, who holds the peak, and two rows compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.core.errors import BadInput, StudioError
from webui.core.phases import title_of
from webui.core.text import Text
from webui.core.units import format_bytes
from webui.service.analysis.comparing import Comparison, compare
from webui.service.analysis.events import MemoryProfile, read_events, wrong_file
from webui.service.analysis.holders import Peak
from webui.service.analysis.snapshot import read_snapshot
from webui.service.analysis.trace import is_trace, read_trace
from webui.storage.profiles import EVENTS, SNAPSHOT, TRACE

_HELPS = {
    "denoise": Text(
        "More ffn_chunks, a smaller picture or fewer frames make this smaller.",
        "增大 ffn_chunks、缩小画面或减少帧数可以降低它。",
    ),
    "decode": Text(
        "VAE tiling, a VAE in bf16 or smaller decode chunks make this smaller.",
        "VAE 分块、bf16 的 VAE 或更小的解码分段可以降低它。",
    ),
}
_WEIGHTS_HELP = Text(
    "Most of it is weights: offload, a lower precision or quantisation make this smaller.",
    "其中大部分是权重：权重卸载、更低精度或量化可以降低它。",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What one row, or one file, shows."""

    name: str
    memory: MemoryProfile | None = None
    """Of `memory_events.json`."""
    peak: Peak | None = None
    """Of the snapshot, else of the trace."""
    bottleneck: Text
    comparison: Comparison | None = None
    problems: tuple[Text, ...] = ()
    """Files of the row that could not be read."""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "bottleneck": self.bottleneck.to_json(),
            "memory": self.memory.to_json() if self.memory else None,
            "peak": self.peak.to_json() if self.peak else None,
            "comparison": self.comparison.to_json() if self.comparison else None,
            "problems": [problem.to_json() for problem in self.problems],
        }


def read_peak(path: Path) -> Peak:
    """The peak of a trace or a snapshot.

    Raises:
        BadInput: it is neither, or cannot be read.
    """
    if path.suffix in (".pickle", ".pkl"):
        return read_snapshot(path)
    if is_trace(path):
        return read_trace(path)
    raise wrong_file(path, "it is none of a profile's files", "不是性能分析的文件")


def analyse(
    path: Path, against: Path | None = None, read: Callable[[Path], Peak] = read_peak
) -> Analysis:
    """Analyses a row's folder, or one of its files.

    Args:
        path: the folder of a row, `memory_events.json`, a trace or a snapshot.
        against: another one, to compare with.
        read: reads traces and snapshots; `peak_apart` in an app that has others to answer.

    Raises:
        BadInput: there is nothing to analyse, or a file cannot be read.
    """
    found = _one(path, read)
    if against is None:
        return found
    other = _one(against, read)
    if found.memory is None or other.memory is None:
        which = path if found.memory is None else against
        raise wrong_file(
            which, "rows are compared by their memory_events.json", "比较需要 memory_events.json"
        )
    comparison = compare(found.name, found.memory, other.name, other.memory)
    return Analysis(
        name=found.name,
        memory=found.memory,
        peak=found.peak,
        bottleneck=found.bottleneck,
        comparison=comparison,
        problems=found.problems,
    )


def _one(path: Path, read: Callable[[Path], Peak]) -> Analysis:
    if path.is_dir():
        return _folder(path, read)
    if path.name == EVENTS:
        memory = read_events(path)
        return Analysis(name=path.parent.name, memory=memory, bottleneck=bottleneck(memory))
    return _file(path, read(path))


def _file(path: Path, peak: Peak) -> Analysis:
    most = peak.holders[0] if peak.holders else None
    size = format_bytes(peak.total_bytes)
    if most is None:
        words = Text(f"{size} at the peak, held by nothing named.", f"峰值 {size}，来源未知。")
    else:
        share = most.size_bytes / peak.total_bytes if peak.total_bytes else 0.0
        words = Text(
            f"{size} at the peak; {most.line} holds the most, {share:.0%} of it.",
            f"峰值 {size}；其中最多的来自 {most.line}，占 {share:.0%}。",
        )
    return Analysis(name=path.name, peak=peak, bottleneck=words)


def _folder(folder: Path, read: Callable[[Path], Peak]) -> Analysis:
    if not (folder / EVENTS).is_file():
        rows = [path.parent.name for path in sorted(folder.glob(f"*/{EVENTS}"))]
        if rows:
            raise BadInput(
                "",
                Text(
                    f"{folder.name} is a profile of {len(rows)} rows.",
                    f"{folder.name} 是含 {len(rows)} 行的性能分析。",
                ),
                Text(
                    f"Name one of its rows: {', '.join(rows[:12])}.",
                    f"请指定其中一行：{'、'.join(rows[:12])}。",
                ),
            )
        raise wrong_file(folder, "it has no memory_events.json", "其中没有 memory_events.json")
    memory = read_events(folder / EVENTS)
    peak, problems = None, []
    for name in (SNAPSHOT, TRACE):
        if peak is None and (folder / name).is_file():
            try:
                peak = read(folder / name)
            except StudioError as error:  # the events are worth showing all the same
                problems.append(error.message)
    return Analysis(
        name=folder.name,
        memory=memory,
        peak=peak,
        bottleneck=bottleneck(memory),
        problems=tuple(problems),
    )


def bottleneck(memory: MemoryProfile) -> Text:
    """Which phase and stage hold the peak, and of what, in words."""
    weights = sum(memory.weights_at_peak.values())
    total, other = format_bytes(memory.peak_bytes), format_bytes(memory.other_at_peak_bytes)
    phase, stage = title_of(memory.peak_phase), memory.peak_stage
    where = "" if stage == memory.peak_phase else f", {stage}"
    held = ", ".join(
        f"{name} {format_bytes(size)}"
        for name, size in sorted(memory.weights_at_peak.items(), key=lambda item: -item[1])
    )
    if 2 * weights >= memory.peak_bytes:
        help_ = _WEIGHTS_HELP
    else:
        help_ = _HELPS.get(memory.peak_phase.partition("_")[0], Text("", ""))
    return Text(
        f"The peak, {total}, is in {memory.peak_phase}{where}: "
        + (f"weights {format_bytes(weights)} ({held}), " if held else "")
        + f"{other} beside them. {help_.en}".rstrip(),
        f"峰值 {total} 出现在{phase.zh}{where}："
        + (f"权重 {format_bytes(weights)}（{held}），" if held else "")
        + f"其余 {other}。{help_.zh}".rstrip(),
    )
