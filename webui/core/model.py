"""A model card: what a model is and where its weights come from. Tasks add what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.setting import SettingValue, Values
from webui.core.text import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One entry of the catalogue: a model with one of its tasks."""

    name: str
    title: str
    task: str
    family: str
    """Which pipeline module runs it, e.g. `wan`."""
    about: Text
    licence: str
    hub: str
    """Repository on the hub; empty for an embedded model."""
    embedded: bool
    """The weights are part of the package."""
    configs: Mapping[str, Mapping[str, Any]]
    """Configuration of each component as its library class takes it: transformer, vae,
    text_encoder, scheduler."""
    download_bytes: int
    """Size of the files that running it needs."""
    settings: tuple[str, ...]
    """The settings that change something for this model."""
    setting_defaults: Mapping[str, SettingValue]
    """What `estimate` takes instead of a setting's own default."""
    setting_values: Values
    """For some settings, those of their values that this model knows."""
