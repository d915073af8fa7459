"""A request: what the user wants. Parsing checks every key; nothing is changed silently.

The keys that all tasks have are here; those of a task stand in a module of its own, as a class
that adds them and a function that reads them: `clip`, `upscale`, `pages`, `language`, `training`.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from webui.core.settings import Settings

DETECTED = "detected"
MAX_SEED = 2**32 - 1


def this_platform() -> str:
    """`windows` or `linux` (macOS counts as linux: it has no CUDA of its own)."""
    return "windows" if sys.platform == "win32" else "linux"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Workload keys (never searched or changed) and the settings that the user fixed."""

    task: str
    model: str
    seed: int = -1
    """-1: one is drawn when the job is submitted."""
    card: str = DETECTED
    vram_gib: float | None = None
    """What the process may use in all, CUDA context included; overrides the card's memory."""
    platform: str = field(default_factory=this_platform)
    settings: Settings = field(default_factory=dict)

    @property
    def shape(self) -> tuple[Hashable, ...]:
        """The workload keys that memory depends on, beside the model."""
        raise NotImplementedError

    @property
    def repeats(self) -> int:
        """How often the run repeats itself: more takes longer and no more memory."""
        return 1

    @property
    def size_text(self) -> str:
        """The size of the work for people, e.g. `832x480x81`."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """The flat form of the contract; `parse_request` takes it back."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        data["settings"] = dict(self.settings)
        return data

    def with_changes(self, **changes: Any) -> Self:
        if all(getattr(self, name) == value for name, value in changes.items()):
            return self
        return replace(self, **changes)

    def resized(self, **changes: Any) -> Self:
        """With other workload keys, and what was fixed within what they allow: it still parses."""
        return self.with_changes(**changes)


COMMON_KEYS = tuple(item.name for item in fields(Request))


def keys_of(kind: type[Request]) -> tuple[str, ...]:
    """The keys that a kind of request adds to the common ones."""
    return tuple(item.name for item in fields(kind) if item.name not in COMMON_KEYS)


Given = Mapping[str, Any]
"""The keys of a request that were given: those that are None count as left out."""
