"""What the estimator knows of each model family: one entry a family, nothing else differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from webui.core.card import Card
from webui.core.clip import ClipCard, ClipRequest
from webui.core.model import ModelCard
from webui.core.request import Request
from webui.core.settings import Settings
from webui.estimator import (
    language,
    language_seconds,
    qwen_vl,
    qwen_vl_seconds,
    svd,
    svd_seconds,
    wan,
    wan_seconds,
)
from webui.estimator.events import PhaseEvents
from webui.estimator.rules import Rules


class Memory(Protocol):
    """The events of each phase of one request."""

    def phase_names(self) -> tuple[str, ...]: ...

    def phase(self, name: str) -> PhaseEvents: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How a family's phases are put together."""

    memory: Callable[[Any, Any, Settings, Rules], Memory]
    """Card and request are of the family's kind."""
    seconds: Callable[[str, Any, int, Card, Card], float]
    """Phase, memory, the request's repeats, card, host processor -> seconds."""
    relevant: Callable[
        [str, Any, Any, Settings, Rules],
        tuple[Request, Settings],
    ]
    """Request and settings, with a fixed value for what the phase does not depend on."""
    precision_of: Mapping[str, str]
    """For each part that has a template, the setting of its number format."""
    encoder: tuple[str, str] | None = None
    """The part that encodes the prompt or the picture, and the setting of its place."""
    main: str
    """The part whose template names the library versions."""


def _relevant_wan(
    phase: str, model: ClipCard, request: ClipRequest, settings: Settings, rules: Rules
) -> tuple[ClipRequest, Settings]:
    if phase == "encode":
        side = model.min_side
        request = request.with_changes(frames=1, height=side, width=side, solver="unipc")
    elif phase == "decode":
        request = request.with_changes(guidance=1.0, solver="unipc")
    return request, wan.relevant_settings(phase, settings, rules)


_FAMILIES = {
    "wan": Family(
        memory=wan.WanMemory,
        seconds=wan_seconds.phase_seconds,
        relevant=_relevant_wan,
        precision_of={"text": "precision", "transformer": "precision", "vae": "vae_precision"},
        encoder=("text", "text_encoder"),
        main="transformer",
    ),
    "svd": Family(
        memory=svd.SvdMemory,
        seconds=svd_seconds.phase_seconds,
        relevant=svd.relevant,
        precision_of={"image": "precision", "unet": "precision", "vae": "vae_precision"},
        encoder=("image", "image_encoder"),
        main="unet",
    ),
    "qwen_vl": Family(
        memory=qwen_vl.PagesMemory,
        seconds=qwen_vl_seconds.phase_seconds,
        relevant=qwen_vl.relevant,
        precision_of={"model": "precision"},
        main="model",
    ),
    "language": Family(
        memory=language.TextMemory,
        seconds=language_seconds.phase_seconds,
        relevant=language.relevant,
        precision_of={"model": "precision"},
        main="model",
    ),
}


def find_family(model: ModelCard) -> Family:
    """The entry of a model's family.

    Raises:
        KeyError: the catalogue names a family that is not there.
    """
    return _FAMILIES[model.family]
