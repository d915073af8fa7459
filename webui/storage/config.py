"""The owner's configuration: local model folders, the hub's cache, limits, the language.

`studio.yaml` in the home folder, or the file that STUDIO_CONFIG names:

    models:
      wan2.1-t2v-1.3b: /data/Wan2.1-T2V-1.3B-Diffusers
    hub_cache: /data/hub
    language: zh
    calibration: false
    metrics: false
    memory: {warn_threshold: 0.9, retries_after_out_of_memory: 1}
    limits: {max_queued: 20, max_queued_per_user: 3, max_pixel_frames: 35000000}
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from webui.core.errors import BadInput
from webui.core.mapping import check_keys
from webui.core.text import LANGUAGES, Text
from webui.storage.yaml_text import MAX_DOCUMENT_BYTES, load_yaml, read_yaml

FILE = "studio.yaml"
VARIABLE = "STUDIO_CONFIG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What users of a public studio may ask for; the owner on loopback is not limited."""

    max_queued: int = 20
    """Waiting jobs of all users together."""
    max_queued_per_user: int = 3
    max_pixel_frames: int = 832 * 480 * 81
    """Width x height x frames of one job."""
    max_steps: int = 60
    max_prompt_characters: int = 2000
    max_pages: int = 200
    """Of one document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPolicy:
    """How the studio treats the card's memory."""

    auto_optimize: bool = True
    """What a request leaves open is chosen for it; else it is `estimate`'s default."""
    force_fp16_threshold: float = 0.0
    """Cards with less memory (GiB) never run in fp32. 0: what a request names holds on every card;
    the guides use 16."""
    enable_monitoring: bool = True
    """Keep a history of the devices' readings."""
    warn_threshold: float = 0.85
    """Share of a card's memory in use from which the dashboard warns."""
    clear_cache_after_generation: bool = True
    """The worker gives its allocator's cache back after each job."""
    retries_after_out_of_memory: int = 2
    """How often a job that ran out of memory is planned anew and run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudioConfig:
    """The owner's choices; everything has a default."""

    models: Mapping[str, Path] = field(default_factory=dict)
    """Folders with weights by model name; they come before the hub's cache."""
    given_models: Mapping[str, Path] = field(default_factory=dict)
    """Those of them that the command line named: they stay when the file changes."""
    hub_cache: Path | None = None
    """Where downloads go; None for the hub's own place."""
    language: str | None = None
    """`en` or `zh`; None follows the browser."""
    limits: Limits = field(default_factory=Limits)
    memory: MemoryPolicy = field(default_factory=MemoryPolicy)
    metrics: bool = False
    """Serve `/metrics` in Prometheus' format."""
    calibration: bool = True
    """Correct estimates by what receipts of this machine showed."""

    def with_models(self, folders: Mapping[str, Path]) -> StudioConfig:
        """With more folders, from the command line; they win over the file's."""
        return replace(
            self,
            models={**self.models, **folders},
            given_models={**self.given_models, **folders},
        )


def load_config(
    home: Path,
    *,
    model_names: Collection[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> StudioConfig:
    """Reads the configuration; without a file, everything is as by default.

    Args:
        home: the studio's home folder.
        model_names: names of the catalogue, to find misspelt ones; None does not check.
        environment: for STUDIO_CONFIG; the process's when left out.

    Raises:
        BadInput: an unknown key (with the nearest one) or a wrong value; names the file.
    """
    path, named = config_path(home, environment)
    try:
        text = load_yaml(path, limit_bytes=MAX_DOCUMENT_BYTES)
    except FileNotFoundError:
        if not named:
            return StudioConfig()
        raise BadInput(
            VARIABLE, Text(f"{path} is not there.", f"找不到 {path}。"), Text(*_unset())
        ) from None
    except OSError as error:
        raise _wrong(path, "", f"it cannot be read: {error}", f"无法读取：{error}") from None
    data = read_yaml(text, path.name, MAX_DOCUMENT_BYTES).data
    return parse_config(data, path, model_names)


def config_path(home: Path, environment: Mapping[str, str] | None = None) -> tuple[Path, bool]:
    """Where the configuration is, and whether STUDIO_CONFIG names it."""
    named = (os.environ if environment is None else environment).get(VARIABLE, "")
    return (Path(named).expanduser(), True) if named else (home / FILE, False)


def parse_config(data: Any, path: Path, model_names: Collection[str] | None = None) -> StudioConfig:
    """The configuration that a file's data says.

    Args:
        data: what the YAML holds; None is an empty file.
        path: of the file; its folders are relative to it.
        model_names: as for `load_config`.

    Raises:
        BadInput: an unknown key (with the nearest one) or a wrong value; names the file.
    """
    return _parse({} if data is None else data, path, model_names)


def _parse(data: Any, path: Path, model_names: Collection[str] | None) -> StudioConfig:
    names = [item.name for item in fields(StudioConfig) if item.name != "given_models"]
    given = check_keys(data, where=path.name, optional=names)
    models = given.get("models") or {}
    check_keys(
        models,
        where=f"{path.name}, models",
        optional=list(models)
        if model_names is None and isinstance(models, Mapping)
        else (list(model_names or ())),
    )
    language = given.get("language")
    if language is not None and language not in LANGUAGES:
        choices = ", ".join(LANGUAGES)
        raise _wrong(path, "language", f"it is one of {choices}", f"可用的值：{choices}")
    cache = given.get("hub_cache")
    return StudioConfig(
        models={
            str(name): _folder(folder, path, f"models.{name}") for name, folder in models.items()
        },
        hub_cache=None if cache is None else _folder(cache, path, "hub_cache"),
        language=language,
        limits=_limits(given.get("limits") or {}, path),
        memory=_memory(given.get("memory") or {}, path),
        metrics=_flag(given.get("metrics", False), path, "metrics"),
        calibration=_flag(given.get("calibration", True), path, "calibration"),
    )


def _limits(data: Any, path: Path) -> Limits:
    names = [item.name for item in fields(Limits)]
    given = check_keys(data, where=f"{path.name}, limits", optional=names)
    for name, value in given.items():
        if type(value) is not int or value < 1:
            raise _wrong(
                path, f"limits.{name}", "it is a whole number from 1", "应当是不小于 1 的整数"
            )
    return Limits(**given)


_MEMORY_RANGES: Mapping[str, tuple[float, float]] = {
    "force_fp16_threshold": (0, 1024),
    "warn_threshold": (0.1, 1),
    "retries_after_out_of_memory": (0, 8),
}
"""Least and most of each figure."""


def _memory(data: Any, path: Path) -> MemoryPolicy:
    defaults = {item.name: getattr(MemoryPolicy(), item.name) for item in fields(MemoryPolicy)}
    given = check_keys(data, where=f"{path.name}, memory", optional=list(defaults))
    read: dict[str, Any] = {}
    for name, value in given.items():
        where = f"memory.{name}"
        if isinstance(defaults[name], bool):
            read[name] = _flag(value, path, where)
            continue
        low, high = _MEMORY_RANGES[name]
        kinds = (int,) if isinstance(defaults[name], int) else (int, float)
        if type(value) not in kinds or not low <= value <= high:
            raise _wrong(
                path, where, f"it is a number from {low} to {high}", f"应当是 {low} 到 {high} 的数"
            )
        read[name] = value
    return MemoryPolicy(**read)


def _flag(value: Any, path: Path, field_name: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(path, field_name, "it is true or false", "可用的值：true、false")
    return value


def _folder(value: Any, path: Path, field_name: str) -> Path:
    """A folder, relative to the configuration file; whether it is there is seen when it is used."""
    if not isinstance(value, str) or not value.strip():
        raise _wrong(path, field_name, "it is the path of a folder", "应当是文件夹的路径")
    return (path.parent / Path(value).expanduser()).absolute()


def _wrong(path: Path, field_name: str, en: str, zh: str) -> BadInput:
    shown = f"{path.name}: {field_name}" if field_name else path.name
    return BadInput(field_name, Text(f"{shown} is wrong: {en}.", f"{shown} 有误：{zh}。"))


def _unset() -> tuple[str, str]:
    return (
        f"Correct {VARIABLE}, or unset it to use {FILE} of the home folder.",
        f"请修改 {VARIABLE}，或取消该变量以使用主目录中的 {FILE}。",
    )
