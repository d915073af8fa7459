"""One row of a matrix: what is run, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui.catalogue import find_model
from webui.core.clip import ClipCard
from webui.core.errors import BadInput, StudioError
from webui.core.fields import read_choice, read_text, read_whole, shown
from webui.core.mapping import check_keys
from webui.core.parse import DEFAULT_MODEL, KEYS
from webui.core.phases import PHASES
from webui.core.text import Text
from webui.service.profile.guide import SECTIONS, from_guide
from webui.storage.profiles import folder_name

GUIDE_MODEL = "wan2.1-t2v-1.3b"
"""What the guide is about: the model of its rows that name none."""
ROW_KEYS = ("name", "description", "request", "random_weights", *SECTIONS)
MAX_ACTIVE = 20
_LOGGING = ("profile_memory", "log_interval", "trace_path", "trace", "snapshot", "trace_phase",
            "wait", "warmup", "active")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is recorded of a row."""

    memory: bool = True
    """`memory_events.json`."""
    log_interval: int = 10
    """The inside of every so many steps."""
    trace: bool = False
    """A trace by torch.profiler: large, and slows the run."""
    snapshot: bool = False
    """A CUDA memory snapshot."""
    trace_phase: str = ""
    """Empty for the phase that the plan expects to take the most."""
    wait: int | None = None
    """Steps before the trace; None for the last ones."""
    warmup: int = 1
    active: int = 3
    random_weights: bool = False

    def to_job(self, folder: Path, largest_phase: str) -> dict[str, Any]:
        """What the worker is told.

        Args:
            folder: takes the files.
            largest_phase: of the plan.
        """
        data = {key: getattr(self, key) for key in self.__slots__}
        return {
            **data,
            "folder": str(folder),
            "trace_phase": self.trace_phase or largest_phase,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; with `error` it is not run."""

    name: str
    folder: str
    """The name of its folder within the profile's."""
    description: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)
    """Request keys."""
    options: Options = Options()
    as_written: bool = False
    """What the row leaves open keeps the library's default: it is a configuration, not a wish."""
    notes: tuple[Text, ...] = ()
    error: StudioError | None = None


def read_row(data: Any, number: int, kind: str) -> Row:
    """Checks one row.

    Args:
        data: as the file has it.
        number: from 1, for rows without a name.
        kind: `cuda` or `cpu`, what this machine has.

    Raises:
        BadInput: names the first wrong key.
    """
    row = check_keys(data, where=f"row {number}", optional=(*ROW_KEYS, *KEYS))
    name = read_text(row, "name", "") or f"row-{number}"
    request = {**_mapping(row, "request", KEYS), **{k: row[k] for k in row if k in KEYS}}
    is_guide = any(key in row for key in ("model_config", "optimization"))
    request.setdefault("model", GUIDE_MODEL if is_guide else DEFAULT_MODEL)
    model = find_model(read_text(request, "model", ""), request.get("task"))
    notes: list[Text] = []
    if is_guide:
        changes, said = from_guide(row, request, model, kind)
        request |= changes
        notes += said
    if isinstance(model, ClipCard):
        # Rows are compared, so all start from the same noise.
        request.setdefault("seed", 0)
        if model.needs_prompt and model.examples:
            request.setdefault("prompt", model.examples[0].en)
    logging = _mapping(row, "logging", _LOGGING)
    folder = read_text(logging, "trace_path", "")
    if folder:
        _check_trace_path(folder)
    options = _options(row, logging)
    if not options.memory:
        notes.append(
            Text(
                "profile_memory is off: the row has its receipt, and no memory events.",
                "profile_memory 已关闭：该行只有回执，没有显存事件。",
            )
        )
    return Row(
        name=name,
        folder=folder_name(folder.rstrip("/").rpartition("/")[2] or name),
        description=read_text(row, "description", ""),
        request=request,
        options=options,
        as_written=is_guide,
        notes=tuple(notes),
    )


def _options(row: Mapping[str, Any], logging: Mapping[str, Any]) -> Options:
    phase = logging.get("trace_phase")
    return Options(
        memory=read_flag(logging, "profile_memory", True),
        log_interval=read_whole(logging, "log_interval", Options().log_interval, 1, 10_000),
        trace=read_flag(logging, "trace", bool(logging.get("trace_path"))),
        snapshot=read_flag(logging, "snapshot", False),
        trace_phase="" if phase is None else read_choice(logging, "trace_phase", tuple(PHASES), ""),
        wait=None if logging.get("wait") is None else read_whole(logging, "wait", 0, 0, 10_000),
        warmup=read_whole(logging, "warmup", 1, 0, 100),
        active=read_whole(logging, "active", 3, 1, MAX_ACTIVE),
        random_weights=read_flag(row, "random_weights", False),
    )


def read_flag(given: Mapping[str, Any], key: str, default: bool) -> bool:
    """True or false.

    Raises:
        BadInput: something else.
    """
    value = given.get(key, default)
    if isinstance(value, bool):
        return value
    raise BadInput(
        key,
        Text(f"{key} cannot be {shown(value)}.", f"{key} 不能是 {shown(value)}。"),
        Text("It is true or false.", "可用的值：true、false。"),
    )


def _mapping(row: Mapping[str, Any], key: str, known: tuple[str, ...]) -> dict[str, Any]:
    value = row.get(key)
    return {} if value is None else dict(check_keys(value, where=key, optional=known))


def _check_trace_path(path: str) -> None:
    """It names a folder inside the profile's own; nothing is written elsewhere.

    Raises:
        BadInput: it points out of it.
    """
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "\\", "~")) or ".." in parts or ":" in path:
        raise BadInput(
            "logging.trace_path",
            Text(
                f"'{shown(path)}' points out of the profile's folder.",
                f"“{shown(path)}”指向性能分析文件夹之外。",
            ),
            Text(
                "Give the name of a folder: it is made inside the profile's own.",
                "请给出文件夹名称：它会建在性能分析自己的文件夹中。",
            ),
        )
