"""A model card: what a model is, what it takes, and where its weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.text import Text

OPTIONAL_KEYS = ("prompt", "negative_prompt", "flow_shift", "solver", "image")
"""Workload keys that mean nothing to some models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateDefaults:
    """The authors' values for what a request leaves out."""

    frames: int
    height: int
    width: int
    steps: int
    guidance: float
    flow_shift: float
    solver: str
    fps: int
    negative_prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One entry of the catalogue."""

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
    defaults: GenerateDefaults
    sizes: tuple[tuple[int, int], ...]
    """The authors' sizes, (width, height) in pixels."""
    size_multiple: int
    """Height and width are multiples of this, in pixels."""
    frame_step: int
    """Frames are `frame_step * k + 1`."""
    max_frames: int
    max_side: int
    min_side: int
    max_sequence_length: int
    """Text tokens that the transformer is given."""
    settings: tuple[str, ...]
    """The settings that change something for this model."""
    setting_defaults: Mapping[str, str | int | bool]
    """What `estimate` takes instead of a setting's own default."""
    workload: tuple[str, ...]
    """Of the workload keys that not every model takes (`OPTIONAL_KEYS`), those that it does."""
    examples: tuple[Text, ...]
    """Example prompts."""
    preview_factors: tuple[tuple[float, float, float], ...]
    """Linear map from a normalised latent's channels to RGB in -1..1 (C x 3)."""
    preview_bias: tuple[float, float, float]

    @property
    def needs_image(self) -> bool:
        """A run starts from a picture."""
        return "image" in self.workload

    @property
    def needs_prompt(self) -> bool:
        return "prompt" in self.workload

    def snap_frames(self, frames: float) -> int:
        """The nearest number of frames that the model takes."""
        steps = round((frames - 1) / self.frame_step)
        return max(0, min(steps, (self.max_frames - 1) // self.frame_step)) * self.frame_step + 1

    def snap_side(self, side_px: float) -> int:
        """The nearest side that the model takes, in pixels."""
        side = round(side_px / self.size_multiple) * self.size_multiple
        return max(self.min_side, min(side, self.max_side))
