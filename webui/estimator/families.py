"""What the estimator knows of each model family: one entry a family, nothing else differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from webui.core.card import Card
from webui.core.model import ModelCard
from webui.core.request import Request
from webui.core.settings import Settings
from webui.core.text import Text
from webui.estimator import (
    flashvsr,
    flashvsr_seconds,
    language,
    language_seconds,
    ocr,
    qwen_vl,
    qwen_vl_seconds,
    qwen_vl_training,
    qwen_vl_training_seconds,
    svd,
    svd_seconds,
    swin2sr,
    swin2sr_seconds,
    wan,
    wan_seconds,
)
from webui.estimator.events import PhaseEvents
from webui.estimator.rules import Rules
from webui.estimator.wan_attention import attention_notes
from webui.estimator.wan_step_cache import cache_notes


class Memory(Protocol):
    """The events of each phase of one request."""

    def phase_names(self) -> tuple[str, ...]: ...

    def phase(self, name: str) -> PhaseEvents: ...


@dataclass(frozen=True, slots=True)
class Component:
    """Where the bytes of one component's weights come from."""

    precision: str
    """The setting of its number format."""
    config: str
    """Its configuration in the model's card."""
    part: str
    """The part that its template is of."""
    place: str | None = None
    """The setting that says where it computes, for what encodes a prompt or a picture."""
    always: str | None = None
    """The number format that its weights have whatever the setting says."""
    only: tuple[str, str] | None = None
    """The setting, and its value, that it is loaded with; None: always."""


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
    components: Mapping[str, Component]
    """What has weights, by the name that the memory gives it; a model may have only some."""
    main: str
    """The part whose template names the library versions; empty where nothing is traced."""
    notes: Callable[[Settings], tuple[Text, ...]] = lambda _: ()
    """What it says about settings that make its figures less sure."""
    least: Callable[[str, Any, int], float] = lambda *_: 1.0
    """Phase, memory, the request's repeats -> the share of its seconds that it takes at least."""
    host: Callable[[Any, Any, Settings], int] = lambda *_: 0
    """Card, request, settings -> bytes of host memory that no component's weights are."""
    disk: Callable[[Any, Any, Settings], int] = lambda *_: 0
    """Card, request, settings -> bytes of the outputs' disk while it runs."""
    starts: bool = True
    """A phase pays for its start: not where what is measured comes after a warm-up."""


_FAMILIES = {
    "wan": Family(
        memory=wan.WanMemory,
        seconds=wan_seconds.phase_seconds,
        relevant=wan.relevant,
        components={
            "text": Component("precision", "text_encoder", "text", "text_encoder"),
            "image": Component("precision", "image_encoder", "image", "image_encoder", "fp32"),
            "transformer": Component("precision", "transformer", "transformer"),
            "transformer_2": Component("precision", "transformer_2", "transformer"),
            "vae": Component("vae_precision", "vae", "vae"),
        },
        main="transformer",
        notes=lambda settings: (*cache_notes(settings), *attention_notes(settings)),
        least=wan_seconds.least_of,
    ),
    "svd": Family(
        memory=svd.SvdMemory,
        seconds=svd_seconds.phase_seconds,
        relevant=svd.relevant,
        components={
            "image_encoder": Component("precision", "image_encoder", "image", "image_encoder"),
            "unet": Component("precision", "unet", "unet"),
            "vae": Component("vae_precision", "vae", "vae"),
        },
        main="unet",
    ),
    "flashvsr": Family(
        memory=flashvsr.FlashVsrMemory,
        seconds=flashvsr_seconds.phase_seconds,
        relevant=flashvsr.relevant,
        components={
            "projection": Component("precision", "projection", "projection"),
            "transformer": Component("precision", "transformer", "streaming"),
            "decoder": Component("precision", "decoder", "decoder", only=("decoder", "tiny")),
            "vae": Component("precision", "vae", "vae", only=("decoder", "full")),
        },
        main="streaming",
        host=flashvsr.host_bytes,
        disk=flashvsr.disk_bytes,
    ),
    "swin2sr": Family(
        memory=swin2sr.Swin2srMemory,
        seconds=swin2sr_seconds.phase_seconds,
        relevant=swin2sr.relevant,
        components={name: Component("precision", name, name) for name in ("x2", "x4")},
        main="x2",
        host=swin2sr.host_bytes,
    ),
    "qwen_vl": Family(
        memory=qwen_vl.PagesMemory,
        seconds=qwen_vl_seconds.phase_seconds,
        relevant=qwen_vl.relevant,
        components={"model": Component("precision", "model", "model")},
        main="model",
    ),
    "ocr": Family(
        memory=ocr.ScanMemory,
        seconds=ocr.phase_seconds,
        relevant=ocr.relevant,
        components={},
        main="",
        notes=ocr.notes,
        host=ocr.host_bytes,
        starts=False,
    ),
    "language": Family(
        memory=language.TextMemory,
        seconds=language_seconds.phase_seconds,
        relevant=language.relevant,
        components={"model": Component("precision", "model", "model")},
        main="model",
    ),
    "qwen_vl_training": Family(
        memory=qwen_vl_training.TrainingMemory,
        seconds=qwen_vl_training_seconds.phase_seconds,
        relevant=qwen_vl_training.relevant,
        components={"model": Component("precision", "model", "model")},
        main="model",
        starts=False,
    ),
}


def find_family(model: ModelCard) -> Family:
    """The entry of a model's family.

    Raises:
        KeyError: the catalogue names a family that is not there.
    """
    return _FAMILIES[model.family]


def components_of(model: ModelCard) -> dict[str, Component]:
    """The components of a model that have weights."""
    components = find_family(model).components
    return {name: part for name, part in components.items() if part.config in model.configs}
